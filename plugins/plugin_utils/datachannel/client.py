# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Session Manager session over a websocket: the only file of this package that does I/O.

The state machine of :mod:`.channel` decides what is sent; here are the websocket, its replacement when it is lost, and
the clock.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

with suppress(ImportError):  # ansible-test imports this without it; the mux looks for it before it serves
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidProxyStatus, InvalidStatus, InvalidURI

from ...module_utils.network import Network, NetworkError, without_credentials
from .channel import DataChannel
from .events import Closed, DataKeyNeeded, Event, ExitCode, Output, Resending
from .handshake import CLIENT_VERSION
from .settings import ChannelSettings

SessionEvent = Output | ExitCode | Closed | Resending

_USER_AGENT: Final = "fleet.ssm"
_FIRST_DELAY: Final = 0.2
_MAX_DELAY: Final = 10.0
# A frame is 120 bytes and a payload; agents send 1 KiB, and can be made to send 64 KiB.
_MAX_FRAME: Final = 1 << 20
_GONE: Final = "the service has ended the session"
# Of signature or permission. Credentials may be renewed while a connection comes back, so one refusal is not the last word then.
_REFUSALS: Final = (401, 403)
_MOST_REFUSALS: Final = 3
# At its debug level websockets logs frames, and with them tokens and everything that is sent.
_WIRE_LOG: Final = logging.getLogger("fleet.ssm.websocket")
_WIRE_LOG.setLevel(logging.WARNING)


class ChannelError(Exception):
    """The channel could not be opened, or is not open. ``permanent``: trying again at once would not help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class ChannelRefused(ChannelError):
    """The service lets nobody in with this signature: another one is needed, or a permission."""


class SessionGone(Exception):
    """Raised by ``resume``: the service says that the session has ended, so there is nothing to go back to."""


@dataclass(frozen=True, slots=True)
class StartedSession:
    """What StartSession and ResumeSession answer. ``target_id`` is the node's id; encrypted sessions need it."""

    session_id: str
    stream_url: str
    token: str
    target_id: str = ""

    def __repr__(self) -> str:
        return f"StartedSession({self.session_id!r})"


@dataclass(frozen=True, slots=True)
class DataKey:
    """What KMS GenerateDataKey answers."""

    plaintext: bytes
    encrypted: bytes

    def __repr__(self) -> str:
        return "DataKey(…)"


@dataclass(slots=True)
class Stats:
    """What a session has cost so far. Bytes are those of websocket payloads."""

    rtt_ms: float = 0.0
    window: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    retransmissions: int = 0
    duplicates: int = 0
    malformed: int = 0
    reconnects: int = 0
    api_calls: int = 0
    last_received: float = 0.0  # on the event loop's clock


