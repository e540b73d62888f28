# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of a data channel, as its source has it, for tests: it orders, acknowledges after processing, and
resends only its oldest message, looked at every 100 ms. It shares the client's codec (which the recorded traffic
proves) and nothing else."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections import deque

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel import message as wire
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.message import Message

RESEND_INTERVAL = 0.1
RESEND_TIMEOUT = 0.2


class Agent:
    """``input`` is what the session got; ``send`` makes output. Time is passed in, in seconds."""

    def __init__(self, *, session_type: str = "", kms_key: str = "", data_key: bytes = b"", challenge: str = "") -> None:
        self.input = bytearray()
        self.sizes: list[dict[str, int]] = []
        self.flags: list[int] = []
        self.handshake_responses: list[dict[str, object]] = []
        self.handshake_running = bool(session_type)
        self.encrypted = False
        self.published = True
        self.received_sequences: list[int] = []
        self._data_key = data_key
        self._challenge_text = os.urandom(64)
        self._expected = 0
        self._early: dict[int, Message] = {}
        self._sequence = 0
        self._unacknowledged: deque[list[object]] = deque()  # [sequence, frame, sent at]
        self._fresh: list[bytes] = []
        self._next_look = 0.0
        if session_type:
            actions: list[dict[str, object]] = [{"ActionType": "SessionType", "ActionParameters": {"SessionType": session_type, "Properties": None}}]
            if kms_key:
                parameters = {"KMSKeyId": kms_key, **({"Challenge": challenge} if challenge else {})}
                actions.append({"ActionType": "KMSEncryption", "ActionParameters": parameters})
            self._json(wire.HANDSHAKE_REQUEST, {"AgentVersion": "3.3.0.0", "RequestedClientActions": actions})

    def send(self, data: bytes, payload_type: int = wire.OUTPUT) -> None:
        if self.encrypted and payload_type in (wire.OUTPUT, wire.STDERR, wire.EXIT_CODE):
            nonce = os.urandom(12)
            data = nonce + AESGCM(self._data_key[:32]).encrypt(nonce, data, None)
        flags = wire.SYN if self._sequence == 0 else 0
        frame = Message(wire.OUTPUT_STREAM_DATA, self._sequence, flags, os.urandom(16), 1, payload_type, data).encode()
        self._unacknowledged.append([self._sequence, frame, None])
        self._sequence += 1
        self._fresh.append(frame)

    @property
    def drained(self) -> bool:
        return not self._unacknowledged

    def frames(self, now: float) -> list[bytes]:
        """Frames to send; while publication is paused only acknowledgements are."""
        fresh, self._fresh = self._fresh, []
        for entry in self._unacknowledged:
            if entry[2] is None:
                entry[2] = now
        if now >= self._next_look and self.published:
            self._next_look = now + RESEND_INTERVAL
            if self._unacknowledged and now - float(str(self._unacknowledged[0][2])) > RESEND_TIMEOUT:
                self._unacknowledged[0][2] = now
                frame = self._unacknowledged[0][1]
                assert isinstance(frame, bytes)
                fresh.append(frame)
        return fresh

    def receive(self, frame: bytes) -> None:
        message = wire.decode(frame)
        if message.message_type == wire.ACKNOWLEDGE:
            self.published = True
            sequence = json.loads(message.payload)["AcknowledgedMessageSequenceNumber"]
            self._unacknowledged = deque(entry for entry in self._unacknowledged if entry[0] != sequence)
        elif message.message_type == wire.INPUT_STREAM_DATA:
            self.published = True
            self.received_sequences.append(message.sequence)
            if message.sequence > self._expected:
                self._early[message.sequence] = message
            elif message.sequence == self._expected:
                self._process(message)
                self._expected += 1
                while (early := self._early.pop(self._expected, None)) is not None:
                    self._process(early)
                    self._expected += 1
            self._acknowledge(message)
        elif message.message_type in (wire.PAUSE_PUBLICATION, wire.START_PUBLICATION):
            self.published = message.message_type == wire.START_PUBLICATION

    def _process(self, message: Message) -> None:
        payload = message.payload
        if message.payload_type == wire.HANDSHAKE_RESPONSE:
            self._answered(json.loads(payload))
        elif message.payload_type == wire.ENCRYPTION_CHALLENGE_RESPONSE:
            assert self._decrypt(b64decode(json.loads(payload)["Challenge"])) == self._challenge_text
            self._complete()
        elif self.handshake_running:
            pass  # a real agent, too, acknowledges such input and forgets it
        elif message.payload_type == wire.OUTPUT:
            self.input += self._decrypt(payload) if self.encrypted else payload
        elif message.payload_type == wire.SIZE:
            self.sizes.append(json.loads(payload))
        elif message.payload_type == wire.FLAG:
            self.flags.append(int.from_bytes(payload, "big"))

    def _answered(self, response: dict[str, object]) -> None:
        self.handshake_responses.append(response)
        actions = response["ProcessedClientActions"]
        assert isinstance(actions, list)
        if any(action["ActionStatus"] != 1 for action in actions):
            return
        if self._data_key:
            self.encrypted = True
            nonce = os.urandom(12)
            challenge = nonce + AESGCM(self._data_key[:32]).encrypt(nonce, self._challenge_text, None)
            self._json(wire.ENCRYPTION_CHALLENGE_REQUEST, {"Challenge": b64encode(challenge).decode()})
        else:
            self._complete()

    def _complete(self) -> None:
        self._json(wire.HANDSHAKE_COMPLETE, {"HandshakeTimeToComplete": 1677124, "CustomerMessage": ""})
        self.handshake_running = False

    def _decrypt(self, payload: bytes) -> bytes:
        return AESGCM(self._data_key[32:]).decrypt(payload[:12], payload[12:], None)

    def _json(self, payload_type: int, content: dict[str, object]) -> None:
        self.send(json.dumps(content).encode(), payload_type)

    def _acknowledge(self, message: Message) -> None:
        content = {
            "AcknowledgedMessageType": message.message_type,
            "AcknowledgedMessageId": message.message_id.hex(),
            "AcknowledgedMessageSequenceNumber": message.sequence,
            "IsSequentialMessage": True,
        }
        self._fresh.append(notice(wire.ACKNOWLEDGE, content, flags=wire.UNSEQUENCED))


def notice(message_type: str, content: dict[str, object], *, flags: int = 0) -> bytes:
    """A message outside the sequence."""
    return Message(message_type, 0, flags, os.urandom(16), 1, 0, json.dumps(content).encode()).encode()


def closed(output: str = "") -> bytes:
    """The service's last message."""
    return notice(wire.CHANNEL_CLOSED, {"MessageType": "channel_closed", "SchemaVersion": 1, "Output": output})
