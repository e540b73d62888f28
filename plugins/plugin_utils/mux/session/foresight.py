# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers ansible-core's errands before the node does, which saves a round trip for each.

A task that copies a file asks for the user's home, for a temporary directory there, for a mode, and at last for a removal. A node carries
out requests in their order, and once it has made one such directory, it is known what it will say of the next. Should it say something
else, whatever builds on the directory fails with that, and nothing is run. Of a removal that fails nobody hears any more: the next one is
waited for, and fails with it, of which core warns as it would have of the first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ...runner.warm.payload import Errand
from ..work import Action, Exec

_Value = TypeVar("_Value")

_MOST: Final = 1000
"""Directories that are remembered; some are never removed (`ANSIBLE_KEEP_REMOTE_FILES`)."""


@dataclass
class _UnderWay:
    """An errand that the node has not answered."""

    errand: Errand
    foreseen: bool
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)


class Foresight:
    """What one runner's temporary directories are known, or expected, to be."""

    def __init__(self) -> None:
        self.lasting = {"", "root"}
        """Users whose home cannot be changed, as they have processes: the session's own (by name, once that is known), and root."""
        self._homes: dict[str, bytes] = {}
        """Of those: what the node prints."""
        self._parents: dict[str, str] = {}
        """Of a base as it is asked for (`~/.ansible/tmp`): what the node makes of it."""
        self._made: OrderedDict[str, None] = OrderedDict()
        """The paths of those that are there, or will be."""
        self._failures: OrderedDict[str, str] = OrderedDict()
        """By the name of one that should be there: why it is not."""
        self._left: list[str] = []
        """Those that were not removed, though that was said, and why; until it is told."""
        self._under_way: dict[int, _UnderWay] = {}

    def begin(self, number: int, errand: Errand) -> bytes | None:
        """A request was sent: what it will print, or None if that must be waited for."""
        answer = self._foresee(errand)
        self._under_way[number] = _UnderWay(errand, answer is not None)
        return answer

    def _foresee(self, errand: Errand) -> bytes | None:
        if errand.what == "home":
            return self._homes.get(errand.arguments[0])
        if errand.what == "mkdtemp":
            base, name = errand.arguments
            if base not in self._parents:
                return None
            path = f"{self._parents[base]}/{name}"
            _remember(self._made, path, None)
            return f"{name}={path}\n".encode()
        directories = [_directory(path) for path in errand.arguments]
        if any(directory not in self._made for directory in directories):
            return None
        if errand.what == "remove":
            del self._made[directories[0]]
            if self._left:
                return None
        return b""

    def output(self, number: int, data: bytes, *, error: bool) -> None:
        """A part of what a request printed."""
        if under_way := self._under_way.get(number):
            (under_way.stderr if error else under_way.stdout).extend(data)

    def left(self, number: int) -> bytes:
        """A request has ended: what it has to tell of removals before it that failed, once; nothing if it is none, or nobody waits to hear that."""
        under_way = self._under_way.get(number)
        if under_way is None or under_way.foreseen or under_way.errand.what != "remove":
            return b""
        left, self._left = self._left, []
        return "; ".join(left).encode()

    def end(self, number: int, returncode: int) -> str:
        """A request has ended: why it failed, if nobody waits to hear that."""
        under_way = self._under_way.pop(number, None)
        if under_way is None:
            return ""
        failure = "" if returncode == 0 else under_way.stderr.decode("utf-8", "replace").strip() or f"the command ended with {returncode}"
        if under_way.errand.what == "home" and not failure:
            (user,) = under_way.errand.arguments
            if user in self.lasting:
                self._homes[user] = bytes(under_way.stdout)
        elif under_way.errand.what == "mkdtemp":
            base, name = under_way.errand.arguments
            if under_way.foreseen and failure:
                self._made.pop(f"{self._parents.pop(base, '')}/{name}", None)
                _remember(self._failures, name, f"the temporary directory {base}/{name} could not be made: {failure}")
            elif not failure:
                path = under_way.stdout.decode("utf-8", "surrogateescape").removeprefix(f"{name}=").removesuffix("\n")
                self._parents[base] = path.removesuffix(f"/{name}")
                _remember(self._made, path, None)
        elif under_way.errand.what == "remove" and under_way.foreseen and failure:
            self._left.append(f"a task before has left {under_way.errand.arguments[0]}: {failure}")
        return failure if under_way.foreseen else ""

    def awaited_by(self, action: Action) -> int:
        """The request without whose foreseen answer an action comes to nothing, as it is about a directory that may not be there; 0 if there is none."""
        return next((number for number, under_way in self._under_way.items() if under_way.foreseen and _makes_place_for(under_way.errand, action)), 0)

    def failure(self, action: Action) -> str:
        """Why the directory that an action is about is not there; nothing if there is no such reason."""
        return next((text for name, text in self._failures.items() if _is_about(action, name)), "")


def _makes_place_for(errand: Errand, action: Action) -> bool:
    return errand.what == "mkdtemp" and _is_about(action, errand.arguments[1])


def _is_about(action: Action, name: str) -> bool:
    if isinstance(action, Exec):
        return name in action.command or name.encode() in action.payload
    return name in action.path


def _directory(path: str) -> str:
    """The temporary directory that a path is, or that it is in."""
    path = path.rstrip("/")
    parent, _slash, name = path.rpartition("/")
    return path if name.startswith("ansible-tmp-") else parent


def _remember(of: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    of[key] = value
    if len(of) > _MOST:
        of.popitem(last=False)
