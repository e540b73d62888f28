# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an acknowledgement takes, and when to stop waiting for it (the estimator of the agent and its client)."""

from __future__ import annotations

from typing import Final

_FIRST_ROUND_TRIP: Final = 0.1
_FIRST_TIMEOUT: Final = 0.2
_MAX_TIMEOUT: Final = 1.0
_GRANULARITY: Final = 0.01
_GAIN: Final = 1 / 8
_VARIATION_GAIN: Final = 1 / 4
# How often the peers look for messages to resend, so their time-outs are up to this much longer than they compute.
# Without it a controller or node that stands still for a moment would be answered with more load.
_RESEND_INTERVAL: Final = 0.1
_MINIMUM_LIFETIME: Final = 10.0


class RoundTrip:
    """Smoothed round-trip time and retransmission time-out. All times in seconds."""

    def __init__(self) -> None:
        self.smoothed = _FIRST_ROUND_TRIP
        self.variation = 0.0
        self._timeout = _FIRST_TIMEOUT
        self._backoff = 1
        self.recent = float("inf")
        """Smoothed like ``smoothed``, but without the first round-trip time that was only assumed."""
        # The smallest time seen lately: in this and in the preceding period, so that a changed path is noticed.
        self._minimum = self._preceding_minimum = float("inf")
        self._period_end = float("-inf")

    @property
    def timeout(self) -> float:
        """How long to wait for an acknowledgement before sending again."""
        return min(_MAX_TIMEOUT, self._timeout * self._backoff) + _RESEND_INTERVAL

    @property
    def minimum(self) -> float:
        """The smallest round-trip time of the last seconds: what the path takes without queues."""
        return min(self._minimum, self._preceding_minimum)

    def sample(self, elapsed: float, now: float) -> None:
        """Learn from one message that was sent once and acknowledged after ``elapsed``."""
        self.variation += _VARIATION_GAIN * (abs(self.smoothed - elapsed) - self.variation)
        self.smoothed += _GAIN * (elapsed - self.smoothed)
        self.recent = elapsed if self.recent == float("inf") else self.recent + _GAIN * (elapsed - self.recent)
        self._timeout = min(_MAX_TIMEOUT, self.smoothed + max(_GRANULARITY, 4 * self.variation))
        if now >= self._period_end:
            self._preceding_minimum, self._minimum = self._minimum, elapsed
            self._period_end = now + _MINIMUM_LIFETIME
        elif elapsed < self._minimum:
            self._minimum = elapsed

    def timed_out(self) -> None:
        """Nothing came in time: wait longer the next time."""
        self._backoff = min(self._backoff * 2, 16)

    def answered(self) -> None:
        """The peer acknowledges again: wait no longer than the estimate."""
        self._backoff = 1
