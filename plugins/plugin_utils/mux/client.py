# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's end of the mux: synchronous, with as few imports as can be, since each task of each host pays for them."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from . import start
from .protocol import (
    CHUNK,
    DATA_TYPES,
    FIRST_CREDIT,
    Decoder,
    ErrorKind,
    FrameType,
    ProtocolError,
    decode_credit,
    decode_json,
    encode,
    encode_json,
)
from .request import ConnectionOptions

SILENCE_MARGIN = 60.0
"""Seconds beyond the option `silence_timeout` after which a mux that says nothing at all is given up; it sends signs of life while a request runs."""


_LOOK_AROUND = 2.0
"""Seconds between looks whether the process that this worker works for still lives."""


class MuxError(Exception):
    """A request failed; ``kind`` says what that means for the task."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class MuxGone(MuxError):
    """The mux ended in the middle of a request."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNKNOWN_OUTCOME, message)


class Exchange:
    """One request on a client's socket: give it input, take its events until the last one."""

    def __init__(self, client: MuxClient, opening: bytes, *, takes_input: bool = False) -> None:
        self._client = client
        self._out = bytearray(opening)
        self._credit = FIRST_CREDIT
        self._source: BinaryIO | None = None
        self._given = bytearray()
        self._input_ended = not takes_input
        self._ended = False
        self.finished = False

    def give(self, data: bytes) -> None:
        """Queue bytes for the command's stdin."""
        self._given += data

    def give_file(self, source: BinaryIO) -> None:
        """Send a file's content as input, read as it goes out, and end the input with it."""
        self._source = source
        self._ended = True

    def end_input(self) -> None:
        """No more input will be given."""
        self._ended = True

    def give_tty(self, data: bytes) -> None:
        """Type at the command's controlling terminal."""
        self._out += encode(FrameType.TTY_INPUT, data)

    def cancel(self) -> None:
        """Ask the node to end the command; its last event still comes."""
        self._out += encode_json(FrameType.CANCEL)

    def next_event(self, timeout: float | None = None) -> tuple[FrameType, Any] | None:
        """The next event: `(STDOUT | STDERR | TTY, bytes)`, or `(kind, fields)`; `None` after ``timeout`` seconds without one.

        :raises MuxError: the request failed, or the mux is gone or silent.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            kind_payload = self._client.take()
            if kind_payload is None:
                self._fill()
                if not self._client.transfer(self._out, deadline):
                    return None
                continue
            kind, payload = kind_payload
            if kind is FrameType.CREDIT:
                self._credit += decode_credit(payload)
            elif kind in DATA_TYPES:
                return kind, payload
            else:
                fields = decode_json(payload)
                if kind is FrameType.NOTE:
                    if fields.get("text"):
                        return kind, fields
                    continue  # a sign of life
                if kind is FrameType.STARTED:
                    return kind, fields
                self.finished = True
                self._client.busy = False
                self._client.unsent = self._out  # of a frame, the rest must follow
                if kind is FrameType.ERROR:
                    raise MuxError(ErrorKind(fields["kind"]), fields["message"])
                return kind, fields

    def _fill(self) -> None:
        """Move input to the outgoing bytes, within the credit and one chunk at a time."""
        if self._input_ended or len(self._out) >= CHUNK:
            return
        room = min(self._credit, CHUNK)
        data: bytes = b""
        if self._source is not None and room:
            data = self._source.read(room)
            if not data:
                self._source = None
        elif self._given and room:
            data = bytes(self._given[:room])
            del self._given[:room]
        if data:
            self._credit -= len(data)
            self._out += encode(FrameType.INPUT, data)
        elif self._ended and not self._given and self._source is None:
            self._input_ended = True
            self._out += encode(FrameType.INPUT_END)


class MuxClient:
    """A greeted connection to the mux, for one request after the other."""

    def __init__(self, peer: socket.socket, *, patience: float) -> None:
        peer.setblocking(False)
        self._peer = peer
        self._decoder = Decoder()
        self._frames: Iterator[tuple[FrameType, bytes]] = iter(())
        self._patience = patience
        self._poll = select.poll()
        self._parent = os.getppid()
        self._look_at = 0.0
        self.busy = False
        self.closed = False
        self.unsent = bytearray()
        """What the last exchange had yet to send when it ended."""

    @classmethod
    def connect(cls, directory: str, *, patience: float) -> MuxClient:
        """Connect to the mux, starting it if need be.

        :param patience: seconds of complete silence of a running request after which the mux is given up.
        :raises MuxError: it cannot be started.
        """
        try:
            peer = start.connect(directory)
        except start.StartError as error:
            raise MuxError(ErrorKind.UNREACHABLE, str(error)) from error
        if peer is None:
            raise AssertionError
        return cls(peer, patience=patience)

    @classmethod
    def connect_if_running(cls, directory: str, *, patience: float) -> MuxClient | None:
        """Connect to the mux; `None` if there is none, or one that hangs and so will be replaced.

        :raises MuxError: there is one that cannot be used.
        """
        try:
            peer = start.connect(directory, start=False)
        except start.Hanging:
            return None
        except start.StartError as error:
            raise MuxError(ErrorKind.UNREACHABLE, str(error)) from error
        return None if peer is None else cls(peer, patience=patience)

    def is_usable(self) -> bool:
        """Whether a further request can be made: nothing runs, and the mux is still at the other end."""
        if self.closed or self.busy:
            return False
        self._poll.register(self._peer, select.POLLIN)
        return not self._poll.poll(0)  # nothing is ever sent without a request: it could only be the end

    def open(self, options: ConnectionOptions, environment: Mapping[str, str], reason: str) -> dict[str, Any]:
        """Be connected to a node; what is known of it: user, home, uid, python, kind, target, region, session, document.

        :raises MuxGone: the mux ended. It runs nothing for this, so another mux may be asked.
        :raises MuxError: the node cannot be reached; the text says why.
        """
        opening = encode_json(FrameType.OPEN, options=options.to_fields(), environment=dict(environment), reason=reason)
        try:
            return self._only_answer(opening)
        except MuxGone as error:
            raise MuxGone("the mux ended while it connected to the node; nothing was run") from error

    def exec(
        self,
        command: str,
        *,
        tty: bool = False,
        takes_input: bool = False,
        needs_tty: bool = False,
        payload: bytes = b"",
        warm: bool = False,
        secret: str = "",
        tell_start: bool = False,
        private: bool = False,
    ) -> Exchange:
        """Start a command; the events are STDOUT, STDERR, TTY and at last EXITED.

        :param needs_tty: the mux is to remember that sudo on this node demands a terminal.
        :param payload: input that the command gets after what is given to the exchange, and after that one's end; at most `LARGEST_PAYLOAD`.
        :param warm: whether a warm interpreter may run it. If that was begun in vain, the error is of the kind REPEAT.
        :param secret: what stands for the become password, hexadecimal.
        :param tell_start: whether STARTED is to come as soon as the node has confirmed that the command began.
        :param private: whether nobody else may ever read command and input (no_log).
        """
        opening = encode_json(
            FrameType.EXEC, command=command, tty=tty, takes_input=takes_input, needs_tty=needs_tty, has_payload=bool(payload), warm=warm, secret=secret,
            tell_start=tell_start, private=private,
        )  # fmt: skip
        if payload:
            opening += encode(FrameType.PAYLOAD, payload)
        return self._begin(opening, takes_input=takes_input)

    def put(self, path: str, *, mode: int | None, size: int, sha256: str | None, private: bool = False) -> Exchange:
        """Write a file on the node; give its content as input. The last event is DONE."""
        return self._begin(encode_json(FrameType.PUT, path=path, mode=mode, size=size, sha256=sha256, private=private), takes_input=True)

    def get(self, path: str, *, private: bool = False) -> Exchange:
        """Read a file of the node; the events are STDOUT and at last DONE with size, sha256 and mode."""
        return self._begin(encode_json(FrameType.GET, path=path, private=private))

    def ask(self, kind: FrameType, **fields: Any) -> dict[str, Any]:
        """STATUS, STOP, RETIRE or RESET, and the mux's answer."""
        return self._only_answer(encode_json(kind, **fields))

    def wait_for_end(self) -> None:
        """Wait until the mux's process has ended, with which the socket of whoever stopped it closes."""
        try:
            while True:
                self.transfer(bytearray(), None)
        except MuxError:
            pass

    def close(self) -> None:
        """Close the socket; a request that still runs is cancelled by that."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):
                self._peer.close()

    def _begin(self, opening: bytes, *, takes_input: bool = False) -> Exchange:
        if self.busy:
            raise AssertionError("one request at a time")
        self.busy = True
        opening, self.unsent = bytes(self.unsent) + opening, bytearray()
        return Exchange(self, opening, takes_input=takes_input)

    def _only_answer(self, opening: bytes) -> dict[str, Any]:
        exchange = self._begin(opening)
        while True:
            event = exchange.next_event()
            if event is None:  # without a time limit
                raise AssertionError
            if exchange.finished:
                return dict(event[1])

    # What an exchange needs of the socket.

    def take(self) -> tuple[FrameType, bytes] | None:
        """The next frame that has arrived, if any."""
        try:
            return next(self._frames, None)
        except ProtocolError as error:
            self.close()
            raise MuxError(ErrorKind.UNKNOWN_OUTCOME, f"the mux sent what cannot be understood: {error}") from error

    def transfer(self, out: bytearray, deadline: float | None) -> bool:
        """Wait until bytes could be moved either way; takes what was sent off ``out``. False at the deadline."""
        if self.closed:
            raise MuxError(ErrorKind.UNKNOWN_OUTCOME, "the connection to the mux is closed")
        limit = time.monotonic() + self._patience if deadline is None else deadline
        self._poll.register(self._peer, select.POLLIN | select.POLLOUT if out else select.POLLIN)
        while True:
            self._look_around()
            if ready := self._poll.poll(min(_LOOK_AROUND, max(0.0, limit - time.monotonic())) * 1000):
                break
            if time.monotonic() < limit:
                continue
            if deadline is not None:
                return False
            self.close()
            raise MuxError(ErrorKind.UNKNOWN_OUTCOME, f"the mux gave no sign of life for {self._patience:.0f} s")
        try:
            if out and ready[0][1] & select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    del out[: self._peer.send(out)]
            if ready[0][1] & ~select.POLLOUT:
                data = self._peer.recv(256 * 1024)
                if not data:
                    raise ConnectionResetError("closed")
                self._frames = self._decoder.feed(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self.close()
            raise MuxGone("the mux ended while the request ran; whether it had an effect on the node is unknown") from error
        return True

    def _look_around(self) -> None:
        """See from time to time, however much arrives, that there is somebody to work for: ansible may be killed, while its workers live on."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_AROUND
        if os.getppid() != self._parent:
            self.close()
            raise MuxError(ErrorKind.UNKNOWN_OUTCOME, "the controller is gone")