class SessionClient:
    """An open session: bytes in, events out.

    ``resume`` calls ResumeSession and raises :class:`SessionGone` if there is no session any more; anything else that it
    raises is tried again. ``terminate`` calls TerminateSession. ``generate_data_key(key_id, encryption_context)`` calls KMS
    GenerateDataKey for 64 bytes; None refuses encrypted sessions. ``sign(stream_url)`` gives the headers of a signed GET, the
    action ``ssmmessages:OpenDataChannel``; it is called for each websocket, since credentials change, but not for a URL that
    is presigned. None sends no signature.
    """

    def __init__(
        self,
        started: StartedSession,
        *,
        resume: Callable[[], Awaitable[StartedSession]],
        terminate: Callable[[], Awaitable[None]],
        generate_data_key: Callable[[str, Mapping[str, str]], Awaitable[DataKey]] | None = None,
        sign: Callable[[str], Awaitable[Mapping[str, str]]] | None = None,
        network: Network | None = None,
        settings: ChannelSettings | None = None,
    ) -> None:
        self._started = started
        self._resume = resume
        self._terminate = terminate
        self._generate_data_key = generate_data_key
        self._sign = sign
        self._network = network or Network()
        self._settings = settings or ChannelSettings()
        self._client_id = str(uuid.uuid4())
        self._loop = asyncio.get_running_loop()
        self._channel = DataChannel(started.session_id, started.target_id, self._settings, epoch_offset=time.time() - self._loop.time())
        self._stats = Stats()
        self._events = _EventQueue()
        self._to_send = asyncio.Event()  # there may be frames to send
        self._progress = asyncio.Event()  # the agent has acknowledged something, or the channel has ended
        self._runner: asyncio.Task[None] | None = None
        self._key_task: asyncio.Task[None] | None = None
        self._ended: Closed | None = None
        self._session_over = False  # the service says so, or was told so
        self.reconnecting = False
        """Whether its websocket is lost, and the session is tried to be resumed."""

    @property
    def session_id(self) -> str:
        return self._started.session_id

    @property
    def stats(self) -> Stats:
        """Figures up to now."""
        stats, channel = self._stats, self._channel
        stats.rtt_ms = channel.round_trip_seconds * 1000
        stats.window = channel.window
        stats.retransmissions = channel.retransmissions
        stats.duplicates = channel.duplicates
        stats.malformed = channel.malformed_frames
        return stats

    async def open(self) -> None:
        """Connect the websocket within ``open_timeout`` seconds; raises :class:`ChannelError` with the reason.

        The agent may still be on its way then: nothing says that it is there but its first output.
        """
        if self._runner is not None:
            raise ChannelError("the channel was opened before")
        deadline = self._loop.time() + self._settings.open_timeout
        try:
            websocket = await self._connect()
        except ChannelError as exc:
            if exc.permanent or self._loop.time() >= deadline:
                raise
            try:
                websocket = await self._reconnect(deadline, 1, exc)
            except SessionGone as gone:
                self._session_over = True
                raise ChannelError(str(gone) or _GONE) from gone
        self._runner = self._loop.create_task(self._run(websocket), name=f"data channel {self.session_id}")

    async def write(self, data: bytes) -> None:
        """Queue bytes for the session's input; waits while more than ``send_buffer`` bytes are unsent.

        Raises :class:`ChannelError` when the channel has ended; then it is unknown how much of earlier writes arrived.
        """
        self._require_open()
        self._channel.send(data)
        self._to_send.set()
        while self._channel.unsent > self._settings.send_buffer:
            self._progress.clear()
            await self._progress.wait()
            self._require_open()

    def program_runs(self) -> None:
        """Input need not wait for the agent's first message any more: the session's program was heard of by another way."""
        self._channel.program_runs()
        self._to_send.set()

    async def events(self) -> AsyncIterator[SessionEvent]:
        """What the session reports, until and with :class:`Closed`. For one consumer."""
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    async def close(self) -> None:
        """End the session: what was written gets a moment to arrive, then the service ends it. Never raises."""
        if self._ended is None and self._runner is not None:
            if self._channel.session_type == "Port":
                self._channel.terminate()
                self._to_send.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.close_timeout):
                    await self._drained()
        if not self._session_over:
            self._session_over = True
            self._stats.api_calls += 1
            # The session ends by its idle time-out, and the runner by its dead-man timer, if this does not get through.
            with suppress(Exception):
                async with asyncio.timeout(self._settings.terminate_timeout):
                    await self._terminate()
        self._end(Closed("closed by the controller", clean=True))
        if self._runner is not None:
            self._runner.cancel()
            with suppress(asyncio.CancelledError):
                await self._runner

    # The websocket and its successors

    async def _run(self, websocket: ClientConnection) -> None:
        """Serve websockets one after another until the session ends."""
        try:
            failures, lost_at = 0, self._loop.time()
            while True:
                began, received = self._loop.time(), self._stats.frames_received
                try:
                    await self._serve(websocket)
                finally:
                    await self._drop(websocket)
                if self._channel.closed is not None:
                    self._session_over = self._channel.closed_by_service
                    self._end(self._channel.closed)
                    return
                # A service that accepts a websocket and drops it at once has not resumed the session.
                if self._stats.frames_received > received or self._loop.time() - began >= _MAX_DELAY:
                    failures, lost_at = 0, self._loop.time()
                else:
                    failures += 1
                self.reconnecting = True
                websocket = await self._reconnect(lost_at + self._settings.resume_window, failures)
                self.reconnecting = False
                self._stats.reconnects += 1
                self._channel.reconnected(self._loop.time())
                self._to_send.set()
        except SessionGone as exc:
            self._session_over = True
            self._end(Closed(str(exc) or _GONE, clean=False))
        except ChannelError as exc:
            self._end(Closed(str(exc), clean=False))
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            # Whatever it is, those who wait for the session must hear that nothing more will come.
            self._end(Closed(f"internal error of the data channel: {exc!r}", clean=False))
            raise
        finally:
            if self._key_task is not None:
                self._key_task.cancel()

    async def _connect(self) -> ClientConnection:
        """Open a websocket and present the token."""
        url = self._started.stream_url
        signature = await self._signature(url)
        proxy = self._network.proxy_for(url)
        tls: dict[str, Any] = {}
        try:
            if urlsplit(url).scheme == "wss":
                tls["ssl"] = self._network.tls()
            if proxy and proxy.startswith("https:"):
                tls["proxy_ssl"] = self._network.tls()
            websocket = await connect(
                url,
                proxy=proxy,
                compression=None,
                max_size=_MAX_FRAME,
                max_queue=256,
                open_timeout=self._settings.open_timeout,
                close_timeout=self._settings.close_timeout,
                ping_interval=None,  # see _keep_alive
                user_agent_header=_USER_AGENT,
                additional_headers=signature,
                logger=_WIRE_LOG,
                **tls,
            )
            opening = {
                "MessageSchemaVersion": "1.0",
                "RequestId": str(uuid.uuid4()),
                "TokenValue": self._started.token,
                "ClientId": self._client_id,
                "ClientVersion": CLIENT_VERSION,
            }
            await websocket.send(json.dumps(opening, separators=(",", ":")))
            return websocket
        except (OSError, InvalidHandshake, InvalidProxy, InvalidURI, ConnectionClosed, NetworkError) as exc:
            where = urlsplit(url).hostname or "an endpoint without a name"
            if proxy:
                where += f" through the proxy {without_credentials(proxy)}"
            # websockets puts a proxy's URL with its password into this one exception, so it is not chained.
            cause = None if isinstance(exc, InvalidProxy) else exc
            text = f"the data channel to {where} cannot be opened: {_reason(exc, self.session_id)}"
            kind = ChannelRefused if _is_refusal(exc) else ChannelError
            raise kind(text, permanent=_is_permanent(exc)) from cause

    async def _signature(self, url: str) -> Mapping[str, str]:
        if self._sign is None or _is_presigned(url):
            return {}
        try:
            return await self._sign(url)
        except Exception as exc:
            raise ChannelError(f"the request to open the data channel cannot be signed: {exc}") from exc

    async def _reconnect(self, deadline: float, failures: int, problem: Exception | None = None) -> ClientConnection:
        """A new websocket to the same session, tried until ``deadline``. After ``failures`` and the last ``problem`` it is slower."""
        refusals = 0
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    if failures:
                        delay = min(_MAX_DELAY, _FIRST_DELAY * 2 ** min(failures - 1, 10))
                        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                    try:
                        self._stats.api_calls += 1
                        resumed = await self._resume()
                        if not resumed.token:  # so the real service answers for a session that has ended
                            raise SessionGone(_GONE)
                        self._started = replace(resumed, stream_url=resumed.stream_url or self._started.stream_url)
                        return await self._connect()
                    except SessionGone:
                        raise
                    except Exception as exc:
                        refusals += isinstance(exc, ChannelRefused)
                        if refusals == _MOST_REFUSALS:
                            raise
                        problem = exc
                        failures += 1
        except TimeoutError:
            raise ChannelError(f"the session cannot be reached: {problem or 'its websocket is dropped again and again'}") from problem

    async def _serve(self, websocket: ClientConnection) -> None:
        """Move frames until the websocket is lost or the channel closed."""
        tasks = [self._loop.create_task(work(websocket)) for work in (self._read, self._write, self._keep_alive)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, (ConnectionClosed, OSError)):
                raise result

    async def _drop(self, websocket: ClientConnection) -> None:
        """Close a websocket, orderly if it still works."""
        with suppress(ConnectionClosed, OSError, TimeoutError):
            async with asyncio.timeout(self._settings.close_timeout):
                # The agent waits for its last messages to be acknowledged before it ends.
                for frame in self._channel.frames_to_send(self._loop.time()) if self._channel.closed else ():
                    await websocket.send(frame)
                await websocket.close()
        websocket.transport.abort()

    async def _read(self, websocket: ClientConnection) -> None:
        stats, channel, clock = self._stats, self._channel, self._loop.time
        while channel.closed is None:
            frame = await websocket.recv()
            if isinstance(frame, str):  # the service speaks in binary frames only
                continue
            now = clock()
            stats.frames_received += 1
            stats.bytes_received += len(frame)
            stats.last_received = now
            for event in channel.receive(frame, now):
                self._handle(event)
            self._to_send.set()
            self._progress.set()
            if self._events.size > self._settings.receive_buffer:
                await self._events.room(self._settings.receive_buffer // 2)

    async def _write(self, websocket: ClientConnection) -> None:
        stats, channel, clock = self._stats, self._channel, self._loop.time
        while True:
            self._to_send.clear()
            while frames := channel.frames_to_send(clock()):
                for frame in frames:
                    await websocket.send(frame)
                    stats.bytes_sent += len(frame)
                stats.frames_sent += len(frames)
                self._progress.set()
            deadline = channel.next_deadline()
            timer = self._loop.call_at(deadline, self._to_send.set) if deadline is not None else None
            try:
                await self._to_send.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _keep_alive(self, websocket: ClientConnection) -> None:
        """Return when the other side has been silent for too long.

        websockets has such a thing built in, but takes us for dead when our consumer is slow and we do not read.
        """
        settings = self._settings
        while True:
            await asyncio.sleep(settings.keepalive_interval)
            asked_at = self._loop.time()
            try:
                async with asyncio.timeout(settings.keepalive_timeout):
                    await (await websocket.ping())  # sending waits as well, if the buffers are full
            except TimeoutError:
                if self._stats.last_received < asked_at and self._events.size <= self._settings.receive_buffer // 2:
                    websocket.transport.abort()
                    return

    # Events

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataKeyNeeded):
            # Reading must go on meanwhile, as the agent wants its message acknowledged.
            self._key_task = self._loop.create_task(self._provide_data_key(event))
        elif not isinstance(event, Closed):  # that is reported once, by _end
            self._events.put(event)

    async def _provide_data_key(self, wanted: DataKeyNeeded) -> None:
        try:
            if self._generate_data_key is None:
                raise ChannelError("the session is encrypted with KMS, for which this connection is not set up")
            self._stats.api_calls += 1
            key = await self._generate_data_key(wanted.key_id, wanted.context)
        except Exception as exc:
            events = self._channel.data_key_failed(str(exc))
        else:
            events = self._channel.data_key(key.plaintext, key.encrypted)
        for event in events:
            self._handle(event)
        self._to_send.set()

    def _end(self, closed: Closed) -> None:
        if self._ended is None:
            self._ended = closed
            self._events.put(closed)
            self._progress.set()

    def _require_open(self) -> None:
        if self._runner is None:
            raise ChannelError("the channel was not opened")
        if self._ended is not None:
            raise ChannelError(f"the channel has ended: {self._ended.reason or 'the session is over'}")

    async def _drained(self) -> None:
        while self._ended is None and not self._channel.drained:
            self._progress.clear()
            await self._progress.wait()


