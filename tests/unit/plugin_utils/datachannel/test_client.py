# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""client.py against a websocket server on loopback that plays service and agent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import ChannelError, DataKey, SessionClient, StartedSession
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, ExitCode, Output
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.settings import ChannelSettings

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
    # The oldest version of AWS's client that AWS supports; agents compare the numbers.
    assert tuple(map(int, service.openings[0]["ClientVersion"].split("."))) >= (1, 2, 764, 0)
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


async def ended(client: SessionClient) -> Closed:
    """The last event; there may be output before it."""
    last = [event async for event in client.events()][-1]
    assert isinstance(last, Closed)
    return last


async def test_a_session_that_is_gone_is_reported_and_not_ended_again() -> None:
    async with Service(Agent()) as service:
        client = client_of(service)
        await client.open()
        service.ended = True
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        assert await ended(client) == Closed("session-1 has ended", clean=False)
        with pytest.raises(ChannelError, match="the channel has ended: session-1 has ended"):
            await client.write(b"x")
        await client.close()
    assert service.terminated == 0


async def test_an_empty_token_means_that_the_session_is_gone() -> None:
    async with Service(Agent()) as service:

        async def resume() -> StartedSession:
            return replace(service.started(), token="")

        client = SessionClient(service.started(), resume=resume, terminate=service.terminate)
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        assert await ended(client) == Closed("the service has ended the session", clean=False)


async def test_resuming_is_tried_again_when_the_service_cannot_be_asked() -> None:
    async with Service(Agent(), echo=bytes) as service:
        failures = [OSError("no route"), RuntimeError("throttled")]

        async def resume() -> StartedSession:
            if failures:
                raise failures.pop()
            return replace(await service.resume(), stream_url="")  # the known URL is kept

        client = SessionClient(service.started(), resume=resume, terminate=service.terminate)
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        await client.write(b"still there?")
        assert await read(client, 12) == b"still there?"
        assert client.stats.reconnects == 1
        assert client.stats.api_calls == 3
        await client.close()


async def test_resuming_ends_after_its_window() -> None:
    async with Service(Agent()) as service:

        async def resume() -> StartedSession:
            raise OSError("no route")

        client = SessionClient(service.started(), resume=resume, terminate=service.terminate, settings=ChannelSettings(resume_window=0.5))
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        assert await ended(client) == Closed("the session cannot be reached: no route", clean=False)
        await client.close()
    assert service.terminated == 1


async def test_a_service_that_drops_every_websocket_is_not_asked_for_ever() -> None:
    async with Service(Agent()) as service:

        async def resume() -> StartedSession:
            return replace(service.started(), token="wrong")

        client = SessionClient(service.started(), resume=resume, terminate=service.terminate, settings=ChannelSettings(resume_window=1.0))
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        assert not (await ended(client)).clean
        assert 2 <= len(service.openings) <= 10
        await client.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_final_and_names_the_missing_action(status: int) -> None:
    async with Service(Agent()) as service:
        service.refuse_with = status
        client = client_of(service)
        with pytest.raises(ChannelError) as caught:
            await client.open()
        text = str(caught.value)
        assert f"to 127.0.0.1 cannot be opened: HTTP {status}" in text
        assert "action ssmmessages:OpenDataChannel on the session session-1" in text
        assert text.endswith("AWS says: we do not know you")
        assert caught.value.permanent
        assert service.resumed == 0
        await client.close()
        await client.close()
    assert service.terminated == 1


async def test_every_websocket_has_a_fresh_signature() -> None:
    async with Service(Agent(), echo=bytes) as service:
        asked: list[str] = []

        async def sign(url: str) -> dict[str, str]:
            asked.append(url)
            return {"Authorization": f"signature {len(asked)}"}

        client = client_of(service, sign=sign)
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.cut()
        await client.write(b"still there?")
        assert await read(client, 12) == b"still there?"
        assert service.signatures == ["signature 1", "signature 2"]
        assert asked == [service.started().stream_url] * 2
        await client.close()


