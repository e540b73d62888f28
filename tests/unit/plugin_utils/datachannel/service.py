# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A websocket server for tests that plays the service and the agent of one session on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import SessionGone, StartedSession

from .agent import Agent, closed


class Service:
    """One session. ``echo`` makes output of input; tests change its attributes to inject faults."""

    def __init__(
        self, agent: Agent, *, echo: Callable[[bytes], bytes] | None = None, tls: ssl.SSLContext | None = None, session_id: str = "session-1"
    ) -> None:
        self.agent = agent
        self.session_id = session_id
        self.openings: list[dict[str, Any]] = []
        self.user_agents: list[str] = []
        self.signatures: list[str | None] = []  # the header Authorization of each request for a websocket
        self.resumed = 0
        self.terminated = 0
        self.ended = False
        self.refuse_with: int | None = None
        self.muted = False  # what is received is not processed, so nothing is answered
        self._echo = echo
        self._echoed = 0
        self._tls = tls
        self._server: Server | None = None
        self._websocket: ServerConnection | None = None
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Service:
        self._server = await serve(self._serve, "127.0.0.1", 0, ssl=self._tls, compression=None, process_request=self.admit, close_timeout=1)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def started(self, *, host: str = "127.0.0.1") -> StartedSession:
        scheme = "wss" if self._tls else "ws"
        url = f"{scheme}://{host}:{self.port}/v1/data-channel/{self.session_id}?role=publish_subscribe"
        return StartedSession(self.session_id, url, f"token-{self.resumed}", "i-1")

    async def resume(self) -> StartedSession:
        if self.ended:
            raise SessionGone(f"{self.session_id} has ended")
        self.resumed += 1
        return self.started()

    async def terminate(self) -> None:
        self.terminated += 1

    def renew(self, agent: Agent) -> None:
        """From now on another session, for another client."""
        self.agent = agent
        self._echoed = 0

    def cut(self) -> None:
        """Break the connection without a word."""
        assert self._websocket is not None
        self._websocket.transport.abort()

    def freeze(self) -> None:
        """Keep the connection, but neither read nor answer anything on it."""
        assert self._websocket is not None
        self._websocket.transport.pause_reading()

    def output(self, data: bytes, payload_type: int = 1) -> None:
        self.agent.send(data, payload_type)
        self._wake.set()

    async def send(self, frame: bytes) -> None:
        assert self._websocket is not None
        await self._websocket.send(frame)

    async def end(self, output: str = "") -> None:
        """The session's process has ended: wait until the client has everything, then close the channel."""
        while not self.agent.drained:
            await asyncio.sleep(0.01)
        await self.send(closed(output))

    async def admit(self, connection: ServerConnection, request: Any) -> Any:
        """What a request for a websocket is answered; `None`: it is opened."""
        self.user_agents.append(request.headers.get("User-Agent", ""))
        self.signatures.append(request.headers.get("Authorization"))
        if self.refuse_with is not None:
            return connection.respond(self.refuse_with, '{"message": "we do not\\nknow you"}')
        return None

    async def _serve(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        opening = json.loads(await websocket.recv())
        self.openings.append(opening)
        if opening["TokenValue"] != f"token-{self.resumed}":
            await websocket.close(1008, "wrong token")
            return
        sender = asyncio.create_task(self._send(websocket))
        try:
            async for frame in websocket:
                assert isinstance(frame, bytes)
                if self.muted:
                    continue
                self.agent.receive(frame)
                if self._echo is not None and len(self.agent.input) > self._echoed:
                    fresh = bytes(self.agent.input[self._echoed :])
                    self._echoed += len(fresh)
                    if answer := self._echo(fresh):
                        self.agent.send(answer)
                self._wake.set()
        except ConnectionClosed:
            pass
        finally:
            sender.cancel()

    async def _send(self, websocket: ServerConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for frame in self.agent.frames(loop.time()):
                await websocket.send(frame)
            try:
                async with asyncio.timeout(0.05):
                    await self._wake.wait()
            except TimeoutError:
                pass
