# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of control and data channels: one binary websocket frame each, big-endian.

The layout stands in the project's PROTOCOL notes (read from the agent's public source). This codec is the lab's own, so
that a mistake here and one in the collection's do not hide each other; recorded traffic tests both.
"""

from __future__ import annotations

import hashlib
import struct
import time
import uuid
from dataclasses import dataclass, field
from enum import IntEnum

_HEADER_LENGTH = 116  #: counts from behind the header length itself up to the payload length
_HEAD = struct.Struct(">I32sIQQQ16s32sII")
_TYPE = slice(4, 36)


class PayloadType(IntEnum):
    """What the payload of a stream message is."""

    NONE = 0
    OUTPUT = 1
    ERROR = 2
    SIZE = 3
    PARAMETER = 4
    HANDSHAKE_REQUEST = 5
    HANDSHAKE_RESPONSE = 6
    HANDSHAKE_COMPLETE = 7
    ENCRYPTION_CHALLENGE_REQUEST = 8
    ENCRYPTION_CHALLENGE_RESPONSE = 9
    FLAG = 10
    STDERR = 11
    EXIT_CODE = 12


class MalformedMessage(ValueError):
    """A frame that is no message: too short, wrong lengths, or a digest that does not fit."""


@dataclass(frozen=True)
class Message:
    """One message; `created_ms` is in milliseconds since the epoch."""

    message_type: str
    payload: bytes = b""
    sequence_number: int = 0
    flags: int = 0
    payload_type: int = 0
    message_id: uuid.UUID = field(default_factory=uuid.uuid4)
    created_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    schema_version: int = 1

    def encode(self) -> bytes:
        """The frame."""
        identity = self.message_id.bytes
        return (
            _HEAD.pack(
                _HEADER_LENGTH,
                self.message_type.encode("ascii").ljust(32),
                self.schema_version,
                self.created_ms,
                self.sequence_number,
                self.flags,
                identity[8:] + identity[:8],
                hashlib.sha256(self.payload).digest(),
                self.payload_type,
                len(self.payload),
            )
            + self.payload
        )


def decode(frame: bytes) -> Message:
    """Parse a frame; raises `MalformedMessage`."""
    if len(frame) < _HEAD.size:
        raise MalformedMessage(f"a frame of {len(frame)} bytes has no room for the header of {_HEAD.size}")
    header_length, name, schema, created, sequence, flags, identity, digest, kind, length = _HEAD.unpack_from(frame)
    if header_length != _HEADER_LENGTH:
        raise MalformedMessage(f"header length {header_length}, not {_HEADER_LENGTH}")
    payload = frame[_HEAD.size :]
    if len(payload) != length:
        raise MalformedMessage(f"payload of {len(payload)} bytes, announced {length}")
    if hashlib.sha256(payload).digest() != digest:
        raise MalformedMessage("the payload's digest does not fit")
    return Message(
        message_type=name.decode("ascii", "replace").strip(" \0"),
        payload=payload,
        sequence_number=sequence,
        flags=flags,
        payload_type=kind,
        message_id=uuid.UUID(bytes=identity[8:] + identity[:8]),
        created_ms=created,
        schema_version=schema,
    )


def message_type_of(frame: bytes) -> bytes:
    """The type of a frame without parsing the rest: the relay looks at nothing else."""
    return frame[_TYPE].rstrip(b" \0")
