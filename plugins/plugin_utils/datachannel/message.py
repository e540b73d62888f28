# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary message of a data channel: every websocket frame after the opening one is one such message.

The layout, big-endian: header length (always 116), type padded with spaces, schema version, created date in
milliseconds, sequence number, flags, message id with its low half first, SHA-256 of the payload, payload type,
payload length, payload.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

SYN: Final = 1
FIN: Final = 2
# Messages outside the sequence (acknowledgements, session states) carry both flags and the sequence number 0.
UNSEQUENCED: Final = SYN | FIN

INPUT_STREAM_DATA: Final = "input_stream_data"
OUTPUT_STREAM_DATA: Final = "output_stream_data"
ACKNOWLEDGE: Final = "acknowledge"
CHANNEL_CLOSED: Final = "channel_closed"
START_PUBLICATION: Final = "start_publication"
PAUSE_PUBLICATION: Final = "pause_publication"
AGENT_SESSION_STATE: Final = "agent_session_state"

OUTPUT: Final = 1
ERROR: Final = 2
SIZE: Final = 3
PARAMETER: Final = 4
HANDSHAKE_REQUEST: Final = 5
HANDSHAKE_RESPONSE: Final = 6
HANDSHAKE_COMPLETE: Final = 7
ENCRYPTION_CHALLENGE_REQUEST: Final = 8
ENCRYPTION_CHALLENGE_RESPONSE: Final = 9
FLAG: Final = 10
STDERR: Final = 11
EXIT_CODE: Final = 12

_HEADER: Final = Struct(">I32sIQqQ8s8s32sII")
_HEADER_LENGTH: Final = 116
_SCHEMA_VERSION: Final = 1

_PADDED: Final = {
    name: name.encode("ascii").ljust(32)
    for name in (
        INPUT_STREAM_DATA,
        OUTPUT_STREAM_DATA,
        ACKNOWLEDGE,
        CHANNEL_CLOSED,
        START_PUBLICATION,
        PAUSE_PUBLICATION,
        AGENT_SESSION_STATE,
    )
}
_NAMES: Final = {padded: name for name, padded in _PADDED.items()}
# The agent and the client of AWS accept these two whatever their header says, so their digest means nothing.
_UNCHECKED: Final = frozenset({START_PUBLICATION, PAUSE_PUBLICATION})


class MalformedMessage(ValueError):
    """A frame that is not a message, or whose payload is not what its digest says."""


class Message(NamedTuple):
    """One message; :meth:`encode` and :func:`decode` are each other's inverse."""

    message_type: str
    sequence: int
    flags: int
    message_id: bytes  # 16 bytes in the order of the UUID's text
    created_ms: int  # since 1970
    payload_type: int
    payload: bytes

    def encode(self) -> bytes:
        """The frame to send."""
        payload = self.payload
        message_id = self.message_id
        return (
            _HEADER.pack(
                _HEADER_LENGTH,
                _PADDED.get(self.message_type) or self.message_type.encode("ascii").ljust(32),
                _SCHEMA_VERSION,
                self.created_ms,
                self.sequence,
                self.flags,
                message_id[8:],
                message_id[:8],
                sha256(payload).digest(),
                self.payload_type,
                len(payload),
            )
            + payload
        )


def decode(frame: bytes) -> Message:
    """Read one binary frame; raises :class:`MalformedMessage`."""
    if len(frame) < _HEADER.size:
        raise MalformedMessage(f"a frame of {len(frame)} bytes is shorter than a header")
    header_length, padded, _schema, created, sequence, flags, low, high, digest, payload_type, length = _HEADER.unpack_from(frame)
    if header_length != _HEADER_LENGTH:
        raise MalformedMessage(f"the header's length is {header_length}, not {_HEADER_LENGTH}")
    payload = frame[_HEADER.size :]
    if len(payload) != length:
        raise MalformedMessage(f"the payload has {len(payload)} bytes and should have {length}")
    name = _NAMES.get(padded) or padded.rstrip(b" \0").decode("latin-1")
    if payload and sha256(payload).digest() != digest and name not in _UNCHECKED:
        raise MalformedMessage(f"the payload of {name} {sequence} does not match its digest")
    return Message(name, sequence, flags, high + low, created, payload_type, payload)
