# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loss, time-outs, window and pause of the sending side, on a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.incoming import Incoming
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.message import Message
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.outgoing import Outgoing
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.roundtrip import RoundTrip

# How often the peers look for what has timed out; it comes on top of the time-outs themselves.
INTERVAL = 0.1


def send(outgoing: Outgoing, count: int, now: float) -> None:
    for _turn in range(count):
        outgoing.sent(b"%d" % outgoing.next_sequence, now)


def run(outgoing: Outgoing, *, round_trip: float, seconds: float, rate: float = float("inf"), start: float = 0.0) -> float:
    """Keep the window full against a peer that answers after ``round_trip``, at most ``rate`` messages a second."""
    now, end = start, start + seconds
    busy_until = now
    due: list[tuple[float, int]] = []
    while now < end:
        while outgoing.room():
            busy_until = max(busy_until, now) + 1 / rate
            due.append((busy_until + round_trip, outgoing.next_sequence))
            send(outgoing, 1, now)
        outgoing.window.limiting = True
        now, sequence = due.pop(0)
        outgoing.acknowledge(sequence, now)
    return now


def test_first_time_outs_are_those_of_the_peers() -> None:
    trip = RoundTrip()
    assert trip.smoothed == 0.1
    assert trip.timeout == pytest.approx(0.2 + INTERVAL)


def test_the_estimator_is_that_of_the_peers() -> None:
    trip = RoundTrip()
    trip.sample(0.3, now=0.0)
    # variation 0 + (0.3 - 0.1) / 4, round trip 0.1 + (0.3 - 0.1) / 8
    assert trip.variation == pytest.approx(0.05)
    assert trip.smoothed == pytest.approx(0.125)
    assert trip.timeout == pytest.approx(0.325 + INTERVAL)


def test_time_outs_stay_within_their_bounds() -> None:
    fast, slow = RoundTrip(), RoundTrip()
    for _turn in range(200):
        fast.sample(0.001, now=0.0)
        slow.sample(3.0, now=0.0)
    assert fast.timeout == pytest.approx(0.001 + 0.01 + INTERVAL, abs=0.001)
    assert slow.timeout == pytest.approx(1.0 + INTERVAL)


def test_time_outs_double_until_something_is_answered() -> None:
    trip = RoundTrip()
    seen = []
    for _turn in range(4):
        seen.append(trip.timeout)
        trip.timed_out()
    assert seen == pytest.approx([0.2 + INTERVAL, 0.4 + INTERVAL, 0.8 + INTERVAL, 1.0 + INTERVAL])
    trip.answered()
    assert trip.timeout == pytest.approx(0.2 + INTERVAL)


def test_the_shortest_round_trip_is_forgotten_when_the_path_changes() -> None:
    trip = RoundTrip()
    trip.sample(0.01, now=0.0)
    for second in range(1, 31):
        trip.sample(0.2, now=float(second))
    assert trip.minimum == pytest.approx(0.2)


def test_a_message_without_acknowledgement_is_sent_again_after_the_time_out() -> None:
    outgoing = Outgoing(32, 64)
    send(outgoing, 1, 0.0)
    assert outgoing.next_deadline() == pytest.approx(0.3)
    assert outgoing.retransmissions_due(0.299) == []
    assert outgoing.retransmissions_due(0.301) == [b"0"]
    assert outgoing.next_deadline() == pytest.approx(0.301 + 0.5)  # twice the time-out from then on
    outgoing.acknowledge(0, 0.35)
    assert outgoing.next_deadline() is None
    assert len(outgoing) == 0
    # A round trip of a message sent twice says nothing.
    assert outgoing.round_trip.smoothed == 0.1


def test_a_lost_message_is_sent_again_as_soon_as_later_ones_are_acknowledged() -> None:
    outgoing = Outgoing(32, 64)
    send(outgoing, 12, 0.0)
    for sequence in (0, *range(2, 9)):
        outgoing.acknowledge(sequence, 0.01)
    assert outgoing.retransmissions_due(0.01) == []  # it may only have been overtaken
    outgoing.acknowledge(9, 0.01)
    assert outgoing.retransmissions_due(0.01) == [b"1"]
    for sequence in (10, 11):
        outgoing.acknowledge(sequence, 0.01)
    assert outgoing.retransmissions_due(0.01) == []  # what overtook the first transmission says nothing of the second


def test_a_message_is_acknowledged_once_and_unknown_ones_are_ignored() -> None:
    outgoing = Outgoing(32, 64)
    send(outgoing, 2, 0.0)
    for sequence in (0, 0, 7, -1):
        outgoing.acknowledge(sequence, 0.05)
    assert len(outgoing) == 1


def test_the_window_starts_small_and_grows_on_a_long_path() -> None:
    outgoing = Outgoing(32, 4096)
    assert outgoing.room() == 32
    run(outgoing, round_trip=0.08, seconds=1.0)
    assert outgoing.window.size >= 512


def test_the_window_does_not_grow_when_it_is_not_used() -> None:
    outgoing = Outgoing(32, 4096)
    for step in range(1000):
        send(outgoing, 1, step / 10)
        outgoing.acknowledge(outgoing.next_sequence - 1, step / 10 + 0.01)
    assert outgoing.window.size == 32


