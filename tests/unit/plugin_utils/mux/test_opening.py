# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opening nodes: how long it takes to say that one is out of reach, what is waited out, and that no session is left."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws import lookups
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session import opening, sessions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.patience import Patience, Replacements
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.route import SessionRoute
from tests.endpoints import black_hole, refusing_endpoint, silent_endpoint
from tests.unit.plugin_utils.mux.local_service import (
    PUBLIC,
    SHELL,
    LocalService,
    LocalSession,
    Refusal,
    Surroundings,
    command,
    identity,
)

UNREACHABLE_WITHIN = 10.0
ENDPOINTS = {"refused": refusing_endpoint, "black hole": black_hole, "silent": silent_endpoint}


@pytest_asyncio.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService() as made:
        yield made


def options(number: int = 0, document: str = SHELL, **values: Any) -> ConnectionOptions:
    return ConnectionOptions(host=f"i-{number:08x}", document=document, **values)


def knowing(surroundings: Surroundings) -> Surroundings:
    """Both sessions of a node start together."""
    surroundings.known_nodes.add(options().host)
    return surroundings


def make(who: Identity, surroundings: Surroundings | None = None, **values: Any) -> SessionRoute:
    return SessionRoute(surroundings or Surroundings(), who, options(**values))


async def unreachable(*routes: SessionRoute) -> tuple[list[str], float]:
    """The messages, and the seconds until the last one."""
    began = time.monotonic()
    errors = await asyncio.gather(*(route.open(route._options, "a test") for route in routes), return_exceptions=True)
    took = time.monotonic() - began
    assert all(isinstance(error, RequestError) and error.kind == "unreachable" for error in errors), errors
    for route in routes:
        await route.close()
    return [str(error) for error in errors], took


async def unreachable_within(who: Identity, monkeypatch: pytest.MonkeyPatch) -> float:
    """Grant each question to EC2 what it takes on this machine, as far as that is busy. What follows need not wait for clients."""
    await who.call("ssm", "get_connection_status", deadline=asyncio.get_running_loop().time() + 60, resource="i-1", Target="i-1")
    began = time.monotonic()
    await who.instances({"InstanceIds": ["i-1"]}, within=60)
    granted = 4 * max(0.0, time.monotonic() - began - 1.0)
    monkeypatch.setattr(opening, "REASON_WITHIN", opening.REASON_WITHIN + granted)
    monkeypatch.setattr(lookups, "_ANSWERED_WITHIN", lookups._ANSWERED_WITHIN + granted)
    return UNREACHABLE_WITHIN + granted


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# Out of reach


@pytest.mark.parametrize(("kind", "hosts"), [("refused", 1), ("refused", 5), ("black hole", 5), ("silent", 5)])
async def test_an_endpoint_that_is_out_of_reach(kind: str, hosts: int) -> None:
    with ENDPOINTS[kind]() as url:
        who, surroundings = identity(ssm=url), Surroundings()
        messages, took = await unreachable(*(make(who, surroundings, number=number, document="auto") for number in range(hosts)))
    assert took < UNREACHABLE_WITHIN
    assert all(url in message for message in messages)


async def test_a_data_channel_whose_endpoint_is_out_of_reach(service: LocalService) -> None:
    with black_hole() as url:
        service.rules["StartSession"] = lambda values: {**service._StartSession(values), "StreamUrl": url.replace("http", "ws")}
        (message,), took = await unreachable(make(identity(ssm=service.url)))
    assert took < UNREACHABLE_WITHIN
    assert "the data channel to 127.0.0.1 cannot be opened" in message
    assert service.open == set()


async def mute(session: LocalSession) -> None:
    session.deaf = True


def not_connected(values: dict[str, Any]) -> None:
    time.sleep(0.3)
    raise Refusal("InvalidDocument" if values.get("DocumentName", "").startswith("Fleet") else "TargetNotConnected")


