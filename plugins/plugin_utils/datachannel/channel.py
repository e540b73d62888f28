# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of a data channel as a state machine: frames in, events and frames out.

It does no I/O and has no clock: whoever uses it passes the time (seconds, monotonic), moves the frames, and asks again
at :meth:`DataChannel.next_deadline`. It outlives websockets: after a reconnection the sequence numbers go on.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Final, Literal

from . import message as wire
from .acknowledgement import acknowledged_sequence, acknowledgement_of
from .bytequeue import ByteQueue
from .encryption import OVERHEAD, EncryptionError, SessionCipher
from .events import Closed, DataKeyNeeded, Event, ExitCode, Output, Resending
from .handshake import EncryptionRequest, HandshakeRequest, challenge_response, parse_challenge, parse_request, response
from .incoming import Incoming
from .message import MalformedMessage, Message
from .outgoing import Outgoing
from .pace import Pace
from .settings import ChannelSettings

_TERMINATE_SESSION: Final = (2).to_bytes(4, "big")
_EXIT_CODE: Final = re.compile(rb"EXIT_CODE: (-?\d+)")
_ENCRYPTED: Final = frozenset({wire.OUTPUT, wire.STDERR, wire.EXIT_CODE})
_STREAMS: Final[dict[int, Literal["stdout", "stderr"]]] = {wire.OUTPUT: "stdout", wire.STDERR: "stderr", wire.ERROR: "stderr"}
# Frames given out at once, so that a full window does not delay acknowledgements that become due meanwhile.
_BATCH: Final = 128
# Acknowledgements that may have been lost with a websocket, about as many as there are messages under way in much output. An
# agent that misses them resends ten messages a second, so that what is really missing would come after minutes.
_REPEATED: Final = 1024
# Messages that come once more, with none between them that does not: one is nothing unusual.
_MISSED: Final = 2
_LOW_HALF: Final = (1 << 64) - 1


class _Handshake(Enum):
    NONE = "the agent has not asked for one"
    RUNNING = "asked for and not complete"
    COMPLETE = "complete"


