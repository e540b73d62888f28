# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames between the controller and the runner on a node, both directions. No I/O, no clock.

To the node, over the PTY's input, which is 8-bit clean and reliable in raw mode::

    length of the payload, 4 bytes | type, 1 | id, 4 | CRC, 4 | payload

all big-endian. The CRC-32 covers the first nine bytes and the payload, and starts from the number of the frame: a frame
lost or doubled on the way is noticed like a damaged one. Any of these ends the channel, since nothing may be guessed.

To the controller, over one of several carriers, each of which may lose, damage or add bytes (the agent damages the
sequence EF BF BD and holds back an incomplete UTF-8 end; banners and messages come in between)::

    escaped(sequence number, 4 bytes | type, 1 | id, 4 | payload) | CRC of the unescaped, 8 hex digits | newline

Escaped are 0x10, newline and 0xEF, so that a newline ends a frame wherever reading starts, and a frame ends with nine
ASCII bytes. The CRC-32 starts from a key the client chose: nobody else on the node can make a frame. What is no frame
between two newlines is passed over; what is missing is seen by the sequence number and sent again.

In both directions bit 7 of the type says that the payload is compressed (zlib).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

COMPRESSED = 0x80
#: Types from here on, both ways, belong to what LOAD brought.
EXTENSION = 0x40

#: Payload bytes of one frame, before compression.
CHUNK = 32768
#: A line longer than this is no frame: a full chunk, all of it escaped, and some air.
LONGEST_LINE = 3 * CHUNK

_DOWN = struct.Struct("!IBI")
_UP = struct.Struct("!IBI")


class Down(IntEnum):
    """Types of frames to the node."""

    CONFIG = 0
    EXEC = 1
    DATA = 2
    EOF = 3
    TTY_INPUT = 4
    PUT = 5
    GET = 6
    CANCEL = 7
    CREDIT = 8
    ACK = 9
    RESEND = 10
    FIFO = 11
    USE = 12
    PING = 13
    SHUTDOWN = 14
    LOAD = 15


class Up(IntEnum):
    """Types of frames to the controller."""

    HELLO = 0
    STDOUT = 1
    STDERR = 2
    TTY = 3
    GRANT = 4
    EXIT = 5
    STORED = 6
    FILE = 7
    FAILED = 8
    PONG = 9
    FATAL = 10


@dataclass(frozen=True)
class Frame:
    """A frame from the node. ``type`` is an ``Up`` or the number of an extension; ``sequence`` counts modulo 2^32."""

    sequence: int
    type: int
    id: int
    payload: bytes


class DownEncoder:
    """Makes the stream of frames to the node; frames must be written in the order they were made."""

    def __init__(self) -> None:
        self._count = 0

    def encode(self, type_: int, id_: int = 0, payload: bytes = b"", *, compress: bool = False) -> bytes:
        if compress and len(payload) >= 512:
            small = zlib.compress(payload, 1)
            if len(small) < len(payload) * 0.9:
                type_, payload = type_ | COMPRESSED, small
        head = _DOWN.pack(len(payload), type_, id_)
        check = zlib.crc32(payload, zlib.crc32(head, self._count))
        self._count = (self._count + 1) & 0xFFFFFFFF
        return head + check.to_bytes(4, "big") + payload


def fields(values: Sequence[bytes]) -> bytes:
    """Each value behind its length in 4 bytes."""
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def encode_up(frame: Frame, key: int) -> bytes:
    """A frame as the node writes it (the node has its own encoder; this one is for tests and for other senders)."""
    body = _UP.pack(frame.sequence, frame.type, frame.id) + frame.payload
    escaped = body.replace(b"\x10", b"\x10P").replace(b"\n", b"\x10J").replace(b"\xef", b"\x10o")
    return escaped + b"%08x\n" % zlib.crc32(body, key)


def decode_up(line: bytes, key: int) -> Frame | None:
    """The frame of one line without its newline, or None if it is none."""
    if len(line) < 17:
        return None
    body, check = line[:-8], line[-8:]
    body = body.replace(b"\x10J", b"\n").replace(b"\x10o", b"\xef").replace(b"\x10P", b"\x10")
    try:
        if len(body) < 9 or zlib.crc32(body, key) != int(check, 16):
            return None
        sequence, type_, id_ = _UP.unpack_from(body)
        payload = body[9:]
        if type_ & COMPRESSED:
            type_, payload = type_ & ~COMPRESSED, zlib.decompress(payload)
    except (ValueError, zlib.error):
        return None
    return Frame(sequence, type_, id_, payload)


class LineSplitter:
    """Cuts what a carrier delivers into lines without their newlines, and drops a line that never ends."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._overlong = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = b"".join([*self._parts, line]) if self._parts else line
            overlong, self._parts, self._size, self._overlong = self._overlong, [], 0, False
            if whole and not overlong:
                yield whole
        if rest:
            self._size += len(rest)
            if self._size > LONGEST_LINE:
                self._parts, self._overlong = [], True
            else:
                self._parts.append(rest)