async def test_fifty_nodes_that_are_stopped(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.rules["StartSession"] = not_connected
    who, surroundings = identity(ssm=service.url), Surroundings()
    within = await unreachable_within(who, monkeypatch)
    messages, took = await unreachable(*(make(who, surroundings, number=number, document="auto") for number in range(50)))
    assert took < within
    assert messages == [f"the instance i-{number:08x} is stopped" for number in range(50)]
    assert service.count("StartSession") == 51, "only one finds out that a document does not exist"
    assert service.count("DescribeInstances") <= 1 + 3


@pytest.mark.parametrize("kind", ["black hole", "silent"])
async def test_a_reason_is_given_where_ec2_cannot_be_asked(service: LocalService, kind: str) -> None:
    service.rules["StartSession"] = not_connected
    with ENDPOINTS[kind]() as ec2:
        (message,), took = await unreachable(make(identity(ssm=service.url, ec2=ec2)))
    assert took < UNREACHABLE_WITHIN
    assert "i-00000000 is not connected to Session Manager" in message
    assert "EC2 could not be asked" in message


async def test_a_node_that_was_lost_a_moment_ago_may_come_back(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    who = identity(ssm=service.url)
    within = await unreachable_within(who, monkeypatch)
    route = make(who)
    await route.open(route._options, "a test")
    gone_until = time.monotonic() + 2.0
    service.rules["StartSession"] = lambda values: not_connected(values) if time.monotonic() < gone_until else None
    service.sessions[-1].over("the agent restarts")
    await until(lambda: not route.is_open or route.busy)
    await route.open(route._options, "a test")
    gone_until = time.monotonic() + 60.0
    service.sessions[-1].over("the instance is stopped")
    await asyncio.sleep(0.1)
    (message,), took = await unreachable(route)
    assert took < within
    assert message == "the instance i-00000000 is stopped"


async def test_a_runner_that_is_not_ready_in_time_is_not_tried_again(service: LocalService) -> None:
    service.on_open = mute
    (message,), took = await unreachable(make(identity(ssm=service.url), connection_timeout=1))
    assert took < 3
    assert "was not ready within 1 s" in message
    assert (service.count("StartSession"), service.open) == (1, set())


# Waited out


async def test_fifty_nodes_are_opened_together(service: LocalService) -> None:
    def start(values: dict[str, Any]) -> None:
        time.sleep(0.1)
        raise Refusal("InvalidDocument" if values.get("DocumentName", "").startswith("Fleet") else "Denied")

    service.rules["StartSession"] = start
    who, surroundings = identity(ssm=service.url), Surroundings()
    _messages, took = await unreachable(*(make(who, surroundings, number=number, document="auto") for number in range(50)))
    assert took < 0.1 * (50 + 50 / 8), "not one after another"


def throttled(seconds: float) -> Callable[[dict[str, Any]], None]:
    """From the first call on."""
    ends: list[float] = []

    def throttle(_values: dict[str, Any]) -> None:
        ends.append(time.monotonic() + seconds)
        if time.monotonic() < ends[0]:
            raise Refusal("ThrottlingException")

    return throttle


async def test_throttling_is_waited_out_and_holds_nobody_else_up(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "FRESH", 0.5)
    service.rules["StartSession"] = throttled(3.0)
    route = make(identity(ssm=service.url))
    work, output = command("echo patient")
    route.submit(work, route._options)
    assert await asyncio.wait_for(output, 20) == b"patient\n"
    await route.close()


async def test_time_that_throttling_takes_is_not_that_of_faults(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "FRESH", 1.0)
    monkeypatch.setattr(Patience, "AT_LEAST", 0)
    throttle, faults = throttled(2.0), iter([True])

    def throttle_and_fail(values: dict[str, Any]) -> None:
        throttle(values)
        if next(faults, False):
            raise Refusal("InternalServerError", 500)

    service.rules["StartSession"] = throttle_and_fail
    route = make(identity(ssm=service.url))
    work, output = command("echo patient")
    route.submit(work, route._options)
    assert await asyncio.wait_for(output, 20) == b"patient\n"
    await route.close()


async def test_a_node_that_was_connected_is_waited_for_while_the_network_is_away(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "FRESH", 0.5)
    monkeypatch.setattr(Patience, "AT_LEAST", 0)
    route = make(identity(ssm=service.url), silence_timeout=20)
    await route.open(route._options, "a test")
    back_at = time.monotonic() + 4.0

    def away(_values: dict[str, Any]) -> None:
        if time.monotonic() < back_at:
            raise Refusal("InternalServerError", 500)

    service.rules["StartSession"] = away
    service.sessions[-1].over("lost")
    await until(lambda: not route.is_open or route.busy)
    work, output = command("echo here")
    route.submit(work, route._options)
    assert await asyncio.wait_for(output, 15) == b"here\n"
    await route.close()
    assert service.open == set()


async def test_a_data_channel_that_is_late_while_others_come_in_is_tried_again(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service is within reach then, and this machine or the service is busy."""
    monkeypatch.setattr(Patience, "FRESH", 0.3)
    monkeypatch.setattr(sessions, "_OPEN_TIMEOUT", 0.5)
    late: list[str] = []

    async def on_open(session: LocalSession) -> None:
        late.append(session.session_id)
        if len(late) < 4:
            await asyncio.sleep(1)

    service.on_open = on_open
    who, surroundings = identity(ssm=service.url), Surroundings()
    first = make(who, surroundings)
    coming = asyncio.create_task(first.open(first._options, "a test"))
    await until(lambda: bool(late))
    while not coming.done():  # others come in all the time
        who.connected_at = asyncio.get_running_loop().time()
        await asyncio.sleep(0.1)
    await coming
    assert len(late) == 4
    await first.close()


async def test_a_data_channel_that_is_late_while_nobody_comes_in_is_out_of_reach(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "FRESH", 0.3)
    monkeypatch.setattr(sessions, "_OPEN_TIMEOUT", 0.5)

    async def on_open(_session: LocalSession) -> None:
        await asyncio.sleep(1)

    service.on_open = on_open
    (message,), took = await unreachable(make(identity(ssm=service.url)))
    assert took < 2 and "timed out" in message


async def test_a_node_that_comes_in_tells_that_the_way_is_open(service: LocalService) -> None:
    who = identity(ssm=service.url)
    before = asyncio.get_running_loop().time()
    route = make(who)
    await route.open(route._options, "a test")
    assert who.connected_at > before
    await route.close()


async def test_a_silent_runner_is_waited_for_as_others_were_slow_too(service: LocalService) -> None:
    who = identity(ssm=service.url)
    route = make(who)
    await route.open(route._options, "a test")
    assert who.opening_took > 0
    await route.close()
    service.on_open = mute
    who.opening_took = 1.5
    (message,), took = await unreachable(make(who, connection_timeout=1))
    assert "was not ready within 3 s" in message and 2.9 < took < 5


@pytest.mark.parametrize(("signs", "opened"), [(6, True), (0, False), (40, False)])
async def test_a_runner_that_is_late_is_waited_for_while_its_session_gives_signs_of_life(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, signs: int, opened: bool
) -> None:
    """A busy node takes its time. But not for ever."""
    monkeypatch.setattr(opening, "AT_MOST", 2)
    starting = []

    async def start(session: LocalSession) -> None:
        session.deaf = True

        async def say() -> None:
            for _sign in range(signs):
                await asyncio.sleep(0.4)
                session.output(b"starting\r\n")
            if opened:
                session.deaf = False

        starting.append(asyncio.create_task(say()))

    service.on_open = start
    route = make(identity(ssm=service.url), document=PUBLIC, connection_timeout=2)
    if opened:
        await route.open(route._options, "a test")
        await route.close()
    else:
        (message,), took = await unreachable(route)
        assert "was not ready" in message
        assert 3.9 < took < 6 if signs else took < 3.5
    starting[0].cancel()


async def test_ready_and_the_end_in_one_moment(service: LocalService) -> None:
    """Work that waits goes to another session, and not to one that has ended: here another runner begins right behind what says that one is ready."""
    announcement = b""

    def again(data: bytes) -> bytes:
        nonlocal announcement
        if found := re.search(rb"^fleet-ssm:\S+:ready:.*\n", data, re.MULTILINE):
            announcement = found[0]
            return data
        return data + announcement

    async def on_open(session: LocalSession) -> None:
        if session is service.sessions[0]:
            session.alter = again

    service.on_open = on_open
    route = make(identity(ssm=service.url))
    work, output = command("echo done", retries=0)
    route.submit(work, route._options)
    assert await asyncio.wait_for(output, 15) == b"done\n"
    assert len(service.sessions) == 2
    await route.close()
    assert service.open == set()


# Nothing is left


def slowly(service: LocalService) -> Callable[[dict[str, Any]], Any]:
    def start(values: dict[str, Any]) -> Any:
        time.sleep(0.4)
        return service._StartSession(values)

    return start


@pytest.mark.parametrize("known", [False, True])
async def test_the_second_session_of_a_node_that_may_have_no_user_yet_starts_behind_the_first(service: LocalService, known: bool) -> None:
    surroundings, opened = Surroundings(), asyncio.Event()
    before: list[bool] = []
    service.rules["StartSession"] = lambda _values: before.append(opened.is_set())

    async def open_slowly(_session: LocalSession) -> None:
        await asyncio.sleep(0.6)
        opened.set()

    service.on_open = open_slowly
    route = make(identity(ssm=service.url), knowing(surroundings) if known else surroundings, document=PUBLIC)
    await route.open(route._options, "a test")
    await until(lambda: len(before) == 2)
    await route.close()
    assert before == [False, not known]


async def test_no_session_is_left_if_the_first_one_ends_while_the_second_is_started(service: LocalService) -> None:
    service.rules["StartSession"] = slowly(service)

    async def over(session: LocalSession) -> None:
        session.deaf = True  # it must not be READY before
        asyncio.get_running_loop().call_later(0.25, session.over, "the run-as user does not exist")

    service.on_open = over
    route = make(identity(ssm=service.url), knowing(Surroundings()), document=PUBLIC)
    with pytest.raises(RequestError, match="the run-as user does not exist"):
        await route.open(route._options, "a test")
    await route.close()
    assert (len(service.sessions), service.open) == (2, set())


@pytest.mark.parametrize("moment", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("document", [SHELL, PUBLIC])
async def test_no_session_is_left_if_it_is_closed_while_it_opens(service: LocalService, document: str, moment: float) -> None:
    service.rules["StartSession"] = slowly(service)
    route = make(identity(ssm=service.url), knowing(Surroundings()), document=document)
    opening = asyncio.create_task(route.open(route._options, "a test"))
    work, output = command("sleep 60")
    route.submit(work, route._options)
    await asyncio.sleep(moment)
    await route.close()
    assert service.sessions
    assert service.open == set()
    with pytest.raises(RequestError):
        await asyncio.wait_for(output, 1)
    await asyncio.wait([opening], timeout=1)
    assert opening.done()
    opening.exception()
    assert not route.busy


async def test_what_waits_for_its_turn_is_not_started_any_more(service: LocalService) -> None:
    def throttle(_values: dict[str, Any]) -> None:
        raise Refusal("ThrottlingException")

    service.rules["StartSession"] = throttle
    route = make(identity(ssm=service.url))
    opening = asyncio.create_task(route.open(route._options, "a test"))
    await until(lambda: service.count("StartSession") > 2)
    began = time.monotonic()
    await route.close()
    assert time.monotonic() - began < 1
    with pytest.raises(RequestError, match="the mux is ending"):
        await opening


async def test_an_output_session_that_always_fails_keeps_nothing_open(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replacements, "LONGEST_PAUSE", 0.1)

    def no_output(values: dict[str, Any]) -> None:
        if values["DocumentName"] != PUBLIC:
            raise Refusal("InternalServerError", 500)

    service.rules["StartSession"] = no_output
    route = make(identity(ssm=service.url), document=PUBLIC, control_persist=0)
    work, output = command("sleep 2; echo whole")
    route.submit(work, route._options)
    assert await asyncio.wait_for(output, 15) == b"whole\n"
    tries = service.count("StartSession")
    assert 2 < tries <= 2 + Replacements.MOST
    await until(lambda: not route.busy, 3)
    route.close_if_idle(time.monotonic() + 1)
    await until(lambda: not (route.is_open or route.busy), 5)
    assert service.open == set()
    assert service.count("StartSession") == tries
    await route.close()
