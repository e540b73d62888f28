# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast an API action may be called, learned from throttling alone.

One `Pace` stands for one (action, account, region). Calls of all workers pass through it, so forks do not multiply retries.
No I/O, and no clock but the times it is given (seconds, monotonic).
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Pace:
    """No delay until AWS throttles, then a gap between calls that doubles on each throttling and shrinks on success."""

    FIRST_GAP = 0.1
    LONGEST_GAP = 5.0
    NO_GAP = 0.01
    SHRINK = 0.9
    LONGEST_PAUSE = 20.0

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._gap = 0.0
        self._free_at = 0.0
        self._throttled_in_a_row = 0
        self._slowed_at = float("-inf")
        self.throttled = 0
        self.calls = 0

    @property
    def gap(self) -> float:
        """Seconds between two calls, at present."""
        return self._gap

    def reserve(self, now: float, deadline: float = float("inf")) -> float | None:
        """Seconds to wait before the call that is reserved hereby; `None`, and nothing is reserved, if its turn is after ``deadline``."""
        start = max(now, self._free_at)
        if start > max(now, deadline):
            return None
        self._free_at = start + self._gap
        self.calls += 1
        return start - now

    def succeeded(self) -> None:
        """A call was let through."""
        self._throttled_in_a_row = 0
        self._gap *= self.SHRINK
        if self._gap < self.NO_GAP:
            self._gap = 0.0

    def throttle(self, now: float, sent: float) -> None:
        """A call was refused for its rate: everyone waits, with jitter, and goes slower afterwards.

        :param sent: when it was sent. Calls that were already on their way when it became slower say nothing new.
        """
        self.throttled += 1
        if sent <= self._slowed_at:
            return
        self._slowed_at = now
        self._throttled_in_a_row += 1
        self._gap = min(max(self._gap * 2, self.FIRST_GAP), self.LONGEST_GAP)
        longest = min(self.FIRST_GAP * 2 ** min(self._throttled_in_a_row, 10), self.LONGEST_PAUSE)
        pause = longest * (0.5 + 0.5 * self._jitter())
        self._free_at = max(self._free_at, now + pause)
