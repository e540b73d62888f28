# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker's socket, seen from the mux."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import RequestError
from .lifecycle import Lifecycle
from .protocol import (
    ANY_CODE,
    VERSION,
    Decoder,
    ErrorKind,
    FrameType,
    ProtocolError,
    decode_json,
    encode,
    encode_credit,
    encode_json,
)
from .request import ConnectionOptions, OptionError
from .route import Route
from .start import peer_credentials
from .work import Action, Exec, Get, Put, Work

if TYPE_CHECKING:
    from .server import Mux

OUTPUT_BUFFER = 256 * 1024
"""Bytes waiting for a slow worker from which on the node is not granted more."""


class WorkerConnection(asyncio.Protocol):
    """Serves one socket: a greeting, then one request after the other. Its end cancels the one that runs."""

    def __init__(self, mux: Mux) -> None:
        self._mux = mux
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._pid = 0
        self._greeted = False
        self._options: ConnectionOptions | None = None
        self._route: Route | None = None
        self._work: Work | None = None
        self._before_payload: Exec | None = None
        self._tell_start = False
        self._task: asyncio.Task[None] | None = None
        self._writable = True
        self._unconsumed = 0
        self.awaits_end = False
        """It asked the mux to stop, and takes the end of its socket for the end of the process."""

    @property
    def busy(self) -> bool:
        """Whether a request runs."""
        return self._work is not None or self._task is not None or self._before_payload is not None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise AssertionError
        self._transport = transport
        transport.set_write_buffer_limits(high=OUTPUT_BUFFER)
        peer = transport.get_extra_info("socket")
        if not self._mux.may_connect(peer):
            transport.abort()
            return
        self._pid = peer_credentials(peer)[0]
        self._mux.controllers.joined(self._pid)
        self._mux.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        try:
            if self._task is not None:
                self._task.cancel()
            if (work := self._work) is not None:
                self._work = None
                work.cancel()
        finally:
            self._mux.controllers.left(self._pid)
            self._mux.left(self)  # a mux that is left by nobody never ends

    def data_received(self, data: bytes) -> None:
        try:
            for kind, payload in self._decoder.feed(data):
                self._receive(kind, payload)
        except (ProtocolError, KeyError, TypeError) as error:
            self._mux.log.warning("a worker sent what cannot be understood: %s", type(error).__name__)
            if self._transport is not None:
                self._transport.abort()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._report_consumed()

    # From the worker.

    def _receive(self, kind: FrameType, payload: bytes) -> None:
        work = self._work
        if kind is FrameType.INPUT:
            if work is not None:
                work.input += payload
                work.changed()
        elif kind is FrameType.INPUT_END:
            if work is not None:
                work.input_ended = True
                work.changed()
        elif kind is FrameType.TTY_INPUT:
            if work is not None:
                work.tty_input += payload
                work.changed()
        elif kind is FrameType.CANCEL:
            if work is not None:
                work.cancel()
        elif kind is FrameType.PAYLOAD:
            action, self._before_payload = self._before_payload, None
            if action is None:
                raise ProtocolError("a payload of nothing")
            self._start(dataclasses.replace(action, payload=payload))
        elif not self._greeted:
            self._greet(kind, decode_json(payload))
        elif self.busy:
            raise ProtocolError("a request while another one runs")
        else:
            self._request(kind, decode_json(payload))

    def _greet(self, kind: FrameType, fields: Mapping[str, Any]) -> None:
        if kind is not FrameType.HELLO:
            raise ProtocolError("no greeting")
        if fields["version"] != VERSION or fields["digest"] not in (self._mux.digest, ANY_CODE):
            self.send(encode_json(FrameType.ERROR, kind=ErrorKind.VERSION, message="the mux runs other code"))
            self._mux.retire("a worker of other code came")
        elif self._mux.retired:
            self.send(encode_json(FrameType.ERROR, kind=ErrorKind.RETIRED, message="the mux is about to end"))
        else:
            self._greeted = True
            self.send(encode_json(FrameType.WELCOME, version=VERSION, digest=self._mux.digest, pid=self._mux.pid))

    def _request(self, kind: FrameType, fields: Mapping[str, Any]) -> None:
        if kind is FrameType.OPEN:
            self._task = asyncio.ensure_future(self._open(fields))
        elif kind is FrameType.EXEC:
            if fields.get("needs_tty") and self._route is not None:
                self._route.needs_tty = True
            self._tell_start = bool(fields["tell_start"])
            action = Exec(
                fields["command"], bool(fields["tty"]), bool(fields["takes_input"]), warm=bool(fields["warm"]), secret=bytes.fromhex(fields["secret"]),
                private=bool(fields["private"]),
            )  # fmt: skip
            if fields["has_payload"]:
                self._before_payload = action
            else:
                self._start(action)
        elif kind is FrameType.PUT:
            self._start(Put(fields["path"], fields["mode"], int(fields["size"]), fields["sha256"], private=bool(fields["private"])), harmless=True)
        elif kind is FrameType.GET:
            self._start(Get(fields["path"], private=bool(fields["private"])), harmless=True)
        elif kind is FrameType.RESET:
            options = ConnectionOptions.from_mapping(fields["options"])
            found = self._mux.reset(options, fields["environment"])
            self.send(encode_json(FrameType.ANSWER, found=found))
        elif kind is FrameType.STATUS:
            self.send(encode_json(FrameType.ANSWER, **self._mux.status()))
        elif kind in (FrameType.STOP, FrameType.RETIRE):
            self.send(encode_json(FrameType.ANSWER, pid=self._mux.pid))
            if kind is FrameType.STOP:
                self.awaits_end = True
                self._mux.stop("asked to stop")
            else:
                self._mux.retire("asked to retire")
        else:
            raise ProtocolError(f"no request: {kind.name}")

    async def _open(self, fields: Mapping[str, Any]) -> None:
        try:
            options = ConnectionOptions.from_mapping(fields["options"])
            route = self._mux.route(options, fields["environment"])
            facts = await route.open(options, fields["reason"])
        except OptionError as error:
            self._fail(RequestError(ErrorKind.OPTION, str(error)))
        except RequestError as error:
            self._fail(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a defect: say so instead of leaving the worker waiting
            self._mux.log.exception("opening failed")
            self._fail(RequestError(ErrorKind.UNREACHABLE, f"the mux failed in opening the node: {type(error).__name__}: {error}"))
        else:
            self._options, self._route = options, route
            self._task = None
            self.send(encode_json(FrameType.OPENED, **facts))

    def _start(self, action: Action, *, harmless: bool = False) -> None:
        if self._route is None or self._options is None:
            raise ProtocolError("a request before OPEN")
        lifecycle = Lifecycle(self._options.reconnection_retries, harmless=harmless)
        work = self._work = Work(action, self, lifecycle, silence=self._options.silence_timeout, worker=self._pid)
        self._mux.controllers.waits(self._pid)
        if isinstance(action, Exec) and self._tell_start:
            work.tell_start = self.started
        self._unconsumed = 0
        self._route.submit(work, self._options)

    # To the worker; also the sink of its work.

    def send(self, frame: bytes) -> None:
        """Write a frame, if the worker is still there."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def output(self, kind: FrameType, data: bytes) -> None:
        self.send(encode(kind, data))
        self._unconsumed += len(data)
        if self._writable:
            self._report_consumed()

    def credit(self, count: int) -> None:
        self.send(encode_credit(count))

    def started(self) -> None:
        """The node has confirmed that the command began."""
        self.send(encode_json(FrameType.STARTED))

    def done(self, kind: FrameType, **fields: object) -> None:
        self._work = None
        self._mux.controllers.answered(self._pid)
        self.send(encode_json(kind, **fields))

    def failed(self, error: RequestError) -> None:
        self._work = None
        self._mux.controllers.answered(self._pid)
        self._fail(error)

    def sign_of_life(self) -> None:
        """Tell a waiting worker that the mux is there."""
        if self.busy:
            self.send(encode_json(FrameType.NOTE))

    def note(self, text: str) -> None:
        """Text for a person who runs with verbosity."""
        self.send(encode_json(FrameType.NOTE, text=text))

    def hang_up(self) -> None:
        """Close the socket once what was written is out."""
        with contextlib.suppress(RuntimeError):
            if self._transport is not None:
                self._transport.close()

    def _fail(self, error: RequestError) -> None:
        self._task = None
        self.send(encode_json(FrameType.ERROR, kind=error.kind, message=str(error)))

    def _report_consumed(self) -> None:
        count, self._unconsumed = self._unconsumed, 0
        if count and self._work is not None:
            self._work.consumed(count)
