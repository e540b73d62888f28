# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a row of arrivals has ceased, as far as its pauses tell. No I/O, and no clock but the times it is given (seconds)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Arrivals:
    """It has ceased when the next one is late: after three times the gap that there was between the last ones."""

    LONGEST_GAP = 1.5
    """Seconds for which the next one is waited for at most."""

    first_gap: float
    """Seconds for which the next one is waited for at least."""
    _last: float = field(default=float("-inf"), init=False)
    _gap: float = field(default=0.0, init=False)

    def add(self, now: float) -> None:
        """One has come."""
        if self._last > float("-inf"):
            self._gap = max(now - self._last, self._gap * 0.75)
        self._last = now

    @property
    def cease(self) -> float:
        """When the next one is late."""
        return self._last + min(max(self.first_gap, 3 * self._gap), self.LONGEST_GAP)
