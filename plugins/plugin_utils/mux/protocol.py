# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames between a worker and the mux, on a unix socket.

A frame is one byte of type, four bytes of length (big-endian) and a payload: bytes for the data types, a JSON object
for all others. One request runs on a socket at a time; its answer ends with `EXITED`, `DONE`, `ANSWER` or `ERROR`.

Commands and paths are bytes on the node; inside JSON they are text by `surrogateescape`.

Input to a command (`INPUT`) is sent only within the credit that the mux granted, so the mux never has to stop reading
the socket and sees its end at once: that end is how a request is cancelled. Output needs no credit here, because a worker
always reads; the mux slows the node down when the socket's buffer fills.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator
from typing import Any

VERSION = 3
"""Version of these frames; a change makes old and new processes refuse each other and start anew."""

ANY_CODE = ""
"""Stands for the digest in the greeting of one who only wants to look or to stop."""

HEADER = struct.Struct("!BI")
MAXIMUM = 64 * 1024 * 1024
"""Longest payload in bytes; a longer length is a broken peer."""

FIRST_CREDIT = 1024 * 1024
"""Bytes of input that a worker may send before the first `CREDIT`."""

LARGEST_PAYLOAD = 4 * 1024 * 1024
"""Bytes of a command's input that are sent as a PAYLOAD; what is larger goes as INPUT, piece by piece. The mux keeps a payload while it is sent."""

CHUNK = 128 * 1024
"""Bytes of data put into one frame."""


class FrameType(enum.IntEnum):
    """What a frame is. Below 64: worker to mux; from 64 on: mux to worker."""

    HELLO = 1  # version, digest
    OPEN = 2  # options, environment, reason: be connected to a node
    EXEC = 3  # command, tty, takes_input, needs_tty, has_payload, warm, secret, tell_start, private
    PUT = 4  # path, mode, size, sha256, private
    GET = 5  # path, private
    INPUT = 6  # bytes for stdin, or of the file
    INPUT_END = 7
    TTY_INPUT = 8  # bytes typed at the command's controlling terminal
    CANCEL = 9
    RESET = 10  # options, environment: the next request gets a new session
    STATUS = 11
    STOP = 12
    RETIRE = 13  # take no new workers, end when the present ones have gone
    PAYLOAD = 14  # bytes of an EXEC with has_payload, right after it: input that follows the INPUT frames

    WELCOME = 64  # version, digest, pid
    OPENED = 65  # user, home, uid, python, executable, kind, platform, node, region, session, document, needs_tty, salt, interactive
    STDOUT = 66
    STDERR = 67
    TTY = 68
    CREDIT = 69  # bytes of input that may be sent in addition
    EXITED = 70  # returncode, signal
    DONE = 71  # size, sha256, mode
    ANSWER = 72  # of STATUS, RESET, STOP, RETIRE
    ERROR = 73  # kind, message
    NOTE = 74  # text for a person at verbosity
    STARTED = 75  # the node has confirmed an EXEC with tell_start; again, if it is started in another way


DATA_TYPES = frozenset(
    (FrameType.INPUT, FrameType.PAYLOAD, FrameType.TTY_INPUT, FrameType.STDOUT, FrameType.STDERR, FrameType.TTY)
)


class ErrorKind(enum.StrEnum):
    """What an `ERROR` means for the task."""

    UNREACHABLE = "unreachable"  # no connection to the node, nothing was run
    UNKNOWN_OUTCOME = "unknown_outcome"  # the request may have run; it was not sent again
    FAILED = "failed"  # the node or the mux refused this request; the connection is fine
    NOT_FOUND = "not_found"  # the file of a PUT or GET does not exist
    OPTION = "option"  # an option has a value that cannot be used
    VERSION = "version"  # the mux runs other code than the worker
    RETIRED = "retired"  # the mux is about to end: start another
    REPEAT = "repeat"  # nothing was run: ask again from the beginning, without warm


class ProtocolError(Exception):
    """The peer does not speak this protocol."""


def encode(kind: FrameType, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """A data frame."""
    return HEADER.pack(kind, len(payload)) + payload


def encode_json(frame: FrameType, /, **fields: Any) -> bytes:
    """A frame whose payload is a JSON object."""
    payload = json.dumps(fields, separators=(",", ":")).encode()
    return HEADER.pack(frame, len(payload)) + payload


def encode_credit(count: int) -> bytes:
    """Grant ``count`` more bytes of input."""
    return HEADER.pack(FrameType.CREDIT, 4) + struct.pack("!I", count)


def decode_credit(payload: bytes) -> int:
    """The count of a `CREDIT` frame."""
    if len(payload) != 4:
        raise ProtocolError(f"credit of {len(payload)} bytes")
    return int.from_bytes(payload, "big")


def decode_json(payload: bytes) -> dict[str, Any]:
    """The fields of a JSON frame."""
    try:
        fields = json.loads(payload)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError("not a JSON object")
    return fields


class Decoder:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[FrameType, bytes]]:
        """Take bytes, give each frame that is complete.

        :raises ProtocolError: for a type or a length that no peer of ours sends.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= HEADER.size:
                number, length = HEADER.unpack_from(buffer, start)
                if length > MAXIMUM:
                    raise ProtocolError(f"frame of {length} bytes")
                end = start + HEADER.size + length
                if len(buffer) < end:
                    break
                try:
                    kind = FrameType(number)
                except ValueError as error:
                    raise ProtocolError(f"frame of type {number}") from error
                payload = bytes(memoryview(buffer)[start + HEADER.size : end])
                start = end
                yield kind, payload
        finally:
            del buffer[:start]

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)