class _EventQueue:
    """Events for the one consumer. Output that waits is joined, since agents send it in small pieces."""

    def __init__(self) -> None:
        self.size = 0
        self._events: deque[tuple[SessionEvent, list[bytes]]] = deque()
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    def put(self, event: SessionEvent) -> None:
        if isinstance(event, Output):
            self.size += len(event.data)
            if self._events:
                last, pieces = self._events[-1]
                if isinstance(last, Output) and last.stream == event.stream:
                    pieces.append(event.data)
                    return
            self._events.append((event, [event.data]))
        else:
            self._events.append((event, []))
        self._filled.set()

    async def get(self) -> SessionEvent:
        while not self._events:
            self._filled.clear()
            await self._filled.wait()
        event, pieces = self._events.popleft()
        if isinstance(event, Output):
            if len(pieces) > 1:
                event = Output(event.stream, b"".join(pieces))
            self.size -= len(event.data)
            self._emptied.set()
        return event

    async def room(self, size: int) -> None:
        """Wait until at most ``size`` bytes are left."""
        while self.size > size:
            self._emptied.clear()
            await self._emptied.wait()


def _is_presigned(url: str) -> bool:
    return any(name.lower().startswith("x-amz-") for name, _value in parse_qsl(urlsplit(url).query, keep_blank_values=True))


