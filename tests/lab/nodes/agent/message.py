# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary message of control and data channels (PROTOCOL.md, "Message on a data channel").

Written for speed: one `struct` for the whole header, no object for an acknowledgement that is sent.
"""

from __future__ import annotations

import hashlib
import random
import struct
import time
from typing import NamedTuple

INPUT_STREAM_DATA = b"input_stream_data"
OUTPUT_STREAM_DATA = b"output_stream_data"
ACKNOWLEDGE = b"acknowledge"
CHANNEL_CLOSED = b"channel_closed"
START_PUBLICATION = b"start_publication"
PAUSE_PUBLICATION = b"pause_publication"
AGENT_SESSION_STATE = b"agent_session_state"
INTERACTIVE_SHELL = b"interactive_shell"
AGENT_TASK_COMPLETE = b"agent_task_complete"
AGENT_TASK_ACKNOWLEDGE = b"agent_task_acknowledge"
AGENT_JOB = b"agent_job"
AGENT_JOB_ACK = b"agent_job_ack"
AGENT_JOB_REPLY = b"agent_job_reply"
AGENT_JOB_REPLY_ACK = b"agent_job_reply_ack"

OUTPUT = 1
SIZE = 3
HANDSHAKE_REQUEST = 5
HANDSHAKE_RESPONSE = 6
HANDSHAKE_COMPLETE = 7
CHALLENGE_REQUEST = 8
CHALLENGE_RESPONSE = 9
FLAG = 10
STDERR = 11
EXIT_CODE = 12

SYN = 1
NOT_STREAM = 3  #: what acknowledgements and session states carry as flags

_HEADER = struct.Struct(">I32sIQqQ16s32sII")
_HEADER_LENGTH = 116
_MIN_HEADER_LENGTH = 112
_PADDED = {kind: kind.ljust(32) for kind in (OUTPUT_STREAM_DATA, ACKNOWLEDGE, AGENT_SESSION_STATE, AGENT_TASK_COMPLETE)}
_ACKNOWLEDGEMENT = (
    b'{"AcknowledgedMessageType":"%s","AcknowledgedMessageId":"%s",'
    b'"AcknowledgedMessageSequenceNumber":%d,"IsSequentialMessage":true}'
)


class MessageError(ValueError):
    """Bytes that are no message."""


class Message(NamedTuple):
    kind: bytes
    sequence: int
    flags: int
    message_id: bytes  #: 16 bytes, as on the wire
    payload_type: int
    payload: bytes


def new_message_id() -> bytes:
    """A random UUID (version 4), as on the wire: its low eight bytes first."""
    bits = random.getrandbits(128)
    bits = bits & ~(0xF000 << 64) | (4 << 76)
    bits = bits & ~(0xC000 << 48) | (0x8000 << 48)
    return (bits & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big") + (bits >> 64).to_bytes(8, "big")


def id_text(message_id: bytes) -> bytes:
    """The usual text of a message id: hexadecimal groups of 8-4-4-4-12."""
    digits = (message_id[8:] + message_id[:8]).hex().encode()
    return b"%s-%s-%s-%s-%s" % (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])


def pack(
    kind: bytes,
    payload: bytes,
    *,
    sequence: int = 0,
    flags: int = NOT_STREAM,
    payload_type: int = 0,
    message_id: bytes | None = None,
) -> bytes:
    """The bytes of one message, made now."""
    header = _HEADER.pack(
        _HEADER_LENGTH,
        _PADDED.get(kind) or kind.ljust(32),
        1,
        int(time.time() * 1000),
        sequence,
        flags,
        message_id or new_message_id(),
        hashlib.sha256(payload).digest(),
        payload_type,
        len(payload),
    )
    return header + payload


def pack_acknowledgement(message: Message) -> bytes:
    """The acknowledgement of a stream message that was received."""
    return pack(ACKNOWLEDGE, _ACKNOWLEDGEMENT % (message.kind, id_text(message.message_id), message.sequence))


def unpack(data: bytes) -> Message:
    """The message in one binary frame.

    As the agent, this does not compare the digest, and takes headers without a payload type.
    """
    if len(data) < _HEADER_LENGTH:
        raise MessageError(f"{len(data)} bytes are too few for a message")
    if len(data) >= _HEADER.size:
        length, kind, _schema, _created, sequence, flags, message_id, _digest, payload_type, size = _HEADER.unpack_from(
            data
        )
        if length == _HEADER_LENGTH:
            return Message(kind.strip(b" \0"), sequence, flags, message_id, payload_type, data[120 : 120 + size])
    (length,) = struct.unpack_from(">I", data)
    if not _MIN_HEADER_LENGTH <= length <= len(data) - 4:
        raise MessageError(f"a header of {length} bytes in a message of {len(data)}")
    kind = data[4:36].strip(b" \0")
    sequence, flags = struct.unpack_from(">qQ", data, 48)
    (size,) = struct.unpack_from(">I", data, length)
    return Message(kind, sequence, flags, data[64:80], 0, data[length + 4 : length + 4 + size])


def created_ms(data: bytes) -> int:
    """When the message in a frame was made, in milliseconds since the epoch; for frames that `unpack` takes."""
    (created,) = struct.unpack_from(">Q", data, 40)
    return int(created)