async def test_a_presigned_url_is_not_signed_again() -> None:
    async with Service(Agent()) as service:

        async def sign(url: str) -> dict[str, str]:
            raise AssertionError(url)

        started = replace(service.started(), stream_url=service.started().stream_url + "&X-Amz-Signature=0123")
        client = SessionClient(started, resume=service.resume, terminate=service.terminate, sign=sign)
        await client.open()
        await client.close()
        assert service.signatures == [None]


async def test_a_signature_that_cannot_be_made_says_why() -> None:
    async with Service(Agent()) as service:

        async def sign(_url: str) -> dict[str, str]:
            raise RuntimeError("the credentials have expired")

        client = client_of(service, sign=sign, settings=ChannelSettings(open_timeout=0.5))
        with pytest.raises(ChannelError, match="cannot be signed: the credentials have expired"):
            await client.open()
        assert not service.user_agents
        await client.close()


async def test_a_refusal_while_it_comes_back_is_not_met_for_ever() -> None:
    async with Service(Agent()) as service:
        client = client_of(service)
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.refuse_with = 403
        service.cut()
        end = await ended(client)
        assert "ssmmessages:OpenDataChannel" in end.reason and not end.clean
        assert len(service.user_agents) == 1 + 3
        await client.close()


async def test_one_refusal_while_it_comes_back_is_got_over() -> None:
    async with Service(Agent(), echo=bytes) as service:
        client = client_of(service)
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.refuse_with = 403
        service.cut()
        while len(service.user_agents) < 2:
            await asyncio.sleep(0.01)
        service.refuse_with = None
        await client.write(b"hello")
        assert await read(client, 5) == b"hello"
        await client.close()


async def test_an_overloaded_service_is_asked_again() -> None:
    async with Service(Agent(), echo=bytes) as service:
        service.refuse_with = 503
        client = client_of(service)
        opening = asyncio.create_task(client.open())
        while len(service.user_agents) < 2:
            await asyncio.sleep(0.01)
        service.refuse_with = None
        await opening
        await client.write(b"hello")
        assert await read(client, 5) == b"hello"
        await client.close()


async def test_silence_after_a_ping_means_that_the_connection_is_lost() -> None:
    async with Service(Agent(), echo=bytes) as service:
        client = client_of(service, settings=ChannelSettings(keepalive_interval=0.1, keepalive_timeout=0.2))
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.freeze()
        await client.write(b"anybody?")
        assert await read(client, 8) == b"anybody?"
        assert client.stats.reconnects == service.resumed == 1
        await client.close()


async def test_silence_while_much_is_to_be_sent_means_the_same() -> None:
    """The buffers are full, so not even the ping goes out."""
    async with Service(Agent()) as service:
        client = client_of(service, settings=ChannelSettings(keepalive_interval=0.1, keepalive_timeout=0.2, initial_window=20_000, max_window=20_000))
        await client.open()
        while not service.openings:
            await asyncio.sleep(0.01)
        service.freeze()
        data = os.urandom(15_000_000)
        await client.write(data)
        async with asyncio.timeout(60):
            while len(service.agent.input) < len(data):
                await asyncio.sleep(0.01)
        assert service.agent.input == data
        assert service.resumed == 1
        await client.close()


async def test_a_slow_consumer_is_waited_for_and_nothing_is_lost() -> None:
    async with Service(Agent()) as service:
        limit = 64 * 1024
        client = client_of(service, settings=ChannelSettings(keepalive_interval=0.1, keepalive_timeout=0.1, receive_buffer=limit))
        await client.open()
        data = os.urandom(1_000_000)
        for start in range(0, len(data), 1024):
            service.output(data[start : start + 1024])
        while client._events.size <= limit:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # several pings without an answer that we would read
        assert client._events.size <= limit + 1024
        assert await read(client, len(data)) == data
        assert client.stats.reconnects == 0
        await client.close()


