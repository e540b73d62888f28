# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""client.py against a websocket server on loopback that plays service and agent."""

from __future__ import annotations

import asyncio
import os

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import SessionClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, ExitCode, Output

from .agent import Agent
from .service import Service


def client_of(service: Service, **options: object) -> SessionClient:
    return SessionClient(service.started(), resume=service.resume, terminate=service.terminate, **options)  # type: ignore[arg-type]


async def read(client: SessionClient, size: int) -> bytes:
    """Output until there are ``size`` bytes of it."""
    data = b""
    async for event in client.events():
        assert isinstance(event, Output), event
        data += event.data
        if len(data) >= size:
            break
    return data


async def test_input_and_output_pass_unchanged() -> None:
    async with Service(Agent(), echo=bytes) as service:
        client = client_of(service)
        await client.open()
        data = os.urandom(300_000) + b"\n\r\x00\xff"
        await client.write(data)
        assert await read(client, len(data)) == data
        await client.close()
    assert service.terminated == 1
    assert service.openings[0]["ClientVersion"]
    assert service.user_agents == ["fleet.ssm"]


async def test_a_non_interactive_session_reports_streams_exit_code_and_end() -> None:
    async with Service(Agent(session_type="NonInteractiveCommands")) as service:
        client = client_of(service)
        await client.open()
        while service.agent.handshake_running:
            await asyncio.sleep(0.01)
        service.output(b"out\n")
        service.output(b"err\n", 11)
        service.output(b"EXIT_CODE: 7", 12)
        await service.end()
        events = [event async for event in client.events()]
        assert events == [Output("stdout", b"out\n"), Output("stderr", b"err\n"), ExitCode(7), Closed("", True)]
        await client.close()
    assert service.terminated == 0  # it had ended by itself


async def test_cuts_are_not_noticed_by_the_application() -> None:
    async with Service(Agent()) as service:
        client = client_of(service)
        await client.open()
        data = os.urandom(3_000_000)
        writing = asyncio.create_task(client.write(data))
        for part in range(1, 4):
            while len(service.agent.input) < part * 500_000:
                await asyncio.sleep(0)
            service.cut()
            service.output(b"said while nobody listened\n")
        assert await read(client, 3 * 27) == b"said while nobody listened\n" * 3
        await writing
        while len(service.agent.input) < len(data):
            await asyncio.sleep(0.01)
        assert service.agent.input == data
        assert client.stats.reconnects == client.stats.api_calls == service.resumed == 3
        assert [opening["TokenValue"] for opening in service.openings] == ["token-0", "token-1", "token-2", "token-3"]
        await client.close()