def _is_refusal(exc: Exception) -> bool:
    return isinstance(exc, InvalidStatus) and exc.response.status_code in _REFUSALS


def _is_permanent(exc: Exception) -> bool:
    if isinstance(exc, InvalidProxyStatus | InvalidStatus):
        status = exc.response.status_code
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(exc, InvalidProxy | InvalidURI | NetworkError | ssl.SSLCertVerificationError)


def _reason(exc: Exception, session_id: str) -> str:
    """Why a connection failed, in words that say what to do; never with credentials."""
    if isinstance(exc, InvalidProxyStatus):
        status = exc.response.status_code
        return "the proxy wants other credentials (HTTP 407)" if status == 407 else f"the proxy refused with HTTP {status}"
    if isinstance(exc, InvalidProxy):
        return "the proxy's URL cannot be used"
    if isinstance(exc, InvalidStatus):
        status, said = exc.response.status_code, _said(bytes(exc.response.body or b""))
        remedy = ""
        if status in _REFUSALS:
            remedy = f". Allow the action ssmmessages:OpenDataChannel on the session {session_id} in the caller's IAM policy, or set the clock of this machine"
        return f"HTTP {status}{remedy}{said and f'. AWS says: {said}'}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted: {exc.verify_message}. Set the option 'ca_bundle' if it is a private one"
    return str(exc) or type(exc).__name__


def _said(body: bytes) -> str:
    """The message in an answer's body: JSON's, or the text if it is short."""
    text = body.decode("utf-8", "replace").strip()
    with suppress(ValueError, AttributeError):
        answer = json.loads(text)
        text = str(answer.get("message") or answer.get("Message") or text)
    return " ".join(text.split())[:500]
