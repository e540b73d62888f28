# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts' tasks are the same one, although their bytes differ: by the time stamp of a module's payload, and by the random key of become.

Those two are normalised, and nothing else. What is the same then may share one SendCommand. No I/O and no clock.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field

from ..runner.warm.payload import Recipes, split

_KEY = re.compile(r"BECOME-SUCCESS-([a-z]{32})(?![a-z])")
_COMMON = "fleetssmrunscommandsforeveryhost"
"""Stands for each host's own key, which is of 32 letters, too."""


@dataclass(frozen=True)
class Payload:
    """A module as it is sent to the interpreter's input: all but the arguments is code, the same in each task."""

    head: bytes
    params: bytes = field(repr=False)
    tail: bytes


@dataclass(frozen=True)
class Common:
    """A command without what is random in it."""

    command: str
    own_key: str | None
    payload: Payload | None
    """`None`: the input is not such a module."""

    def own_output(self, stdout: bytes) -> bytes:
        """With the line by which this host's become plugin knows its success; it is the first one that such a command prints."""
        if self.own_key is None:
            return stdout
        return stdout.replace(f"BECOME-SUCCESS-{_COMMON}".encode(), f"BECOME-SUCCESS-{self.own_key}".encode(), 1)


@dataclass
class Commons:
    """Finds them; remembers one head and tail for each module, whose time stamp then is that of the first task with it."""

    limit: int = 64
    recipes: Recipes = field(default_factory=Recipes)
    _frames: OrderedDict[bytes, tuple[bytes, bytes]] = field(default_factory=OrderedDict)

    def of(self, command: str, payload: bytes) -> Common:
        """Of a command line and the input that is known from the beginning."""
        keys = set(_KEY.findall(command))
        own = keys.pop() if len(keys) == 1 else None
        common = command.replace(own, _COMMON) if own is not None else command
        return Common(common, own, self._module(command, payload) if payload else None)

    def _module(self, command: str, payload: bytes) -> Payload | None:
        job = split(command, payload, self.recipes)
        if job is None:
            return None
        text = payload.decode()
        start, end = job.params_at
        frame = self._frames.get(job.recipe.key)
        if frame is None:
            frame = self._frames[job.recipe.key] = (text[:start].encode(), text[end:].encode())
            if len(self._frames) > self.limit:
                self._frames.popitem(last=False)
        self._frames.move_to_end(job.recipe.key)
        return Payload(frame[0], job.params.encode(), frame[1])


def digest(*parts: bytes) -> bytes:
    """Equal for equal parts alone."""
    seen = hashlib.sha256()
    for part in parts:
        seen.update(b"%d:" % len(part))
        seen.update(part)
    return seen.digest()