class DataChannel:
    """One session's data channel.

    ``epoch_offset`` is what added to the caller's clock gives seconds since 1970, for the messages' creation dates.
    """

    def __init__(self, session_id: str, target_id: str, settings: ChannelSettings | None = None, *, epoch_offset: float = 0.0) -> None:
        self.settings = settings or ChannelSettings()
        self.session_id = session_id
        self.target_id = target_id
        self.agent_version = ""
        self.session_type = ""
        self.session_state = ""
        self.closed: Closed | None = None
        self.closed_by_service = False
        self.malformed_frames = 0
        self._epoch_offset = epoch_offset
        self._incoming = Incoming(self.settings.reorder_capacity)
        self._pace = Pace()
        self._outgoing = Outgoing(self.settings.initial_window, self.settings.max_window)
        self._acknowledgements: list[bytes] = []
        self._acknowledged: deque[bytes] = deque(maxlen=_REPEATED)  # sequence number and message id, packed: there are many
        self._repetitions = 0
        self._control: deque[tuple[int, bytes]] = deque()
        self._data = ByteQueue()
        self._handshake = _Handshake.NONE
        self._request: HandshakeRequest | None = None
        self._failure = ""
        self._cipher: SessionCipher | None = None
        self._may_send = not self.settings.input_waits
        self._size_sent = self.settings.terminal_size is None
        self._terminating = False
        # Message ids need only be unique: random once, then counted, with the marks of a random UUID (version 4).
        seed = os.urandom(16)
        self._id_high = seed[:6] + bytes([0x40 | seed[6] & 0x0F, seed[7]])
        self._id_low = (0x80 << 56) | int.from_bytes(seed[8:], "big") >> 2

    # From the application

    def send(self, data: bytes) -> None:
        """Queue bytes for the session's input. They wait for the agent's first message, see ``input_waits`` of the settings."""
        self._data.append(data)

    def program_runs(self) -> None:
        """Send input that waits: the caller knows by another way that the agent has started the session's program.

        An agent that wants encryption asks for it before, so whether it does is known by now.
        """
        self._may_send = True

    def terminate(self) -> None:
        """Queue the flag that ends a port session, behind all data. Agents ignore it in other sessions."""
        self._terminating = True

    def data_key(self, plaintext: bytes, encrypted: bytes) -> list[Event]:
        """Answer to :class:`DataKeyNeeded`."""
        try:
            self._cipher = SessionCipher(plaintext)
        except EncryptionError as exc:
            return self.data_key_failed(str(exc))
        return self._respond(encrypted_key=encrypted)

    def data_key_failed(self, reason: str) -> list[Event]:
        """Answer to :class:`DataKeyNeeded` when there is none: the agent is told, and ends the session."""
        return self._respond(failure=reason)

    @property
    def unsent(self) -> int:
        """Bytes of input that have not been sent once."""
        return len(self._data)

    @property
    def drained(self) -> bool:
        """Whether the agent has acknowledged everything."""
        return not self._data and not self._control and not self._outgoing and not self._terminating

    # From and to the websocket

    def receive(self, frame: bytes, now: float) -> list[Event]:
        """Take one binary frame."""
        try:
            message = wire.decode(frame)
            if message.message_type == wire.OUTPUT_STREAM_DATA:
                return self._receive_stream(message, now)
            if message.message_type == wire.ACKNOWLEDGE:
                self._outgoing.paused = False
                self._outgoing.acknowledge(acknowledged_sequence(message.payload), now)
            else:
                return self._receive_notice(message)
        except MalformedMessage:
            # It is not acknowledged, so if it was a stream message that was damaged, it will come again.
            self.malformed_frames += 1
        return []

    def frames_to_send(self, now: float) -> list[bytes]:
        """Frames to send now; ask again until there are none."""
        frames = self._acknowledgements
        self._acknowledgements = []
        if self.closed is not None:
            return frames
        outgoing = self._outgoing
        frames += outgoing.retransmissions_due(now)
        for _turn in range(min(outgoing.room(), _BATCH)):
            payload_type, payload = self._next_payload()
            if not payload:
                break
            frame = self._encode(wire.INPUT_STREAM_DATA, outgoing.next_sequence, 0, payload_type, payload, now)
            outgoing.sent(frame, now)
            frames.append(frame)
        outgoing.window.limiting = bool(self._data)
        return frames

    def next_deadline(self) -> float | None:
        """When to ask :meth:`frames_to_send` again though nothing was received."""
        return None if self.closed else self._outgoing.next_deadline()

    def reconnected(self, now: float) -> None:
        """A new websocket is open: send again what is not acknowledged, and what acknowledgements may have been lost."""
        self._acknowledgements = list(self._acknowledge_again(now))
        self._outgoing.reconnected()

    # Figures

    @property
    def round_trip_seconds(self) -> float:
        return self._outgoing.round_trip.smoothed

    @property
    def window(self) -> int:
        return self._outgoing.window.size

    @property
    def retransmissions(self) -> int:
        return self._outgoing.retransmissions

    @property
    def duplicates(self) -> int:
        return self._incoming.duplicates

    # Inside

    def _encode(self, message_type: str, sequence: int, flags: int, payload_type: int, payload: bytes, now: float) -> bytes:
        self._id_low = (self._id_low + 1) & _LOW_HALF
        message_id = self._id_high + self._id_low.to_bytes(8, "big")
        created = int((now + self._epoch_offset) * 1000)
        return Message(message_type, sequence, flags, message_id, created, payload_type, payload).encode()

    def _acknowledgement(self, sequence: int, message_id: bytes, now: float) -> bytes:
        return self._encode(wire.ACKNOWLEDGE, 0, wire.UNSEQUENCED, 0, acknowledgement_of(wire.OUTPUT_STREAM_DATA, sequence, message_id), now)

    def _acknowledge_again(self, now: float, after: int = -1) -> Iterator[bytes]:
        """Acknowledgements of what was received last, from behind a sequence number on."""
        for received in self._acknowledged:
            sequence = int.from_bytes(received[:8], "big")
            if sequence > after:
                yield self._acknowledgement(sequence, received[8:], now)

    def _next_payload(self) -> tuple[int, bytes]:
        """What to send next; empty if nothing may be sent."""
        if self._control:
            return self._control.popleft()
        if not self._may_send or self._handshake is _Handshake.RUNNING:
            return wire.OUTPUT, b""
        limit = self.settings.max_payload
        if self._data:
            if self._cipher is None:
                return wire.OUTPUT, self._data.take(limit)
            return wire.OUTPUT, self._cipher.encrypt(self._data.take(limit - OVERHEAD))
        if self._terminating:
            self._terminating = False
            return wire.FLAG, _TERMINATE_SESSION
        return wire.OUTPUT, b""

    def _receive_stream(self, message: Message, now: float) -> list[Event]:
        self._outgoing.paused = False
        # Messages before their turn are new ones: they say nothing about those that are waited for.
        tells, duplicates = message.sequence <= self._incoming.expected, self._incoming.duplicates
        if not self._incoming.accept(message):
            return []
        self._acknowledgements.append(self._acknowledgement(message.sequence, message.message_id, now))
        if self._incoming.duplicates > duplicates:
            self._repetitions += 1
            if self._repetitions == _MISSED:
                self._repetitions = 0
                self._acknowledgements += self._acknowledge_again(now, message.sequence)
        else:
            self._acknowledged.append(message.sequence.to_bytes(8, "big") + message.message_id)
            if tells:
                self._repetitions = 0
        events: list[Event] = [Resending()] if tells and self._pace.resending(message.created_ms / 1000, now) else []
        for ordered in self._incoming.in_order():
            self._may_send = True
            if self.closed is None:
                try:
                    events += self._deliver(ordered)
                except (EncryptionError, MalformedMessage) as exc:
                    events += self._close(str(exc), clean=False)
        return events

    def _deliver(self, message: Message) -> list[Event]:
        payload_type, payload = message.payload_type, message.payload
        if self._cipher is not None and payload_type in _ENCRYPTED:
            payload = self._cipher.decrypt(payload)
        stream = _STREAMS.get(payload_type)
        if stream is not None:
            self._send_size()
            return [Output(stream, payload)]
        if payload_type == wire.EXIT_CODE:
            found = _EXIT_CODE.fullmatch(payload)
            if found is None:
                raise MalformedMessage("an exit code that cannot be understood")
            return [ExitCode(int(found[1]))]
        if payload_type == wire.HANDSHAKE_REQUEST:
            return self._shake_hands(parse_request(payload))
        if payload_type == wire.ENCRYPTION_CHALLENGE_REQUEST:
            if self._cipher is None:
                raise MalformedMessage("an encryption challenge without encryption")
            answer = self._cipher.encrypt(self._cipher.decrypt(parse_challenge(payload)))
            self._control.append((wire.ENCRYPTION_CHALLENGE_RESPONSE, challenge_response(answer)))
        elif payload_type == wire.HANDSHAKE_COMPLETE:
            self._handshake = _Handshake.COMPLETE
            self._send_size()
        return []

    def _shake_hands(self, request: HandshakeRequest) -> list[Event]:
        self._handshake = _Handshake.RUNNING
        self._request = request
        self.agent_version = request.agent_version
        self.session_type = request.session_type
        wish: EncryptionRequest | None = request.encryption
        if wish is None:
            return self._respond()
        return [DataKeyNeeded(wish.key_id, wish.context(self.session_id, self.target_id))]

    def _respond(self, *, encrypted_key: bytes | None = None, failure: str = "") -> list[Event]:
        if self._request is None:
            raise RuntimeError("a data key was given that nobody asked for")
        payload, failures = response(self._request, encrypted_key=encrypted_key, encryption_failure=failure)
        self._request = None
        self._control.append((wire.HANDSHAKE_RESPONSE, payload))
        self._failure = "; ".join(failures)
        return []

    def _receive_notice(self, message: Message) -> list[Event]:
        """Messages outside the sequence, which nobody acknowledges."""
        if message.message_type == wire.CHANNEL_CLOSED:
            self.closed_by_service = True
            return self._close(_text_field(message.payload, "Output"), clean=True)
        if message.message_type in (wire.PAUSE_PUBLICATION, wire.START_PUBLICATION):
            self._outgoing.paused = message.message_type == wire.PAUSE_PUBLICATION
        elif message.message_type == wire.AGENT_SESSION_STATE:
            self.session_state = _text_field(message.payload, "SessionState")
        return []

    def _close(self, reason: str, *, clean: bool) -> list[Event]:
        if self.closed is not None:
            return []
        if clean and self._failure:
            reason, clean = f"the handshake failed: {self._failure}", False
        elif clean and self._incoming.missing:
            reason, clean = reason or "the session ended before all of its output arrived", False
        self.closed = Closed(reason, clean)
        return [self.closed]

    def _send_size(self) -> None:
        """Tell the terminal's size once, as soon as the agent can be expected to have a terminal."""
        size = self.settings.terminal_size
        if self._size_sent or size is None:
            return
        self._size_sent = True
        self._control.append((wire.SIZE, b'{"cols":%d,"rows":%d}' % size))


def _text_field(payload: bytes, name: str) -> str:
    try:
        value = json.loads(payload).get(name)
    except (ValueError, AttributeError):
        return ""
    return value if isinstance(value, str) else ""