def test_the_window_stops_where_messages_begin_to_queue() -> None:
    outgoing = Outgoing(32, 100_000)
    run(outgoing, round_trip=0.001, seconds=5.0, rate=10_000)
    # 10,000 messages a second and a queue of some 50 ms; a full buffer would be the whole window of 100,000.
    assert outgoing.round_trip.recent < 0.1
    assert 300 <= outgoing.window.size <= 1000


def test_round_trips_that_vary_do_not_keep_the_window_small() -> None:
    outgoing = Outgoing(32, 4096)
    random = Random(1)
    now = 0.0
    while now < 3.0:
        sent = range(outgoing.next_sequence, outgoing.next_sequence + outgoing.room())
        send(outgoing, len(sent), now)
        outgoing.window.limiting = True
        now += random.uniform(0.02, 0.2)
        for sequence in sent:
            outgoing.acknowledge(sequence, now)
    assert outgoing.window.size >= 480


def test_the_window_halves_once_for_a_burst_of_losses() -> None:
    outgoing = Outgoing(32, 4096)
    now = run(outgoing, round_trip=0.08, seconds=1.0)
    before = outgoing.window.size
    first = outgoing.next_sequence - len(outgoing)
    for sequence in range(first + 20, first + 60):  # twenty are missing in front
        outgoing.acknowledge(sequence, now + 0.001)
    assert len(outgoing.retransmissions_due(now + 0.001)) == 20
    assert before // 2 <= outgoing.window.size <= before // 2 + 40
    for sequence in range(first + 80, first + 120):  # twenty more, which were on their way already
        outgoing.acknowledge(sequence, now + 0.002)
    assert len(outgoing.retransmissions_due(now + 0.002)) == 20
    assert before // 2 <= outgoing.window.size <= before // 2 + 80


def test_the_window_starts_again_after_silence() -> None:
    outgoing = Outgoing(32, 4096)
    now = run(outgoing, round_trip=0.08, seconds=1.0)
    unacknowledged = len(outgoing)
    assert unacknowledged > 500
    resent = outgoing.retransmissions_due(now + 5)
    assert outgoing.window.size == len(resent) == 32
    assert int(resent[0]) == outgoing.next_sequence - unacknowledged  # the one that everything else waits for
    assert outgoing.room() == 0


def test_after_a_standstill_the_window_is_soon_what_it_was() -> None:
    outgoing = Outgoing(32, 4096)
    now = run(outgoing, round_trip=0.08, seconds=1.0)
    before = outgoing.window.size
    for _turn in range(3):  # more than one time-out long
        now += 2
        outgoing.retransmissions_due(now)
    assert outgoing.window.size == 32
    for sequence in range(outgoing.next_sequence - len(outgoing), outgoing.next_sequence):
        outgoing.acknowledge(sequence, now + 0.08)
    run(outgoing, round_trip=0.08, seconds=0.7, start=now + 0.1)
    assert outgoing.window.size >= before


def test_nothing_is_lost_however_long_the_silence() -> None:
    outgoing = Outgoing(4, 8)
    send(outgoing, 4, 0.0)
    resent = set()
    for second in range(1, 60):
        resent |= set(outgoing.retransmissions_due(float(second)))
    assert resent == {b"0", b"1", b"2", b"3"}
    for sequence in range(4):
        outgoing.acknowledge(sequence, 60.0)
    assert len(outgoing) == 0
    assert outgoing.room() >= 4


def test_while_paused_one_message_at_a_time_asks_whether_the_agent_is_back() -> None:
    outgoing = Outgoing(32, 64)
    outgoing.paused = True
    assert outgoing.room() == 1
    send(outgoing, 1, 0.0)
    assert outgoing.room() == 0
    asked = [now / 10 for now in range(1, 100) if outgoing.retransmissions_due(now / 10)]
    assert len(asked) >= 9
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 0.3
    outgoing.paused = False
    outgoing.acknowledge(0, 10.0)
    assert outgoing.room() == 32


def test_a_reconnection_sends_everything_again_in_order() -> None:
    outgoing = Outgoing(32, 64)
    send(outgoing, 10, 0.0)
    outgoing.acknowledge(3, 0.01)
    outgoing.paused = True
    outgoing.reconnected()
    assert outgoing.retransmissions_due(0.02) == [b"0", b"1", b"2", b"4", b"5", b"6", b"7", b"8", b"9"]


def message(sequence: int) -> Message:
    return Message("output_stream_data", sequence, 0, bytes(16), 1, 1, b"%d" % sequence)


def test_early_messages_wait_and_duplicates_are_acknowledged_again() -> None:
    incoming = Incoming(10)
    assert incoming.accept(message(1))
    assert list(incoming.in_order()) == []
    assert incoming.missing
    assert incoming.accept(message(1))
    assert incoming.accept(message(0))
    assert [m.sequence for m in incoming.in_order()] == [0, 1]
    assert not incoming.missing
    assert incoming.accept(message(0))
    assert list(incoming.in_order()) == []
    assert incoming.duplicates == 2


def test_a_message_for_which_there_is_no_room_is_not_acknowledged() -> None:
    incoming = Incoming(2)
    assert incoming.accept(message(2))
    assert incoming.accept(message(3))
    assert not incoming.accept(message(4))
    assert incoming.accept(message(0))  # the one that is waited for always has room
    assert [m.sequence for m in incoming.in_order()] == [0]
    assert incoming.accept(message(1))
    assert [m.sequence for m in incoming.in_order()] == [1, 2, 3]
    assert incoming.accept(message(4))
