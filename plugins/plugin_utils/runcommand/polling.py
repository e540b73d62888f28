# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When invocations are looked at, and how: no I/O, and no clock but the times it is given (seconds)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .arrivals import Arrivals

PAGE = 50
"""Entries of ListCommandInvocations on a page."""

SHORTEST = 0.3
LONGEST = 5.0
BACKSTOP = 15.0
"""Seconds between looks, where events tell what ends: they are best effort."""
PART = 0.2
"""Of a command's age: so much later, at most, than it ended its end is seen."""


def next_look(sent: float, now: float, *, events: bool) -> float:
    """When a command is to be looked at again."""
    if events:
        return now + BACKSTOP
    return now + min(LONGEST, max(SHORTEST, PART * (now - sent)))


@dataclass
class Ends:
    """The ends of one command that events have told of and whose results are yet to be read: one call reads all, so it waits while they keep coming."""

    FIRST_GAP = 0.4
    """Seconds for which a second one is waited for."""

    SHORTEST = 1.0
    PART = 0.5
    """Of a command's age: so much later, at most, a result is read."""

    first: float
    """When the first one was told."""
    _arrivals: Arrivals = field(init=False)

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.FIRST_GAP)

    def add(self, now: float) -> None:
        """One was told."""
        self._arrivals.add(now)

    def read_at(self, sent: float) -> float:
        """When the results are to be read, if none is told until then."""
        return min(self.first + min(LONGEST, max(self.SHORTEST, self.PART * (self.first - sent))), self._arrivals.cease)


def by_listing(waiting: Mapping[str, int]) -> bool:
    """Whether one listing of all invocations since the oldest command takes fewer calls than each command by its id.

    :param waiting: of each command to be looked at, the number of its nodes.
    """
    pages = -(-sum(waiting.values()) // PAGE)
    return len(waiting) > max(2, pages + 1)
