# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent that only sends again is told from one that is slow, far away, or has another idea of the time."""

from __future__ import annotations

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.pace import Pace

AHEAD = 1000.0  # seconds between the two clocks


def seen(pace: Pace, messages: list[tuple[float, float]]) -> int:
    """How often it is told, for messages as (made at, arrived at)."""
    return sum(pace.resending(created + AHEAD, now) for created, now in messages)


def flow(start: float, count: int, *, every: float = 0.001, late: float = 0.02) -> list[tuple[float, float]]:
    """Messages that are made at equal times and arrive a little later."""
    return [(start + number * every, start + number * every + late) for number in range(count)]


def test_what_was_kept_in_a_pause_and_comes_piece_by_piece_is_noticed_within_seconds() -> None:
    pace = Pace()
    assert seen(pace, flow(0.0, 500)) == 0
    assert seen(pace, [(0.5 + number * 0.001, 3.0 + number * 0.1) for number in range(15)]) == 1


@pytest.mark.parametrize("late", [0.02, 0.8])
def test_regular_output_is_not(late: float) -> None:
    assert seen(Pace(), [*flow(0.0, 500, late=0.02), *flow(10.0, 500, late=late), *flow(20.0, 50, every=0.1, late=late)]) == 0


def test_a_burst_after_a_standstill_is_not() -> None:
    assert seen(Pace(), [*flow(0.0, 100), *((1.0 + number * 0.01, 8.0 + number * 0.0001) for number in range(500))]) == 0


def test_messages_that_were_lost_now_and_then_are_not() -> None:
    pace = Pace()
    for second in range(60):
        assert seen(pace, [*flow(second, 20), (second + 0.5, second + 0.9)]) == 0


def test_a_clock_that_is_set_is_reported_once() -> None:
    pace = Pace()
    assert seen(pace, flow(0.0, 100, every=0.2)) == 0
    assert seen(pace, [(created - 30.0, now) for created, now in flow(20.0, 300, every=0.2)]) == 1
