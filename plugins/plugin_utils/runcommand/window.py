# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long equal tasks are waited for, so that they share a SendCommand. No I/O, and no clock but the times it is given (seconds)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .arrivals import Arrivals

Item = TypeVar("Item")

MOST = 50
"""Node ids in one SendCommand."""


@dataclass(frozen=True)
class Forks:
    """The workers that a controller has forked, as far as they live."""

    last: float
    """When the youngest was forked."""

    on_their_way: Sequence[float]
    """Of each that waits for nothing here: when it was forked, or got its last answer."""


@dataclass
class Window(Generic[Item]):
    """The tasks of one kind that have come. Closed when it is full, or when no worker is left that may bring another one.

    Where it is not known which workers there are, the pauses between arrivals tell.
    """

    LONGEST = 15.0
    """Seconds after the first one. A busy controller takes that long to bring fifty forks so far, and a task ends with its last host."""

    FIRST_GAP = 0.15
    """Seconds for which a second one is waited for by pauses. Most tasks are alone, so it is short; forks come closer together."""

    FORKS_APART = 0.25
    """Seconds after a fork in which the next may follow, if nothing is left to do on the controller but to fork."""

    SLOWER = 3
    """So many times as long as those that came a worker may be on its way. One that takes longer may never come, as its task is done on the
    controller: it holds the others up for no longer than in proportion to what they took themselves."""

    SHORTEST_WAY = 0.2
    """Seconds that a worker may be on its way in any case, before that factor."""

    OTHERS = 2
    """Tasks of another kind, beyond as many as are in here, after which those that may still come are not expected to be of this one."""

    LOOK = 0.02
    """Seconds until the next look for each worker that is on its way, as many do not all come at once."""

    LONGEST_LOOK = 0.5

    opened: float
    items: dict[str, Item] = field(default_factory=dict)
    """By node."""
    _arrivals: Arrivals = field(init=False)
    _longest_way: float = field(default=SHORTEST_WAY, init=False)
    _others: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.FIRST_GAP)
        self._arrivals.add(self.opened)

    def takes(self, node_id: str) -> bool:
        """Whether another one belongs in here: a node can be named only once."""
        return len(self.items) < MOST and node_id not in self.items

    def add(self, now: float, node_id: str, item: Item, set_out: float | None = None) -> None:
        """One has come.

        :param set_out: when its worker was forked, or got its last answer; `None`: not known.
        """
        if self.items:
            self._arrivals.add(now)
        if set_out is not None:
            self._longest_way = max(self._longest_way, now - set_out)
        self.items[node_id] = item

    @property
    def is_full(self) -> bool:
        """Nothing is waited for."""
        return len(self.items) >= MOST

    def passed_by(self) -> None:
        """A worker of the same controller has brought a task of another kind."""
        self._others += 1

    def pause(self, now: float, forks: Forks | None) -> float:
        """Seconds until it is to be looked at again; 0 if it is over.

        :param forks: of the controllers whose tasks are in here; `None`: not known.
        """
        if self.is_full:
            return 0.0
        return max(0.0, min(self.opened + self.LONGEST, self._closes(now, forks)) - now)

    def _closes(self, now: float, forks: Forks | None) -> float:
        if forks is None or self._others > len(self.items) + self.OTHERS:
            return self._arrivals.cease
        if expected := sum(now - set_out < self.SLOWER * self._longest_way for set_out in forks.on_their_way):
            return now + min(self.LOOK * expected, self.LONGEST_LOOK)
        return forks.last + self.FORKS_APART
