# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long equal tasks are waited for, so that they share a SendCommand. No I/O, and no clock but the times it is given (seconds)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

MOST = 50
"""Node ids in one SendCommand."""


@dataclass
class Window(Generic[Item]):
    """The tasks of one kind that have come. It follows arrivals: closed when it is full, or when the next one is late for them."""

    LONGEST = 15.0
    """Seconds after the first one. A busy controller takes that long to bring fifty forks so far, and a task ends with its last host."""

    LONGEST_GAP = 1.5
    """Seconds for which the next one is waited for at most."""

    FIRST_GAP = 0.15
    """Seconds for which a second one is waited for. Most tasks are alone, so it is short; forks come closer together."""

    opened: float
    items: dict[str, Item] = field(default_factory=dict)
    """By node."""
    _last: float = field(init=False)
    _gap: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last = self.opened

    def takes(self, node_id: str) -> bool:
        """Whether another one belongs in here: a node can be named only once."""
        return len(self.items) < MOST and node_id not in self.items

    def add(self, now: float, node_id: str, item: Item) -> None:
        """One has come."""
        if self.items:
            self._gap = max(now - self._last, self._gap * 0.75)
        self._last = now
        self.items[node_id] = item

    @property
    def is_full(self) -> bool:
        """Nothing is waited for."""
        return len(self.items) >= MOST

    @property
    def closes(self) -> float:
        """When it is over, if none comes until then: after three times the gap that there was between the last ones."""
        if self.is_full:
            return self.opened
        return min(self.opened + self.LONGEST, self._last + min(max(self.FIRST_GAP, 3 * self._gap), self.LONGEST_GAP))
