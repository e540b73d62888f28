# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folder a result has: plays and tasks by number and name, hosts and items by name. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .names import Names, safe_name


@dataclass
class Task:
    """A task of a play, as the index names it."""

    play: str
    play_number: int
    task: str
    task_number: int
    action: str
    folder: str
    hosts: Names = field(default_factory=Names, repr=False)

    def head(self, host: str) -> dict[str, Any]:
        """The beginning of a line of the index."""
        known = ("play", "play_number", "task", "task_number", "action")
        return {**{name: getattr(self, name) for name in known}, "host": host}


class Layout:
    """Folders of a run. Plays and tasks are known by keys of the caller's: a play with ``serial`` begins several times."""

    def __init__(self) -> None:
        self._plays: dict[str, tuple[int, str]] = {}
        self._tasks: dict[str, Task] = {}
        self._play = ""

    def begin_play(self, key: str, name: str) -> None:
        """Tasks that begin from now on are of this play."""
        self._plays.setdefault(key, (len(self._plays) + 1, name))
        self._play = key

    def task(self, key: str, name: str, action: str) -> Task:
        """The task of that key, which gets its number at its first use."""
        if key not in self._tasks:
            number, play = self._plays.get(self._play, (0, ""))
            task_number = len(self._tasks) + 1
            folder = f"{number:02d}-{safe_name(play)}/{task_number:03d}-{safe_name(name)}"
            self._tasks[key] = Task(play, number, name, task_number, action, folder)
        return self._tasks[key]
