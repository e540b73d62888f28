# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's end of one data channel: a websocket that is opened again when it breaks, and the streams over it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from .identity import stored_credentials
from .message import (
    ACKNOWLEDGE,
    AGENT_SESSION_STATE,
    CHANNEL_CLOSED,
    INPUT_STREAM_DATA,
    PAUSE_PUBLICATION,
    START_PUBLICATION,
    Message,
    MessageError,
    pack,
    pack_acknowledgement,
    unpack,
)
from .reliability import RESEND_INTERVAL, Inbox, Outbox
from .service import Service
from .websocket import WebSocket, WebSocketClosed

PAYLOAD = 1024  #: bytes of output in one message

_log = logging.getLogger(__name__)
_PING_INTERVAL = 54.0
_RETRIES = 5  #: after that the agent never connects this session again
_HIGH_WATER = 256 * 1024  #: unsent bytes at which no more output is read


class Taken(Enum):
    """What became of an input message."""

    YES = auto()
    BLOCKED = auto()  #: call `input_taken` when it was taken; until then nothing more is read
    REJECTED = auto()  #: not ready: unacknowledged, so that the client sends it again


class DataChannel:
    """All methods are to be called in the event loop.

    `on_input` takes each message of the client in order, `on_closed` is told that the session was terminated,
    `on_relief` that output may be read again after `congested` was true.
    """

    def __init__(self, service: Service, session_id: str) -> None:
        self._service = service
        self.session_id = session_id
        self.on_input: Callable[[Message], Taken] = lambda message: Taken.REJECTED
        self.on_closed: Callable[[], None] = lambda: None
        self.on_relief: Callable[[], None] = lambda: None
        self.paused = False
        self._loop = asyncio.get_running_loop()
        self._socket: WebSocket | None = None
        self._outbox = Outbox()
        self._inbox = Inbox()
        self._backlog: deque[Message] = deque()
        self._blocked = False
        self._congested = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writing = False
        self._closing = False
        self._resend_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None

    # Connection

    async def open(self) -> None:
        """Connect for the first time. Raises OSError after the last retry."""
        await self._connect()
        self._resend_timer = self._loop.call_later(RESEND_INTERVAL, self._resend)
        self._ping_timer = self._loop.call_later(_PING_INTERVAL, self._ping)

    async def _connect(self) -> None:
        delay = random.uniform(0.1, 0.2)
        for attempt in range(_RETRIES + 1):
            try:
                socket = self._service.open_data_channel(self.session_id, "", stored_credentials(self._service))
            except OSError as error:
                _log.info("session %s: data channel: %s", self.session_id, error)
                if attempt == _RETRIES:
                    raise
                await asyncio.sleep(delay)
                delay *= 2
            else:
                self._socket = socket
                self._set_flow(paused=False)
                self._loop.add_reader(socket.fileno(), self._readable)
                self._loop.call_soon(self._readable)
                return

    def _broken(self, error: Exception) -> None:
        """The websocket is gone: open another, as often as the agent does."""
        if self._socket is None:
            return
        _log.info("session %s: websocket lost: %s", self.session_id, error)
        self._drop()
        if not self._closing:
            self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except OSError:
            _log.error("session %s: given up; it stays without a channel", self.session_id)

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._writing = False
        self._relieve()

    def close(self) -> None:
        self._closing = True
        for timer in (self._resend_timer, self._ping_timer):
            if timer is not None:
                timer.cancel()
        self._drop()

    def _ping(self) -> None:
        self._ping_timer = self._loop.call_later(_PING_INTERVAL, self._ping)
        if self._socket is not None:
            self._socket.ping()
            self._flush()

    # Output

    @property
    def congested(self) -> bool:
        """The socket does not take what is sent: read no more output."""
        return self._congested

    async def flowing(self) -> None:
        """Wait until output may be read: neither paused nor congested."""
        await self._flowing.wait()

    def _set_flow(self, *, paused: bool | None = None, congested: bool | None = None) -> None:
        if paused is not None:
            self.paused = paused
        if congested is not None:
            self._congested = congested
        if self.paused or self._congested:
            self._flowing.clear()
        else:
            self._flowing.set()

    def send(self, payload_type: int, payload: bytes) -> None:
        """Send a payload of the output stream. While paused it is only kept, and goes out by retransmission."""
        frame = self._outbox.add(payload_type, payload, time.monotonic())
        if not self.paused:
            self._write(frame)

    def send_state(self, state: str) -> None:
        content = {"SchemaVersion": 1, "SessionState": state, "SessionId": self.session_id}
        self._write(pack(AGENT_SESSION_STATE, json.dumps(content, separators=(",", ":")).encode()))

    async def drained(self) -> None:
        """Wait until all output is acknowledged, two seconds at most."""
        end = self._loop.time() + 2
        while self._outbox and self._loop.time() < end:
            await asyncio.sleep(0.01)

    def _write(self, frame: bytes) -> None:
        if self._socket is None:
            return  # stream messages are in the outbox, the others lost
        self._socket.send(frame)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._flush)
        if self._socket.unsent > _HIGH_WATER:
            self._set_flow(congested=True)

    def _flush(self) -> None:
        socket = self._socket
        if socket is None:
            return
        try:
            socket.flush()
        except WebSocketClosed as error:
            self._broken(error)
            return
        if socket.unsent:
            self._loop.add_writer(socket.fileno(), self._flush)
            self._writing = True
        else:
            self._loop.remove_writer(socket.fileno())
            self._writing = False
            self._relieve()

    def _relieve(self) -> None:
        if self._congested:
            self._set_flow(congested=False)
            self._loop.call_soon(self.on_relief)

    def _resend(self) -> None:
        if not self.paused:
            frame = self._outbox.due(time.monotonic())
            if frame is not None:
                self._write(frame)
        self._resend_timer = self._loop.call_later(RESEND_INTERVAL, self._resend)

    # Input

    def _readable(self) -> None:
        socket = self._socket
        if socket is None or self._blocked:
            return
        try:
            frames, more = socket.receive()
        except WebSocketClosed as error:
            self._broken(error)
            return
        for frame in frames:
            try:
                self._backlog.append(unpack(frame))
            except MessageError as error:
                _log.warning("session %s: %s", self.session_id, error)
        self._work()
        if more and not self._blocked:
            self._loop.call_soon(self._readable)

    def _work(self) -> None:
        """Handle what was received, up to a message that blocks."""
        while self._backlog and not self._blocked:
            self._handle(self._backlog.popleft())

    def _handle(self, message: Message) -> None:
        kind = message.kind
        if kind == INPUT_STREAM_DATA:
            self._set_flow(paused=False)
            acknowledge = self._inbox.receive(message)
            if acknowledge is not None:
                self._write(pack_acknowledgement(acknowledge))
            self._deliver()
        elif kind == ACKNOWLEDGE:
            self._set_flow(paused=False)
            sequence = json.loads(message.payload)["AcknowledgedMessageSequenceNumber"]
            self._outbox.acknowledged(sequence, time.monotonic())
        elif kind == PAUSE_PUBLICATION:
            self._set_flow(paused=True)
        elif kind == START_PUBLICATION:
            self._set_flow(paused=False)
        elif kind == CHANNEL_CLOSED:
            self.on_closed()
        else:
            _log.warning("session %s: unknown message %r", self.session_id, kind)

    def _deliver(self) -> None:
        while self._inbox.current is not None:
            taken = self.on_input(self._inbox.current)
            if taken is Taken.BLOCKED:
                self._blocked = True
                if self._socket is not None:
                    self._loop.remove_reader(self._socket.fileno())
                return
            if taken is Taken.REJECTED:
                self._inbox.rejected()
                return
            self._acknowledge_taken()

    def _acknowledge_taken(self) -> None:
        acknowledge = self._inbox.taken()
        if acknowledge is not None:
            self._write(pack_acknowledgement(acknowledge))

    def input_taken(self) -> None:
        """The message that blocked was taken."""
        self._blocked = False
        self._acknowledge_taken()
        self._deliver()
        self._work()
        if not self._blocked and self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._readable)
            self._loop.call_soon(self._readable)
