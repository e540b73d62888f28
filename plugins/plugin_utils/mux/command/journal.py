# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commands of Run Command are under way, in a file: a mux that is killed can cancel nothing, so the next one of the same user does.

The file stands beside the socket, one for each mux, and is locked for as long as its mux lives. A line is `+ TIME COMMAND-ID PLACE` for a
command that was sent, and `- COMMAND-ID` for one that nobody need cancel any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import time
from dataclasses import dataclass

from ..request import EXECUTION


@dataclass(frozen=True)
class Entry:
    """A command that was sent."""

    sent: float
    """Seconds since the epoch."""
    place: str
    """Who has sent it, and to which region."""


class Journal:
    """Of one mux.

    :param path: of the mux's socket.
    """

    def __init__(self, path: str) -> None:
        self._path = f"{path}.commands-{secrets.token_hex(8)}"
        self._others = f"{glob.escape(path)}.commands-*"
        self._file: int | None = None
        self._open: dict[str, Entry] = {}
        self._left: dict[str, str] | None = None
        """Of commands that killed muxes have left, the places."""

    def sent(self, command_id: str, place: str) -> None:
        """AWS has accepted a command."""
        self._add(command_id, Entry(time.time(), place))

    def ended(self, command_id: str) -> None:
        """It has ended, or was cancelled."""
        if self._open.pop(command_id, None) is None:
            return
        if self._open or self._file is None:
            self._write(f"- {command_id}\n")
        else:  # it does not grow for as long as its mux lives
            os.ftruncate(self._file, 0)

    def left_over(self, place: str) -> list[str]:
        """Commands of this place that nobody waits for, as their muxes were killed. Each is named once."""
        if self._left is None:
            self._left = self._take_over()
        found = [command_id for command_id, of in self._left.items() if of == place]
        for command_id in found:
            del self._left[command_id]
        return found

    def close(self) -> None:
        """The mux ends: its file stays only for commands that could not be cancelled."""
        if self._file is not None:
            if not self._open:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._file)
            self._file = None

    def _take_over(self) -> dict[str, str]:
        """What killed muxes have written becomes ours. Beyond the longest time that a command may take it is of no use."""
        oldest = time.time() - EXECUTION[1]
        found: dict[str, str] = {}
        for path in glob.glob(self._others):
            with contextlib.suppress(OSError), open(path, "rb") as source:
                fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its mux lives
                for command_id, entry in read(source.read().decode("utf-8", "replace")).items():
                    if entry.sent > oldest:
                        self._add(command_id, entry)
                        found[command_id] = entry.place
                os.unlink(path)
        return found

    def _add(self, command_id: str, entry: Entry) -> None:
        self._open[command_id] = entry
        self._write(f"+ {entry.sent:.0f} {command_id} {entry.place}\n")

    def _write(self, line: str) -> None:
        # On a full disk there is no journal: that is no reason to run nothing.
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = self._make()
            os.write(self._file, line.encode())

    def _make(self) -> int:
        while True:
            made = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            fcntl.flock(made, fcntl.LOCK_EX)
            if os.fstat(made).st_nlink:
                return made
            os.close(made)  # another mux has taken it for one that was left, before it was locked


def read(text: str) -> dict[str, Entry]:
    """The commands in a journal that were sent and have not ended. What a kill has cut off is not looked at."""
    found: dict[str, Entry] = {}
    for line in text.splitlines():
        match line.split(" ", 3):
            case ["+", sent, command_id, place] if sent.isdigit():
                found[command_id] = Entry(float(sent), place)
            case ["-", command_id]:
                found.pop(command_id, None)
    return found
