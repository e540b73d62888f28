# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices an agent that is reduced to sending again.

What an agent could not send, since its websocket or the client's was away, it keeps, and sends it only by
retransmission: of all messages the oldest, ten times a second. Two MiB then take more than three minutes. Such messages
come alone, and long after the date in their header.
"""

from __future__ import annotations

from typing import Final

_LATE: Final = 1.0  # seconds; more than a single lost message is late
_APART: Final = 0.05  # seconds; resent messages are 0.1 apart
_ENOUGH: Final = 10  # messages, so about a second


class Pace:
    """How messages keep up with the dates that the agent gave them. Its clock need not agree with ours."""

    def __init__(self) -> None:
        self._least: float | None = None  # of all differences between arrival and date
        self._arrived = float("-inf")
        self._late = 0

    def resending(self, created: float, now: float) -> bool:
        """Note a message that came in its turn or once more (dates in seconds, of any two clocks); True when it makes the case clear.

        What was reported is the new measure: a clock that was set is not reported for ever.
        """
        lag, apart = now - created, now - self._arrived
        self._arrived = now
        if self._least is None or lag < self._least:
            self._least = lag
        self._late = self._late + 1 if lag - self._least > _LATE and apart > _APART else 0
        if self._late < _ENOUGH:
            return False
        self._least, self._late = lag, 0
        return True
