# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When to look for an output in S3, and when to stop. No I/O, and no clock but the times it is given (seconds, monotonic)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .faults import Fault, Kind
from .s3_address import S3Address, parse_address

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
SIBLING_PATIENCE = 2.0
"""Seconds for which a stream that may be empty is looked for once the other one has come: the agent uploads both together."""

BUSY_PATIENCE = 60.0
"""Seconds for which faults of the moment are tried again, beyond botocore's own tries."""


class Expectation(Enum):
    """What a node's result says about the object of a stream."""

    SURE = 1  #: there was output, so there is an object
    MAYBE = 2  #: the result does not say; an empty stream has no object


@dataclass
class Stream:
    """One output of one node, and how far it has come."""

    name: str  #: stdout, stderr
    address: S3Address | None = None
    expectation: Expectation = Expectation.MAYBE
    text: bytes | None = None  #: what the result itself holds
    cut: bool = False  #: whether that is not all
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

    def refused(self, fault: Fault, now: float, *, patience: float, sibling: bool) -> float | None:
        """A look was in vain: when to look again, or `None` if that was the last one.

        :param patience: seconds for an object that is not there yet.
        :param sibling: whether the node's other stream has come from S3.
        """
        if self._first is None:
            self._first = now
        if fault.kind is Kind.ABSENT:
            if sibling and self.expectation is Expectation.MAYBE:
                patience = min(patience, SIBLING_PATIENCE)
        elif fault.kind is Kind.BUSY:
            patience = BUSY_PATIENCE
        else:
            patience = 0.0
        last = self._first + patience
        if now >= last:
            if fault.kind is Kind.ABSENT and self.expectation is Expectation.MAYBE:
                self.came(0)
            else:
                self.gave_up(fault)
            return None
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return min(now + pause, last)


def streams_of(node: Mapping[str, Any]) -> list[Stream]:
    """The two streams of a node's result.

    A result whose output is not cut tells an empty stream from one that has an object. One that is cut holds the beginning of stdout and
    maybe nothing of stderr, and one without output tells nothing.
    """
    cut = bool(node.get("output_truncated"))
    found = []
    for name in ("stdout", "stderr"):
        text = node.get(name)
        address = parse_address(str(node.get(f"{name}_uri") or ""))
        stream = Stream(name, address, Expectation.SURE if text else Expectation.MAYBE, None if text is None else str(text).encode("utf-8", "replace"), cut)
        if text == "" and not cut:
            stream.address = None
        found.append(stream)
    return found