async def test_writing_waits_while_the_agent_does_not_take_it() -> None:
    async with Service(Agent()) as service:
        service.muted = True
        client = client_of(service)
        await client.open()
        data = os.urandom(3_000_000)
        writing = asyncio.create_task(client.write(data))
        while client.stats.retransmissions < 10:
            await asyncio.sleep(0.01)
        assert not writing.done()
        service.muted = False
        await writing
        while len(service.agent.input) < len(data):
            await asyncio.sleep(0.01)
        assert service.agent.input == data
        await client.close()


async def test_closing_lets_the_last_bytes_arrive() -> None:
    async with Service(Agent()) as service:
        client = client_of(service)
        await client.open()
        data = os.urandom(200_000)
        await client.write(data)
        await client.close()
        assert service.agent.input == data
        with pytest.raises(ChannelError, match="closed by the controller"):
            await client.write(b"x")
        assert await ended(client) == Closed("closed by the controller", clean=True)
    assert service.terminated == 1


async def test_closing_does_not_wait_for_a_dead_agent_or_service() -> None:
    async with Service(Agent()) as service:

        async def terminate() -> None:
            await asyncio.sleep(3600)

        client = SessionClient(service.started(), resume=service.resume, terminate=terminate, settings=ChannelSettings(close_timeout=0.1))
        await client.open()
        service.muted = True
        await client.write(b"never acknowledged")
        await client.close()
        assert client.stats.api_calls == 1


async def test_a_port_session_is_ended_by_its_flag() -> None:
    async with Service(Agent(session_type="Port")) as service:
        client = client_of(service)
        await client.open()
        while service.agent.handshake_running:
            await asyncio.sleep(0.01)
        await client.close()
        assert service.agent.flags == [2]


async def test_an_encrypted_session() -> None:
    key = os.urandom(64)
    async with Service(Agent(session_type="InteractiveCommands", kms_key="alias/sessions", data_key=key), echo=bytes) as service:
        asked: list[tuple[str, dict[str, str]]] = []

        async def generate_data_key(key_id: str, context: Mapping[str, str]) -> DataKey:
            asked.append((key_id, dict(context)))
            return DataKey(key, b"encrypted by KMS")

        client = client_of(service, generate_data_key=generate_data_key)
        await client.open()
        while service.agent.handshake_running:
            await asyncio.sleep(0.01)
        await client.write(b"a secret")
        assert await read(client, 8) == b"a secret"
        assert asked == [("alias/sessions", {"aws:ssm:SessionId": "session-1", "aws:ssm:TargetId": "i-1"})]
        await client.close()


async def test_an_encrypted_session_without_access_to_kms_ends_with_the_reason() -> None:
    async with Service(Agent(session_type="InteractiveCommands", kms_key="alias/sessions", data_key=bytes(64))) as service:

        async def generate_data_key(key_id: str, context: Mapping[str, str]) -> DataKey:
            raise PermissionError(f"kms:GenerateDataKey is not allowed for {key_id}")

        client = client_of(service, generate_data_key=generate_data_key)
        await client.open()
        while not service.agent.handshake_responses:
            await asyncio.sleep(0.01)
        await service.end()
        assert await ended(client) == Closed("the handshake failed: kms:GenerateDataKey is not allowed for alias/sessions", clean=False)
        await client.close()


async def test_a_client_is_opened_once() -> None:
    async with Service(Agent()) as service:
        client = client_of(service)
        with pytest.raises(ChannelError, match="was not opened"):
            await client.write(b"x")
        await client.open()
        with pytest.raises(ChannelError, match="opened before"):
            await client.open()
        await client.close()


def test_secrets_are_not_in_representations() -> None:
    assert "token" not in repr(StartedSession("s", "wss://host/", "token"))
    assert "key" not in repr(DataKey(b"key", b"key")).lower().replace("datakey", "")
