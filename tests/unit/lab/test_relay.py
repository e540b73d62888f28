# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay does what the recorded service did: the same frames to the same side in the same order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMessage, WSMsgType

from tests.lab.codec import decode
from tests.lab.faults import Faults, Side
from tests.lab.model import NodeSpec
from tests.lab.relay import Peer, Relay
from tests.lab.settings import Settings
from tests.lab.state import ManagedNode, Session

VECTORS = Path(__file__).parents[1] / "plugin_utils" / "datachannel" / "vectors"


class Socket:
    """What the relay uses of a websocket: frames come from the recording, and those sent are kept."""

    closed = False

    def __init__(self) -> None:
        self.arriving: asyncio.Queue[WSMessage | None] = asyncio.Queue()
        self.sent: list[bytes] = []

    def __aiter__(self) -> Socket:
        return self

    async def __anext__(self) -> WSMessage:
        message = await self.arriving.get()
        if message is None:
            raise StopAsyncIteration
        return message

    async def send_bytes(self, frame: bytes) -> None:
        self.sent.append(frame)

    async def close(self) -> None:
        self.closed = True


class Replay:
    """Plays a recorded session's real ends to a relay."""

    def __init__(self) -> None:
        spec = NodeSpec("mi-b167ee5784e4404fa", "node", "123456789012", "us-east-1")
        node = ManagedNode(spec)
        self.session = Session("id", "123456789012", "us-east-1", node, "owner", "document", {}, {}, None, "", 20.0, None)
        self.relay = Relay(self.session, Faults(), Settings(), lambda session: None)
        self.sockets: dict[str, list[Socket]] = {"client": [], "agent": []}
        self.expected: dict[str, list[bytes]] = {"client": [], "agent": []}
        self.tasks: list[asyncio.Task[None]] = []
        self._keys: set[str] = set()

    async def play(self, event: dict[str, Any]) -> None:
        match event:
            case {"ws": "open", "headers": {"Sec-WebSocket-Key": key}, "peer": side} if key not in self._keys:
                self._keys.add(key)  # the recorder noted each websocket a second time when it closed
                self.sockets[side].append(Socket())
                peer = Peer(Side(side), self.sockets[side][-1], None)  # type: ignore[arg-type]
                self.tasks.append(asyncio.create_task(self.relay.run(peer)))
            case {"ws": "close", "frm": side}:
                self.sockets[side][-1].arriving.put_nowait(None)
            case {"ws": "binary", "frm": side, "hex": frame}:
                self.sockets[side][-1].arriving.put_nowait(WSMessage(WSMsgType.BINARY, bytes.fromhex(frame), None))
            case {"ws": "binary", "to": side, "hex": frame}:
                self.expected[side].append(bytes.fromhex(frame))
        for _turn in range(10):
            await asyncio.sleep(0)

    def sent(self, side: str) -> list[bytes]:
        return [frame for socket in self.sockets[side] for frame in socket.sent]


@pytest.mark.parametrize("name", sorted(path.name for path in VECTORS.glob("session-*.jsonl")))
async def test_the_relay_sends_what_the_recorded_service_sent(name):
    replays: dict[str, Replay] = {}
    with (VECTORS / name).open(encoding="utf-8") as lines:
        for event in map(json.loads, lines):
            channel = event.get("channel", "")
            if "/data-channel/" in channel:
                await replays.setdefault(channel.rpartition("/")[2], Replay()).play(event)
            elif (ended := ended_session(event)) in replays and replays[ended].session.ended is None:
                replays[ended].session.ended = 1.0
                await replays[ended].relay.end()
    assert replays
    for replay in replays.values():
        for side in ("client", "agent"):
            assert [comparable(frame) for frame in replay.sent(side)] == [comparable(frame) for frame in replay.expected[side]]
        for task in replay.tasks:
            task.cancel()


def ended_session(event: dict[str, Any]) -> str:
    """The session that ends by a message on a control channel: the agent's report, or the service's order."""
    message = decode(bytes.fromhex(event["hex"])) if "hex" in event else None
    if message is None or message.message_type not in ("agent_task_complete", "channel_closed"):
        return ""
    payload = json.loads(message.payload)
    return str(payload.get("TaskId") or payload.get("SessionId"))


def comparable(frame: bytes) -> object:
    """Relayed frames byte by byte; the service's own by their kind, since their ids and dates are made up."""
    kind = decode(frame).message_type
    return frame if kind in ("input_stream_data", "output_stream_data", "acknowledge") else kind
