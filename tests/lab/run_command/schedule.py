# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MaxConcurrency and MaxErrors: which invocations go when. No I/O, no clock.

As the service's manual has it: with MaxErrors 10 the 11th error ends the sending, with 0 the first; percentages are of all
targets; what runs already runs on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


def limit(text: str, total: int) -> int:
    """`10` or `10%` of a total as a number, rounded down."""
    return total * int(text[:-1]) // 100 if text.endswith("%") else int(text)


class Schedule(Generic[Item]):
    """The invocations of a command that were not sent yet, and how many more may be."""

    def __init__(self, items: Iterable[Item], max_concurrency: str, max_errors: str) -> None:
        self._waiting = deque(items)
        total = len(self._waiting)
        self._concurrency = max(1, limit(max_concurrency, total))
        self.max_errors = limit(max_errors, total)
        self._running = self.errors = 0

    @property
    def exceeded(self) -> bool:
        """Whether more errors were seen than allowed."""
        return self.errors > self.max_errors

    def release(self) -> list[Item]:
        """Those that go now."""
        if self.exceeded:
            return []
        chosen = [self._waiting.popleft() for _turn in range(min(len(self._waiting), self._concurrency - self._running))]
        self._running += len(chosen)
        return chosen

    def finished(self, *, error: bool) -> None:
        """One of those that went is over."""
        self._running -= 1
        self.errors += error

    def abandon(self) -> list[Item]:
        """Take all that wait: they go no more."""
        left = list(self._waiting)
        self._waiting.clear()
        return left
