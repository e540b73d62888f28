# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages on their way to the agent until it acknowledges them: what is lost, and what may be sent now.

A message is taken for lost when messages sent well after it were acknowledged (every message is acknowledged by
itself, so that is seen at once), or when its acknowledgement does not come in time.
"""

from __future__ import annotations

from typing import Final

from .roundtrip import RoundTrip
from .window import SendWindow

# How many later messages must be acknowledged before an earlier one is taken for lost rather than overtaken.
_REORDERING: Final = 8


class _Flight:
    """One unacknowledged message."""

    __slots__ = ("doubtful", "frame", "order", "sent_at")

    def __init__(self, frame: bytes, sent_at: float, order: int) -> None:
        self.frame = frame
        self.sent_at = sent_at
        self.order = order  # the count of transmissions when this one was made
        self.doubtful = False  # was taken for lost, so its acknowledgement says nothing about round trips


class Outgoing:
    """Unacknowledged messages by sequence number. Times are those of the caller's clock, in seconds."""

    def __init__(self, initial_window: int, max_window: int) -> None:
        self.round_trip = RoundTrip()
        self.window = SendWindow(initial_window, max_window)
        self.retransmissions = 0
        self.next_sequence = 0
        self.paused = False
        self._flying: dict[int, _Flight] = {}  # in the order of transmission
        self._lost: dict[int, _Flight] = {}
        self._transmissions = 0
        self._newest_acknowledged = -1  # as a count of transmissions
        self._window_cut_at = -1

    def __len__(self) -> int:
        return len(self._flying) + len(self._lost)

    def room(self) -> int:
        """How many new messages may be sent now; lost ones go first."""
        return max(0, self._limit() - len(self._flying)) if not self._lost else 0

    def sent(self, frame: bytes, now: float) -> None:
        """Keep a new message, which has ``next_sequence``, until it is acknowledged."""
        self._flying[self.next_sequence] = _Flight(frame, now, self._transmissions)
        self.next_sequence += 1
        self._transmissions += 1

    def acknowledge(self, sequence: int, now: float) -> None:
        """The agent has the message; acknowledging twice is harmless."""
        flight = self._flying.pop(sequence, None) or self._lost.pop(sequence, None)
        if flight is None:
            return
        if flight.order > self._newest_acknowledged:
            self._newest_acknowledged = flight.order
        self.round_trip.answered()
        if not flight.doubtful:
            self.round_trip.sample(now - flight.sent_at, now)
            self.window.acknowledged(self.round_trip)

    def retransmissions_due(self, now: float) -> list[bytes]:
        """Find what was lost, and return what of it may be sent again now."""
        overtaken = self._find_lost(now)
        if not self._lost:
            return []
        frames = []
        # What was overtaken is sent at once, though the window has just shrunk: everything behind it waits for it.
        for sequence in sorted(self._lost)[: max(overtaken, self._limit() - len(self._flying), 0)]:
            flight = self._lost.pop(sequence)
            flight.sent_at = now
            flight.order = self._transmissions
            self._transmissions += 1
            self._flying[sequence] = flight
            frames.append(flight.frame)
        self.retransmissions += len(frames)
        return frames

    def next_deadline(self) -> float | None:
        """When :meth:`retransmissions_due` is to be asked again, if no acknowledgement comes before."""
        for flight in self._flying.values():
            return flight.sent_at + self.round_trip.timeout
        return None

    def reconnected(self) -> None:
        """Whatever was on its way may be gone with the old connection."""
        for sequence in list(self._flying):
            self._lose(sequence)
        self.paused = False
        self.round_trip.answered()
        if self._lost:
            self.window.silent()

    def _lose(self, sequence: int) -> None:
        flight = self._lost[sequence] = self._flying.pop(sequence)
        flight.doubtful = True

    def _limit(self) -> int:
        # While the other side is known to be away, one message at a time finds out when it is back.
        return 1 if self.paused else self.window.size

    def _find_lost(self, now: float) -> int:
        """Move what is lost out of flight; returns how much of it was overtaken rather than timed out."""
        overtaken = self._newest_acknowledged - _REORDERING
        timeout = self.round_trip.timeout
        newest_lost = -1
        timed_out = 0
        lost = []
        for sequence, flight in self._flying.items():
            if flight.order > overtaken:
                if now < flight.sent_at + timeout:
                    break
                timed_out += 1
            lost.append(sequence)
            newest_lost = flight.order
        for sequence in lost:
            self._lose(sequence)
        if timed_out:
            self.round_trip.timed_out()
        # One loss event cuts the window once: not again for what was already on its way at the time of the cut.
        if newest_lost >= self._window_cut_at and lost:
            self._window_cut_at = self._transmissions
            if timed_out:
                self.window.silent()
            else:
                self.window.lost()
        return len(lost) - timed_out
