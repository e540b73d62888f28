# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's channel, with a real runner: what becomes of works when the node is silent, comes back or is gone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import SessionClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Verdict
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.server import Mux
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session import node_channel
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.documents import Rung
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.node_channel import NodeChannel
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.patience import Replacements
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.sessions import NodeSessions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.warm import Warmth
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.tasks import Tasks
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.work import Work
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.worker import WorkerConnection
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient, RunnerSettings
from tests.unit.plugin_utils.mux.local_service import PUBLIC, LocalService, LocalSession, command, identity


class Opened:
    """A channel, and what it reported."""

    channel: NodeChannel
    session: LocalSession
    """The other side of the channel's first one."""

    def __init__(self, service: LocalService) -> None:
        self.service = service
        self.lost: list[tuple[str, list[Work]]] = []
        self.wanted = 0
        self.runner = RunnerClient(RunnerSettings(fifo=True))
        self._sessions = NodeSessions(identity(ssm=service.url), "i-1", Tasks())

    async def open(self) -> None:
        client = await self.start(PUBLIC, self.runner.session_command())
        self.session = self.service.sessions[-1]
        self.channel = NodeChannel(
            client, self.runner, Warmth(), rung=Rung(PUBLIC), on_connected=lambda: None, on_lost=self._lost, on_carrier_wanted=self._wanted,
            on_estranged=lambda _channel: None, log=logging.getLogger("test"),
        )  # fmt: skip
        await self.channel.open()

    async def start(self, document: str, line: str) -> SessionClient:
        return await self._sessions.start(document, {"command": [line]}, "a test", ConnectionOptions(host="i-1"))

    def _lost(self, _channel: NodeChannel, reason: str, works: Sequence[Work]) -> None:
        self.lost.append((reason, list(works)))

    def _wanted(self, _channel: NodeChannel) -> None:
        self.wanted += 1

    def run(self, line: str, **values: Any) -> tuple[Work, asyncio.Future[bytes]]:
        work, output = command(line, **values)
        self.channel.submit(work)
        return work, output


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Opened]:
    async with LocalService() as service:
        made = Opened(service)
        await made.open()
        made.channel.opening_took = 0.0  # whatever else this machine has to do
        yield made
        await made.channel.close()
        assert service.open == set()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts after a fraction of a second."""
    monkeypatch.setattr(node_channel, "PROBE_AFTER", 0.05)
    monkeypatch.setattr(node_channel, "PROBE_TIMEOUT", 0.3)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_commands(opened: Opened) -> None:
    outputs = [opened.run(f"echo {number}")[1] for number in range(5)]
    assert await asyncio.gather(*outputs) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


async def test_what_is_submitted_to_an_ended_channel_is_reported(opened: Opened) -> None:
    opened.session.over("the agent restarted")
    await until(lambda: not opened.channel.usable)
    work, _output = opened.run("true")
    assert opened.lost[1:] == [("the connection to the node had ended", [work])]
    assert not opened.channel.busy


async def test_a_worker_that_leaves_after_its_channel_has_ended(opened: Opened, tmp_path: Path) -> None:
    """A mux that it did not leave would never end."""
    work, output = opened.run("sleep 30")
    opened.session.over("the agent restarted")
    await until(lambda: bool(opened.lost))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mux"))
        mux = Mux(listener, str(tmp_path / "mux"), logging.getLogger("test"))
    worker = WorkerConnection(mux)
    mux.joined(worker)
    mux.retire("replaced")
    worker._work = work
    work.input += b"more"
    work.changed()
    assert not mux._stopping.is_set()
    worker.connection_lost(None)
    assert mux._stopping.is_set()
    assert work.lifecycle.lost() is Verdict.UNKNOWN
    output.cancel()


@pytest.mark.usefixtures("hurried")
async def test_a_session_that_comes_back_serves_what_was_submitted_meanwhile(opened: Opened) -> None:
    await asyncio.sleep(0.1)
    opened.session.deaf = True
    opened.session.away()
    await until(lambda: opened.channel.session.reconnecting)
    _work, output = opened.run("echo back")
    await asyncio.sleep(1.0)
    assert opened.lost == []
    opened.session.back()
    await until(lambda: not opened.channel.session.reconnecting)
    await asyncio.sleep(0.1)
    opened.session.deaf = False
    assert await asyncio.wait_for(output, 5) == b"back\n"
    assert opened.lost == []


@pytest.mark.usefixtures("hurried")
async def test_a_session_that_does_not_come_back_is_waited_for_as_long_as_the_node_may_be_silent(opened: Opened) -> None:
    await asyncio.sleep(0.1)
    opened.session.away()
    await until(lambda: opened.channel.session.reconnecting)
    submitted = asyncio.get_running_loop().time()
    work, _output = opened.run("true", silence=1.0)
    await until(lambda: bool(opened.lost), 3)
    assert 0.9 < asyncio.get_running_loop().time() - submitted < 1.5
    assert opened.lost[0][1] == [work]
    assert opened.channel.missed_at == pytest.approx(submitted, abs=0.1)


@pytest.mark.usefixtures("hurried")
async def test_a_node_that_is_silent_is_left_at_once(opened: Opened) -> None:
    await asyncio.sleep(0.1)
    opened.session.deaf = True
    work, _output = opened.run("true")
    await until(lambda: bool(opened.lost), 1)
    assert opened.lost[0][1] == [work]


@pytest.mark.usefixtures("hurried")
async def test_a_node_that_was_slow_to_open_may_be_slow_to_answer(opened: Opened) -> None:
    """A new session would meet the same load, and add to it."""
    opened.channel.opening_took = 2.0
    await asyncio.sleep(0.1)
    opened.session.deaf = True
    _work, output = opened.run("echo slow")
    await asyncio.sleep(1.0)
    assert opened.lost == []
    opened.session.deaf = False
    assert await asyncio.wait_for(output, 5) == b"slow\n"


async def test_a_start_is_told_when_the_node_has_confirmed_it(opened: Opened) -> None:
    told: list[int] = []
    opened.session.deaf = True
    outputs = []
    for number in range(3):
        work, output = command("sleep 0.2; echo done")
        work.tell_start = lambda number=number: told.append(number)  # type: ignore[misc]
        opened.channel.submit(work)
        outputs.append(output)
    await asyncio.sleep(0.5)
    assert told == []
    opened.session.deaf = False
    assert await asyncio.gather(*outputs) == [b"done\n"] * 3
    assert 0 in told

    work, output = command("sleep 0.5; echo done")
    told.clear()
    work.tell_start = lambda: told.append(output.done())
    opened.channel.submit(work)
    await output
    assert told == [False], "it was told while the command ran"


async def output_session(opened: Opened) -> tuple[SessionClient, int]:
    number, line = opened.runner.open_carrier()
    return await opened.start("output", line), number


async def test_a_session_for_output_that_comes_too_late_is_closed(opened: Opened) -> None:
    carrier, number = await output_session(opened)
    opened.session.over("over")
    await until(lambda: not opened.channel.usable)
    assert opened.service.open == {carrier.session_id}
    await opened.channel.output.attach(carrier, number)
    assert opened.service.open == set()


async def test_a_session_for_output_is_closed_if_attaching_it_is_cancelled(opened: Opened) -> None:
    hanging, released = asyncio.Event(), asyncio.Event()

    async def hang(_session: LocalSession) -> None:
        hanging.set()
        await released.wait()

    opened.service.on_open = hang
    carrier, number = await output_session(opened)
    attaching = asyncio.create_task(opened.channel.output.attach(carrier, number))
    await hanging.wait()
    attaching.cancel()
    await asyncio.wait([attaching])
    assert opened.service.open == {opened.session.session_id}
    released.set()


async def test_a_lost_session_for_output_is_replaced_while_there_is_work(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replacements, "LONGEST_PAUSE", 0.2)
    carrier, number = await output_session(opened)
    await opened.channel.output.attach(carrier, number)
    assert opened.channel.output.session is carrier
    opened.service.sessions[-1].over("over")
    await until(lambda: opened.channel.output.session is None)
    await asyncio.sleep(0.4)
    assert opened.wanted == 0, "nobody needs it"
    _work, output = opened.run("sleep 0.2; echo whole")
    await until(lambda: opened.wanted == 1)
    assert await output == b"whole\n"
    for turn in range(20):
        opened.channel.output.failed()
        _work, output = opened.run("sleep 0.25")
        await output
        assert opened.wanted <= Replacements.MOST, turn


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("told", [False, True])
async def test_two_reasons_to_ask_for_a_sign_of_life_are_one_question(opened: Opened, told: bool) -> None:
    """Within one round trip nothing can have been answered: a session for output that works is not left."""
    carrier, number = await output_session(opened)
    await opened.channel.output.attach(carrier, number)
    others = opened.service.sessions[-1]
    await opened.run("true")[1]
    if not told:
        await asyncio.sleep(0.1)  # so that the node is asked before it gets the command
    opened.channel._last_sent -= node_channel.KEEPALIVE
    opened.session.deaf = others.deaf = True
    work, output = command("echo on")
    work.tell_start = (lambda: None) if told else None
    opened.channel.submit(work)
    opened.channel._tick()
    await asyncio.sleep(0.1)
    opened.session.deaf = others.deaf = False
    assert await output == b"on\n"
    await asyncio.sleep(0.5)
    assert opened.channel.output.session is carrier
