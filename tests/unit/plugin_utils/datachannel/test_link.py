# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client and agent over a simulated link that loses, doubles, delays and reorders, and breaks: every byte arrives once."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel import message as wire
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.channel import DataChannel
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import DataKeyNeeded, Output, Resending

from .agent import Agent, notice

TICK = 0.02
PATIENCE = 600.0  # simulated seconds; agents recover one lost message in 0.3 s at best


@dataclass
class Link:
    """What happens to a frame on its way; shares are out of one, times in seconds."""

    random: Random
    loss: float = 0.0
    doubling: float = 0.0
    latency: float = 0.0
    jitter: float = 0.0
    queue: list[tuple[float, int, bool, bytes]] = field(default_factory=list)
    count: int = 0

    def put(self, frame: bytes, now: float, *, to_agent: bool) -> None:
        for _turn in range(2 if self.random.random() < self.doubling else 1):
            if self.random.random() >= self.loss:
                self.count += 1
                heapq.heappush(self.queue, (now + self.latency + self.random.random() * self.jitter, self.count, to_agent, frame))


def simulate(channel: DataChannel, agent: Agent, link: Link, *, output: bytes, cuts: list[float], key: bytes = b"") -> tuple[bytes, float]:
    """Run until both sides have everything acknowledged; returns what the client got, and the time it took."""
    now, received, cuts = 0.0, bytearray(), sorted(cuts)
    to_send = [output[start : start + 1024] for start in range(0, len(output), 1024)]
    while now < PATIENCE:
        if to_send and not agent.handshake_running:
            agent.send(to_send.pop(0))
        if cuts and now >= cuts[0]:
            cuts.pop(0)
            link.queue.clear()
            agent.receive(notice(wire.PAUSE_PUBLICATION, {}))
            now += 0.5
            channel.reconnected(now)
            agent.receive(notice(wire.START_PUBLICATION, {}))
        for frame in agent.frames(now):
            link.put(frame, now, to_agent=False)
        while frames := channel.frames_to_send(now):
            for frame in frames:
                link.put(frame, now, to_agent=True)
        if channel.drained and agent.drained and not to_send and not link.queue and not agent.handshake_running:
            break
        times = [now + TICK, *([link.queue[0][0]] if link.queue else [])]
        if (deadline := channel.next_deadline()) is not None:
            times.append(deadline)
        now = max(now, min(times))
        while link.queue and link.queue[0][0] <= now:
            _time, _count, to_agent, frame = heapq.heappop(link.queue)
            if to_agent:
                agent.receive(frame)
                continue
            for event in channel.receive(frame, now):
                if isinstance(event, DataKeyNeeded):
                    channel.data_key(key, b"encrypted")
                elif not isinstance(event, Resending):  # a hint, no part of what is carried
                    assert isinstance(event, Output)
                    received += event.data
    return bytes(received), now


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    random=st.randoms(use_true_random=False),
    loss=st.floats(0, 0.3),
    doubling=st.floats(0, 0.5),
    latency=st.floats(0, 0.1),
    jitter=st.floats(0, 0.2),
    sizes=st.tuples(st.integers(0, 80_000), st.integers(0, 20_000)),
    cuts=st.lists(st.floats(0, 5), max_size=3),
    handshake=st.booleans(),
    encryption=st.booleans(),
)
def test_every_byte_arrives_once_and_in_order_both_ways(
    random: Random,
    loss: float,
    doubling: float,
    latency: float,
    jitter: float,
    sizes: tuple[int, int],
    cuts: list[float],
    handshake: bool,
    encryption: bool,
) -> None:
    data, output = random.randbytes(sizes[0]), random.randbytes(sizes[1])
    key = os.urandom(64) if handshake and encryption else b""
    agent = Agent(session_type="InteractiveCommands" if handshake else "", kms_key="key" if key else "", data_key=key)
    channel = DataChannel("s", "t")
    if not handshake:  # an agent that shakes hands forgets what comes before
        channel.send(data)
    else:
        simulate(channel, agent, Link(random, loss, doubling, latency, jitter), output=b"", cuts=[], key=key)
        channel.send(data)
    received, elapsed = simulate(channel, agent, Link(random, loss, doubling, latency, jitter), output=output, cuts=cuts, key=key)
    assert elapsed < PATIENCE
    assert bytes(agent.input) == data
    assert received == output


def test_a_link_without_faults_needs_no_retransmission() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    data = os.urandom(5_000_000)
    channel.send(data)
    _received, elapsed = simulate(channel, agent, Link(Random(1), latency=0.04), output=b"", cuts=[])
    assert agent.input == data
    assert channel.retransmissions == 0
    assert agent.received_sequences == sorted(set(agent.received_sequences))
    # 80 ms of round trip: with the first window alone it would be 12 s.
    assert elapsed < 2.0
    assert channel.window > 512


def test_two_percent_of_loss_do_not_stop_a_put() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    data = os.urandom(1_000_000)
    channel.send(data)
    _received, elapsed = simulate(channel, agent, Link(Random(2), loss=0.02, latency=0.005), output=b"", cuts=[])
    assert agent.input == data
    assert channel.retransmissions >= 10
    # A time-out for each of the 40 losses would be 4 s; losses are seen by what overtook them.
    assert elapsed < 2.0
