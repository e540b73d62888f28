# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast an API action may be called, learned from throttling alone.

One `Pace` stands for one (action, account, region). Calls of all workers pass through it, so forks do not multiply retries. `SerialPace` is for
callers that make one call at a time: such a caller can tell from the times of its calls how long the gap must be, and need not probe for it.
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


class SerialPace:
    """No delay until AWS throttles; then the gap that let a call through, which shrinks until it is close to one that is known to be too short."""

    #: Before the call after the first refusal; where a gap is known, that is but little too short: a part of it.
    FIRST_PAUSE = 0.6
    SHORTEST_PAUSE = 0.05
    STEP = 0.3
    LONGEST_PAUSE = 20.0
    LONGEST_GAP = 20.0
    NO_GAP = 0.01
    SHRINK = 0.95
    CREEP = 0.995
    #: Calls in a row after which a gap that was too short is tried again, since the rate is shared with others, who may have left.
    FORGETS = 25

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._gap = 0.0
        self._too_short = 0.0
        self._free_at = float("-inf")
        self._last_good: float | None = None
        self._refused = 0  # in a row
        self._good = 0  # in a row

    @property
    def gap(self) -> float:
        """Seconds between two calls, at present."""
        return self._gap

    def pause(self, now: float) -> float:
        """Seconds to wait before the next call."""
        return max(0.0, self._free_at - now)

    def succeeded(self, sent: float) -> None:
        """A call was let through. :param sent: when it was sent."""
        if self._refused and self._last_good is not None:
            self._gap = min(max(sent - self._last_good, self._gap), self.LONGEST_GAP)
            self._good = 0
        elif self._gap:
            self._good += 1
            if self._good % self.FORGETS == 0:
                self._too_short *= 0.8
            shorter = self._gap * self.SHRINK
            self._gap = shorter if shorter > self._too_short * 1.1 else self._gap * self.CREEP
            if self._gap < self.NO_GAP:
                self._gap = 0.0
        self._refused = 0
        self._last_good = sent
        self._free_at = sent + self._gap

    def throttled(self, sent: float, now: float) -> None:
        """A call was refused for its rate."""
        self._refused += 1
        if self._last_good is None:
            self._last_good = sent  # others have used up what there was
        self._too_short = min(sent - self._last_good, self.LONGEST_GAP)
        first = max(self._gap * self.STEP, self.SHORTEST_PAUSE) if self._gap else self.FIRST_PAUSE
        pause = min(first * 2 ** min(self._refused - 1, 10), self.LONGEST_PAUSE)
        self._free_at = now + pause * (0.8 + 0.4 * self._jitter())
