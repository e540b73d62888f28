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
    """No delay until AWS throttles; then the gap that let a call through, and now and then a shorter one is tried.

    Each try that fails costs a call, so they are rare, and end where the gap is close to one that is known to be too short.
    """

    #: Before the call after the first refusal, and twice as long after each further one; where a gap is known, first a part of it.
    FIRST_PAUSE = 0.6
    SHORTEST_PAUSE = 0.05
    STEP = 0.3
    LONGEST = 20.0
    NO_GAP = 0.01
    #: Calls in a row with one gap before a shorter one is tried. While those let calls through, ever shorter ones are.
    HOLDS = 10
    CLOSE = 1.15
    SHORTER = 0.25
    #: Calls in a row after which a gap that was too short may no longer be, since the rate is shared with others, who may have left.
    FORGETS = 25

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._gap = 0.0
        self._next = 0.0  # the gap before the next call: the same, or a shorter one that is tried
        self._too_short = 0.0
        self._free_at = float("-inf")
        self._last_good: float | None = None
        self._refused = 0  # in a row
        self._good = 0  # in a row

    @property
    def gap(self) -> float:
        """Seconds between two calls that are known to be enough."""
        return self._gap

    def pause(self, now: float) -> float:
        """Seconds to wait before the next call."""
        return max(0.0, self._free_at - now)

    def succeeded(self, sent: float) -> None:
        """A call was let through. :param sent: when it was sent."""
        passed = sent - self._last_good if self._last_good is not None else 0.0
        if self._refused:
            self._gap = self._next = min(max(self._gap, passed), self.LONGEST)
            self._good = 0
        elif self._gap:
            self._good += 1
            tried = self._next < self._gap
            if tried and passed < self._gap:
                self._gap = self._next if self._next >= self.NO_GAP else 0.0
            if self._good % self.FORGETS == 0:
                self._too_short *= 0.8
            self._next = self._shorter() if tried or self._good >= self.HOLDS else self._gap
        self._refused = 0
        self._last_good = sent
        self._free_at = sent + self._next

    def throttled(self, sent: float, now: float, likely: float = 0.0) -> None:
        """A call was refused for its rate.

        :param likely: the gap of another action in the same place, whose rate may be like this one's; 0 if there is none.
        """
        self._refused += 1
        if self._last_good is None:
            self._last_good = sent  # others have used up what there was
        passed = self._too_short = min(sent - self._last_good, self.LONGEST)
        if self._refused == 1 and passed < self._gap:
            self._free_at = self._last_good + self._gap
            return
        unknown = (likely - passed) * 1.1 if likely > passed else self.FIRST_PAUSE
        first = self._gap * self.STEP if self._gap else unknown
        pause = min(max(first, self.SHORTEST_PAUSE) * 2 ** min(self._refused - 1, 10), self.LONGEST)
        self._free_at = now + pause * (0.9 + 0.2 * self._jitter())

    def _shorter(self) -> float:
        """A gap between the one that is enough and the one that is not; the former where they are close."""
        if self._gap <= self._too_short * self.CLOSE:
            return self._gap
        lower = max(self._too_short, self._gap * self.SHORTER)
        return float((lower * self._gap) ** 0.5)
