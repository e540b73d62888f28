# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data channels: the two websockets of a session and what passes between them.

Frames are relayed unread but for their type. Of its own the service only says `start_publication`, `pause_publication`
(the client came back, went away) and `channel_closed`. Lost frames are the two ends' business: they resend.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from .codec import MalformedMessage, Message, decode, message_type_of
from .faults import Direction, Faults, Link, Side
from .settings import Settings
from .state import Session

_log = logging.getLogger(__name__)

_HEADER_BYTES = 120
#: Types whose frames show that someone uses the session.
_STREAM_TYPES = frozenset({b"input_stream_data", b"output_stream_data"})


class Peer:
    """One websocket, of the client or of the agent."""

    def __init__(self, side: Side, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.side, self.socket, self.transport = side, socket, transport
        self._back = asyncio.Event()
        self._back.set()

    async def send(self, frame: bytes) -> bool:
        """Send a frame; False if the websocket is gone."""
        await self._back.wait()
        try:
            await self.socket.send_bytes(frame)
        except (ConnectionError, RuntimeError):
            return False
        return True

    async def close(self) -> None:
        """Say goodbye, without waiting long for the answer."""
        with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
            await asyncio.wait_for(self.socket.close(), 2)

    def cut(self) -> None:
        """End the connection without a word, as a broken network does."""
        if self.transport is not None:
            self.transport.abort()

    def hold(self, seconds: float) -> None:
        """Let nothing through either way; the connection lives on, as TCP does while a network is away."""
        self._back.clear()
        if self.transport is not None:
            self.transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._release)

    def _release(self) -> None:
        self._back.set()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


@dataclass
class Traffic:
    """What has passed, in frames and bytes of whole frames."""

    to_agent_frames: int = 0
    to_agent_bytes: int = 0
    to_client_frames: int = 0
    to_client_bytes: int = 0
    client_connects: int = 0
    agent_connects: int = 0


class Relay:
    """The data channel of one session."""

    def __init__(self, session: Session, faults: Faults, settings: Settings, on_end: Callable[[Session], None]) -> None:
        names = session.node.names | {session.session_id}
        self.session, self._settings, self._on_end = session, settings, on_end
        self.client: Peer | None = None
        self.agent: Peer | None = None
        self.traffic = Traffic()
        self.last_use = time.monotonic()
        self._to_agent = Link(faults, Direction.TO_AGENT, names, self._deliver_to_agent)
        self._to_client = Link(faults, Direction.TO_CLIENT, names, self._deliver_to_client)
        self._early_to_agent: deque[bytes] = deque(maxlen=settings.early_frames)
        self._early_to_client: deque[bytes] = deque(maxlen=settings.early_frames)
        self._farewell: asyncio.Task[None] | None = None

    async def run(self, peer: Peer) -> None:
        """Serve one websocket to its end."""
        await (self._client_came(peer) if peer.side is Side.CLIENT else self._agent_came(peer))
        receive = self._from_client if peer.side is Side.CLIENT else self._from_agent
        try:
            async for message in peer.socket:
                if message.type is WSMsgType.BINARY:
                    if len(message.data) > _HEADER_BYTES + self._settings.max_payload:
                        await peer.socket.close(code=1009, message=b"payload too long")
                        break
                    await receive(message.data)
        finally:
            await (self._client_went(peer) if peer.side is Side.CLIENT else self._agent_went(peer))

    async def end(self, output: str = "") -> None:
        """Tell the client that the channel is closed; the agent learns it, if it does not know, by its control channel."""
        # What the agent said before comes first, however slow the network is.
        await self._to_client.push(channel_closed(self.session, output), exempt=True)
        self._to_agent.close()

    # -- coming and going

    async def _client_came(self, peer: Peer) -> None:
        first, earlier = not self.traffic.client_connects, self.client
        self.traffic.client_connects += 1
        self.client = peer
        if earlier is not None:
            earlier.cut()
        self.last_use = time.monotonic()
        if self.agent is not None:
            if not first:
                await self.agent.send(Message("start_publication", b"{}").encode())
            self.session.status = "Connected"
        while self._early_to_client:
            await peer.send(self._early_to_client.popleft())

    async def _client_went(self, peer: Peer) -> None:
        if self.client is not peer:
            return
        self.client = None
        if self.session.active:
            self.session.status = "Disconnected"
            if self.agent is not None:
                await self.agent.send(Message("pause_publication", b"{}").encode())

    async def _agent_came(self, peer: Peer) -> None:
        earlier, self.agent = self.agent, peer
        self.traffic.agent_connects += 1
        if earlier is not None:
            earlier.cut()
        if not self.session.active:
            await peer.send(channel_closed(self.session))
            return
        if self.client is None and self.traffic.client_connects:
            await peer.send(Message("pause_publication", b"{}").encode())
        elif self.client is not None:
            self.session.status = "Connected"
        while self._early_to_agent:
            await peer.send(self._early_to_agent.popleft())

    async def _agent_went(self, peer: Peer) -> None:
        if self.agent is peer:
            self.agent = None

    # -- frames

    async def _from_client(self, frame: bytes) -> None:
        if message_type_of(frame) in _STREAM_TYPES:
            self.last_use = time.monotonic()
        self.traffic.to_agent_frames += 1
        self.traffic.to_agent_bytes += len(frame)
        await self._to_agent.push(frame)

    async def _from_agent(self, frame: bytes) -> None:
        kind = message_type_of(frame)
        if kind == b"agent_session_state":
            self._note_state(frame)
            return
        if kind in _STREAM_TYPES:
            self.last_use = time.monotonic()
        self.traffic.to_client_frames += 1
        self.traffic.to_client_bytes += len(frame)
        await self._to_client.push(frame)

    async def _deliver_to_agent(self, frame: bytes) -> None:
        if self.agent is not None:
            await self.agent.send(frame)
        elif not self.traffic.agent_connects:
            self._early_to_agent.append(frame)

    async def _deliver_to_client(self, frame: bytes) -> None:
        if self.client is not None:
            sent = await self.client.send(frame)
            if sent and message_type_of(frame) == b"channel_closed":
                # The client closes when it has read this; if it does not, the service does.
                self._farewell = asyncio.create_task(self._close_client_later(self.client))
        elif not self.traffic.client_connects:
            self._early_to_client.append(frame)

    def _note_state(self, frame: bytes) -> None:
        try:
            state = json.loads(decode(frame).payload).get("SessionState")
        except (MalformedMessage, ValueError):
            _log.warning("session %s: the agent sent a session state that cannot be read", self.session.session_id)
            return
        if not self.session.active:
            return
        if state == "Connected" and self.client is not None:
            self.session.status = "Connected"
        elif state == "Terminating":
            self.session.status = "Terminating"
            self._on_end(self.session)

    async def _close_client_later(self, peer: Peer) -> None:
        await asyncio.sleep(2)
        if not peer.socket.closed:
            await peer.close()


def channel_closed(session: Session, output: str = "") -> bytes:
    """The frame that says that a session is over; `output` is what the agent's session plugin had to say."""
    identity = uuid.uuid4()
    created = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
    payload = {
        "MessageType": "channel_closed",
        "MessageId": str(identity),
        "DestinationId": session.node.node_id,
        "SessionId": session.session_id,
        "SchemaVersion": 1,
        "CreatedDate": created,
        "Output": output,
    }
    return Message("channel_closed", json.dumps(payload).encode(), message_id=identity).encode()
