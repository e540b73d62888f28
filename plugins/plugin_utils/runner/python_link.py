# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialect of node.py: numbered frames over carriers that may lose them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .events import Credit, Event, Exited, Failed, GotFile, Message, Pong, ProtocolError, PutFile, Ready, Stderr, Stdout, Tty
from .frames import EXTENSION, Down, DownEncoder, Frame, Up, decode_up, fields
from .link import Backlog
from .requests import Exec, Put, Request

CAPABILITIES = frozenset({"exec", "put", "get", "tty", "cancel", "ping", "carriers", "extensions", "stream"})

#: Bytes received after which they are acknowledged even if nothing else is to be sent.
ACKNOWLEDGE_AFTER = 65536


class PythonLink:
    def __init__(self, program: bytes, nonce: str, key: int, dead_man: float, window: int, fifo: bool) -> None:
        """``dead_man`` in seconds; ``window``: bytes of output a request may be ahead of its consumer."""
        self._key = key
        self._encoder = DownEncoder()
        self._control: list[bytes] = [program]
        self._backlog = Backlog()
        self._expected = 0  # the sequence number of the next frame
        self._unacknowledged = 0  # bytes
        self._last: dict[int, int] = {}  # carrier -> the last sequence number seen on it
        self._resend_asked = False
        self._carrier = 0
        self._pinged = False
        config = struct.pack("!IIIB", key, round(dead_man * 1000), window, fifo)
        self._frame(Down.CONFIG, 0, config + nonce.encode())

    # To the node

    def _frame(self, type_: int, id_: int = 0, payload: bytes = b"", *, compress: bool = False) -> None:
        self._control.append(self._encoder.encode(type_, id_ & 0xFFFFFFFF, payload, compress=compress))

    def submit(self, request: Request) -> None:
        if isinstance(request, Exec):
            flags = request.tty | request.tty_stdin << 1
            pairs = [part for pair in request.env.items() for part in pair]
            payload = struct.pack("!BHH", flags, len(request.argv), len(request.env))
            self._frame(Down.EXEC, request.id, payload + fields([request.cwd, *request.argv, *pairs]), compress=True)
        elif isinstance(request, Put):
            mode = 0xFFFFFFFF if request.mode is None else request.mode & 0o7777
            self._frame(Down.PUT, request.id, struct.pack("!IQ", mode, request.size) + request.path)
        else:
            self._frame(Down.GET, request.id, request.path)

    def data(self, id_: int, data: bytes) -> None:
        self._backlog.add(id_, data)

    def eof(self, id_: int, sha256: bytes) -> None:
        self._backlog.end(id_, sha256)

    def tty_input(self, id_: int, data: bytes) -> None:
        self._frame(Down.TTY_INPUT, id_, data)

    def extension(self, type_: int, id_: int, payload: bytes) -> None:
        self._frame(type_, id_, payload, compress=True)

    def load(self, name: str, source: bytes) -> None:
        self._frame(Down.LOAD, 0, name.encode() + b"\0" + source, compress=True)

    def cancel(self, id_: int) -> None:
        self._backlog.drop(id_)
        self._frame(Down.CANCEL, id_)

    def drop(self, id_: int) -> None:
        self._backlog.drop(id_)

    def credit(self, id_: int, size: int) -> None:
        self._frame(Down.CREDIT, id_, struct.pack("!I", size))

    def use(self, carrier: int) -> None:
        self._carrier = carrier
        self._frame(Down.ACK, self._expected)
        self._frame(Down.USE, carrier)

    def offer(self, carrier: int) -> None:
        self._frame(Down.FIFO, carrier)

    def ping(self) -> None:
        """Also finds what was lost last on a carrier: the answer has a number, and a carrier that gives none is left."""
        if self._pinged and self._carrier:
            self.use(0)
        self._pinged = True
        self._resend_asked = False
        self._unacknowledged = 0
        self._frame(Down.PING, self._expected)

    def shutdown(self) -> None:
        self._frame(Down.SHUTDOWN)

    def take(self, limit: int) -> bytes:
        if self._unacknowledged and (self._control or self._backlog or self._unacknowledged >= ACKNOWLEDGE_AFTER):
            self._unacknowledged = 0
            self._frame(Down.ACK, self._expected)
        parts, self._control = self._control, []
        size = sum(map(len, parts))
        while size < limit and self._backlog:
            id_, chunk, end = self._backlog.pop()
            if chunk is not None:
                parts.append(self._encoder.encode(Down.DATA, id_, chunk, compress=True))
                size += len(parts[-1])
            if end is not None:
                parts.append(self._encoder.encode(Down.EOF, id_, end))
        return b"".join(parts)

    # From the node

    def receive(self, line: bytes, carrier: int) -> Iterator[Event]:
        frame = decode_up(line, self._key)
        if frame is None:
            return
        ahead = _difference(frame.sequence, self._expected)
        last = self._last.get(carrier)
        if last is not None and _difference(frame.sequence, last) <= 0:
            self._resend_asked = False  # the carrier went back: what follows is what was asked for
        self._last[carrier] = frame.sequence
        if ahead > 0 and not self._resend_asked:
            # From when it is used, a carrier brings every frame from the oldest unacknowledged one on: this is a loss.
            self._resend_asked = True
            self._frame(Down.RESEND, self._expected)
        if ahead:
            return
        self._expected = (self._expected + 1) & 0xFFFFFFFF
        self._resend_asked = False
        self._unacknowledged += len(line)
        yield self._event(frame)

    def _event(self, frame: Frame) -> Event:
        id_, payload = frame.id, frame.payload
        match frame.type:
            case Up.STDOUT:
                return Stdout(id_, payload)
            case Up.STDERR:
                return Stderr(id_, payload)
            case Up.TTY:
                return Tty(id_, payload)
            case Up.GRANT:
                return Credit(id_, int.from_bytes(payload, "big"))
            case Up.EXIT:
                code, out, err, _tty, left_open = struct.unpack("!iQQQB", payload)
                signal = -code if code < 0 else None
                return Exited(id_, code if signal is None else 128 + signal, signal, out, err, bool(left_open))
            case Up.STORED:
                (size,) = struct.unpack_from("!Q", payload)
                return PutFile(id_, size, payload[8:])
            case Up.FILE:
                size, mode = struct.unpack_from("!QI", payload)
                return GotFile(id_, size, mode, payload[12:])
            case Up.FAILED:
                code_name, _unused, text = payload.partition(b"\0")
                return Failed(id_, code_name.decode(), text.decode("utf-8", "surrogateescape"))
            case Up.PONG:
                self._pinged = False
                return Pong()
            case Up.HELLO:
                version, executable, platform, pid, uid, user, home = payload.decode("utf-8", "surrogateescape").split("\0")
                return Ready("python", version, executable, platform, user, home, int(uid), int(pid), CAPABILITIES)
            case Up.FATAL:
                return ProtocolError(f"the runner on the node ended by an error: {payload.decode('utf-8', 'replace')}")
            case other if other >= EXTENSION:
                return Message(id_, other, payload)
            case other:
                return ProtocolError(f"the runner sent a frame of the unknown type {other}")


def _difference(one: int, other: int) -> int:
    """``one - other`` for numbers that count modulo 2^32 and are near each other."""
    return ((one - other + 0x80000000) & 0xFFFFFFFF) - 0x80000000
