# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many messages may be unacknowledged at once.

The peers have no window. Without one a large put would fill every buffer on the way, and small requests of other
tasks on the same channel would wait behind it; with a small fixed one a long path would be slow. So it starts
small, grows while acknowledgements come promptly, and shrinks on loss, as TCP does.
"""

from __future__ import annotations

from typing import Final

from .roundtrip import RoundTrip

# A round trip longer than the shortest one by this much means that messages queue: a larger window would not help.
_QUEUE_SECONDS: Final = 0.04
_QUEUE_RATIO: Final = 0.5
# Half a megabyte, which agents take in some 50 ms, is no queue to speak of: up to here only losses count, since on a
# busy controller round trips are long for other reasons.
_UNQUEUED: Final = 512
# Messages more, or less, for each acknowledgement after the first phase.
_GROWTH: Final = 1 / 8
_SHRINKAGE: Final = 1 / 4


class SendWindow:
    """The size of the window, in messages."""

    def __init__(self, initial: int, maximum: int) -> None:
        self._initial = min(initial, maximum)
        self._maximum = maximum
        self._size = float(self._initial)
        self._doubling_end = float(maximum)  # below it, every acknowledgement adds one: a doubling in each round trip
        self.limiting = False
        """Whether the window holds something back; one that is not used must not grow."""

    @property
    def size(self) -> int:
        return int(self._size)

    def acknowledged(self, round_trip: RoundTrip) -> None:
        """A message got through; ``round_trip`` has learnt from it."""
        minimum = round_trip.minimum
        if self._size > _UNQUEUED and round_trip.recent > minimum + max(_QUEUE_SECONDS, _QUEUE_RATIO * minimum):
            self._size = self._doubling_end = self._size - _SHRINKAGE
        elif self.limiting:
            self._size = min(float(self._maximum), self._size + (1.0 if self._size < self._doubling_end else _GROWTH))

    def lost(self) -> None:
        """A message was lost while others got through: half as much."""
        self._size = self._doubling_end = max(float(self._initial), self._size / 2)

    def silent(self) -> None:
        """Nothing got through for a while: start again, and double up to what was used before.

        Below is TCP, so this is a node, an agent or a controller that stood still much rather than a path that is full.
        """
        self._doubling_end = max(self._doubling_end, self._size) if self._size == self._initial else self._size
        self._size = float(self._initial)
