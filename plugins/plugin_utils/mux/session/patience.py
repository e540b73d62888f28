# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an opening, or the replacement of a lost output session, is tried again.

No I/O, and no clock but the times it is given (seconds, monotonic).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Patience:
    """Of one opening: whatever happens, it is given up after a certain time, not after a number of tries."""

    FRESH = 7.0
    """Seconds in which faults on the way to a node are met with further tries; it is to be called unreachable within ten."""

    AT_LEAST = 5
    """Further tries after faults that AWS itself has answered, or while it lets others in: it is within reach, however long the queue of calls is."""

    began: float
    until: float
    _tries: int = field(default=0, init=False)
    _waited: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, now: float, *, missed_at: float, silence: float) -> Patience:
        """A node that was connected may be away for as long as it may be silent, since it was missed first."""
        return cls(now, max(now + cls.FRESH, missed_at + silence))

    def waited(self, seconds: float) -> None:
        """So long AWS let nothing through, for its limit of calls: that is waited out, and does not count."""
        self.began += seconds
        self.until += seconds
        self._waited += seconds

    def pause(self, tried_at: float, now: float, *, answered: bool = False) -> float | None:
        """Seconds to wait after the try that began at ``tried_at``. `None`: the next one, if it took as long, would end too late."""
        self._tries += 1
        took, self._waited = now - tried_at - self._waited, 0.0
        pause = min(0.2 * 2.0 ** min(self._tries, 10), max(1.0, (now - self.began) / 4))
        return pause if (answered and self._tries <= self.AT_LEAST) or now + pause + took <= self.until else None


class Replacements:
    """Of one node's output session: it only makes output fast, so one that is lost again and again is done without for a while."""

    LONGEST_PAUSE = 60.0
    MOST = 5
    FORGIVEN = 300.0
    """Seconds without a loss after which the next loss is the first again."""

    def __init__(self) -> None:
        self._losses = 0
        self._lost_at = float("-inf")
        self._missing = False

    def lost(self, now: float) -> None:
        """It has ended, or could not be started."""
        if now - self._lost_at > self.FORGIVEN:
            self._losses = 0
        self._losses += 1
        self._lost_at = now
        self._missing = True

    def begun(self) -> None:
        """Another one is being started."""
        self._missing = False

    def pause(self, now: float) -> float | None:
        """Seconds until another one may be started; `None`: none is missing, or too many were lost of late."""
        if not self._missing:
            return None
        if self._losses > self.MOST and now - self._lost_at <= self.FORGIVEN:
            return None
        return max(0.0, self._lost_at + min(0.5 * 2.0**self._losses, self.LONGEST_PAUSE) - now)
