# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: which frames and calls they strike."""

from __future__ import annotations

import asyncio

import pytest

from tests.lab.errors import AwsError, WireProtocol
from tests.lab.faults import CallFault, Direction, Faults, FrameFault, Link, call_fault, frame_fault

NODE = frozenset(("i-1", "web-1"))


async def passed(faults: Faults, frames: list[bytes], direction: Direction = Direction.TO_AGENT) -> list[bytes]:
    """What arrives of some frames, in the order of arrival."""
    arrived: list[bytes] = []

    async def deliver(frame: bytes) -> None:
        arrived.append(frame)

    link = Link(faults, direction, NODE, deliver)
    for frame in frames:
        await link.push(frame)
    await link.push(b"last", exempt=True)
    async with asyncio.timeout(5):
        while b"last" not in arrived:
            await asyncio.sleep(0.001)
    link.close()
    return arrived[:-1]


FRAMES = [b"%d" % number for number in range(200)]


async def test_without_faults_all_passes():
    assert await passed(Faults(), FRAMES) == FRAMES


async def test_latency_and_jitter_keep_the_order():
    faults = Faults()
    faults.add(FrameFault(latency=0.005, jitter=0.01))
    assert await passed(faults, FRAMES) == FRAMES


async def test_loss_and_duplication_have_about_the_ratio_asked_for():
    faults = Faults()
    faults.add(FrameFault(loss=0.25))
    assert 25 < len(FRAMES) - len(await passed(faults, FRAMES)) < 80
    faults.clear()
    faults.add(FrameFault(duplicate=0.25))
    assert 25 < len(await passed(faults, FRAMES)) - len(FRAMES) < 80


async def test_a_count_ends_a_fault():
    faults = Faults()
    faults.add(FrameFault(loss=1.0, count=3))
    assert await passed(faults, FRAMES) == FRAMES[3:]


async def test_reordered_frames_all_arrive():
    faults = Faults()
    faults.add(FrameFault(reorder=0.1, reorder_delay=0.01))
    arrived = await passed(faults, FRAMES)
    assert arrived != FRAMES and sorted(arrived) == sorted(FRAMES)


@pytest.mark.parametrize("fault", [{"direction": "to_client"}, {"node": "web-2"}])
async def test_other_directions_and_nodes_are_spared(fault):
    faults = Faults()
    faults.add(frame_fault({"loss": 1.0, **fault}))
    assert await passed(faults, FRAMES) == FRAMES


async def test_a_fault_holds_for_links_that_were_there_before():
    faults, arrived = Faults(), []

    async def deliver(frame: bytes) -> None:
        arrived.append(frame)

    link = Link(faults, Direction.TO_AGENT, NODE, deliver)
    await link.push(b"before")
    number = faults.add(FrameFault(loss=1.0))
    await link.push(b"struck")
    faults.clear(number)
    await link.push(b"after")
    link.close()
    assert arrived == [b"before", b"after"]


def test_a_token_bucket_lets_the_burst_pass_and_then_the_rate():
    fault = CallFault("ssm:*", rate=2.0, burst=3.0)
    assert [fault.allows("ssm:A", "1", "r", now) for now in (0, 0, 0, 0, 0.4, 0.5, 0.6, 1.0)] == [True, True, True, False, False, True, False, True]


async def test_an_action_without_service_is_one_of_ssm():
    faults = Faults()
    faults.add(call_fault({"action": "StartSession", "status": 500, "count": 1}))
    await faults.call("ec2:DescribeInstances", "1", "r", WireProtocol.EC2)
    with pytest.raises(AwsError) as raised:
        await faults.call("ssm:StartSession", "1", "r", WireProtocol.JSON)
    assert raised.value.status == 500
    await faults.call("ssm:StartSession", "1", "r", WireProtocol.JSON)
