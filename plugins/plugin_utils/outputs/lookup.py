# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When to look for an output in S3, and when to stop. No I/O, and no clock but the times it is given (seconds, monotonic)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .faults import Fault, Kind
from .results import node_status
from .s3_address import S3Address, parse_address

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
BUSY_PATIENCE = 60.0
"""Seconds for which faults of the moment are tried again, beyond botocore's own tries."""


NOT_ENDED = "The command had not ended when it was last seen."
NO_BUCKET = "the output is cut, and the task has no 's3_bucket' in which all of it would be."


class Expectation(Enum):
    """What a node's result says about an object."""

    SURE = 1  #: there was output, so there is an object
    MAYBE = 2  #: the result does not say; an empty stream has no object
    OPEN = 3  #: the command had not ended: an object may come at any time


@dataclass
class Part:
    """What one step wrote to a stream: an object in S3, and how far it has come."""

    address: S3Address
    expectation: Expectation = Expectation.MAYBE
    done: bool = False
    length: int | None = None  #: bytes, once it is whole
    fault: Fault | None = None
    _first: float | None = field(default=None, repr=False)
    _pause: float = field(default=FIRST_PAUSE, repr=False)

    @property
    def was_late(self) -> bool:
        """Whether it was looked for in vain before it came."""
        return self._first is not None

    def came(self, length: int) -> None:
        """It is on the disk."""
        self.done, self.length, self.fault = True, length, None

    def gave_up(self, fault: Fault) -> None:
        """It will not be had."""
        self.done, self.fault = True, fault

    def refused(self, fault: Fault, now: float, *, patience: float) -> float | None:
        """A look was in vain: when to look again, or `None` if that was the last one.

        :param patience: seconds for an object that is not there yet.
        """
        if self._first is None:
            self._first = now
        if fault.kind is Kind.BUSY:
            patience = BUSY_PATIENCE
        elif fault.kind is not Kind.ABSENT:
            patience = 0.0
        last = self._first + patience
        if now >= last:
            if fault.kind is not Kind.ABSENT or self.expectation is Expectation.SURE:
                self.gave_up(fault)
            elif self.expectation is Expectation.OPEN:
                self.gave_up(Fault(fault.kind, f"{fault.text} {NOT_ENDED}"))
            else:
                self.came(0)
            return None
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return min(now + pause, last)


@dataclass
class Stream:
    """One output of one node: that of its steps, one after another."""

    name: str  #: stdout, stderr
    parts: list[Part]
    text: bytes | None = None  #: what the result itself holds
    fault: Fault | None = None
    length: int | None = None  #: bytes, once it is whole


def streams_of(node: Mapping[str, Any]) -> list[Stream]:
    """The two streams of a node's result.

    Of each step the result says whether a stream is empty, has an object, or that it does not know. An output that the module has put together
    in full is known better. Where nothing is in S3, the text that the result holds is the stream, unless it is cut or the command had not ended.
    """
    cut, unfinished, steps = bool(node.get("output_truncated")), node_status(str(node.get("status"))) == "unfinished", node.get("steps") or ()
    found = []
    for name in ("stdout", "stderr"):
        text, parts = node.get(name), []
        if steps and all(step[f"{name}_empty"] for step in steps):
            text, whole = "", True
        else:
            whole = not cut and not unfinished
        for step in steps:
            address, empty = parse_address(str(step[f"{name}_uri"] or "")), step[f"{name}_empty"]
            if address and not empty and not (whole and text == ""):
                parts.append(Part(address, Expectation.OPEN if unfinished else Expectation.MAYBE if empty is None else Expectation.SURE))
        stream = Stream(name, parts, None if text is None else str(text).encode("utf-8", "replace"))
        if stream.text is not None and not parts:
            if whole:
                stream.length = len(stream.text)
            else:
                stream.fault = Fault(Kind.ABSENT, NO_BUCKET if cut else NOT_ENDED)
        found.append(stream)
    return found
