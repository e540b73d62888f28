# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order, acknowledgement and retransmission of a data channel, as the agent does them; no I/O, and no clock but the given one.

The constants are the agent's (PROTOCOL.md, "Reliability"). Times are seconds.
"""

from __future__ import annotations

from .message import OUTPUT_STREAM_DATA, SYN, Message, pack

RESEND_INTERVAL = 0.1  #: how often the front message is looked at
CAPACITY = 100_000  #: messages, in each direction

_GRANULARITY = 0.01
_MAX_TIMEOUT = 1.0


class Outbox:
    """Stream messages on their way to the client, kept until acknowledged."""

    def __init__(self) -> None:
        self.timeout = 0.2
        self.round_trip = 0.1
        self.variation = 0.0
        self._next = 0
        self._unacknowledged: dict[int, tuple[bytes, float]] = {}  # in order of sending: dicts keep theirs

    def __len__(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._unacknowledged)

    def add(self, payload_type: int, payload: bytes, now: float) -> bytes:
        """The bytes to send for the next payload.

        Beyond CAPACITY a message is sent but not kept: the agent then loses it when it has to be sent again.
        """
        sequence = self._next
        self._next += 1
        flags = SYN if sequence == 0 else 0
        frame = pack(OUTPUT_STREAM_DATA, payload, sequence=sequence, flags=flags, payload_type=payload_type)
        if len(self._unacknowledged) < CAPACITY:
            self._unacknowledged[sequence] = (frame, now)
        return frame

    def acknowledged(self, sequence: int, now: float) -> None:
        """Forget a message, and learn from its round trip. Unknown numbers are duplicates."""
        kept = self._unacknowledged.pop(sequence, None)
        if kept is None:
            return
        trip = now - kept[1]
        self.variation = 0.75 * self.variation + 0.25 * abs(self.round_trip - trip)
        self.round_trip = 0.875 * self.round_trip + 0.125 * trip
        self.timeout = min(self.round_trip + max(_GRANULARITY, 4 * self.variation), _MAX_TIMEOUT)

    def due(self, now: float) -> bytes | None:
        """The front message, if it is time to send it again; only ever the front one."""
        if not self._unacknowledged:
            return None
        sequence = next(iter(self._unacknowledged))
        frame, sent = self._unacknowledged[sequence]
        if now - sent <= self.timeout:
            return None
        self._unacknowledged[sequence] = (frame, now)  # an existing key keeps its place
        return frame


class Inbox:
    """Stream messages from the client, brought into order.

    A message in order is acknowledged only after its payload was taken (written to the PTY): `receive` and `taken` say
    which messages to acknowledge, `current` is the one to take.
    """

    def __init__(self) -> None:
        self.current: Message | None = None
        self._expected = 0
        self._early: dict[int, Message] = {}
        self._acknowledged_already = False

    def receive(self, message: Message) -> Message | None:
        """Take in one message; the answer is what to acknowledge now."""
        if message.sequence == self._expected and self.current is None:
            self.current = message
            self._acknowledged_already = False
            return None
        if message.sequence > self._expected and len(self._early) < CAPACITY:
            self._early[message.sequence] = message
            return message
        return message if message.sequence < self._expected else None

    def taken(self) -> Message | None:
        """`current` was taken; the answer is what to acknowledge, and `current` is the next in order, if any."""
        message = self.current
        acknowledge = None if self._acknowledged_already else message
        self._expected += 1
        self.current = self._early.pop(self._expected, None)
        self._acknowledged_already = True
        return acknowledge

    def rejected(self) -> None:
        """`current` cannot be taken yet: the client has to send it again."""
        self.current = None
