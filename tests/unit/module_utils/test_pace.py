# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast AWS is called."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.pace import Pace


def test_nothing_waits_until_aws_throttles() -> None:
    pace = Pace()
    assert [pace.reserve(10.0) for _turn in range(100)] == [0.0] * 100


def test_throttling_makes_everyone_wait_and_spreads_them() -> None:
    pace = Pace(jitter=lambda: 1.0)
    pace.throttle(10.0, 9.0)
    waits = [pace.reserve(10.0) for _turn in range(3)]
    assert waits[0] >= Pace.FIRST_GAP
    assert [round(later - earlier, 6) for earlier, later in itertools.pairwise(waits)] == [pace.gap, pace.gap]


def test_throttling_again_and_again_waits_longer_but_not_for_ever() -> None:
    pace = Pace(jitter=lambda: 1.0)
    waits = []
    now = 0.0
    for _turn in range(20):
        now += 0.01
        pace.throttle(now, now)
        wait = pace.reserve(now)
        waits.append(wait)
        now += wait
    assert waits[0] < waits[3] < waits[6]
    assert max(waits) <= Pace.LONGEST_PAUSE + Pace.LONGEST_GAP


def test_success_makes_it_fast_again() -> None:
    pace = Pace()
    pace.throttle(0.0, 0.0)
    for _turn in range(50):
        pace.succeeded()
    assert pace.gap == 0.0
    now = 100.0
    assert [pace.reserve(now) for _turn in range(3)] == [0.0, 0.0, 0.0]


def test_jitter_spreads_the_first_try() -> None:
    early, late = Pace(jitter=lambda: 0.0), Pace(jitter=lambda: 1.0)
    early.throttle(0.0, 0.0)
    late.throttle(0.0, 0.0)
    assert early.reserve(0.0) < late.reserve(0.0)


def test_many_refusals_of_one_moment_count_once() -> None:
    one, many = Pace(jitter=lambda: 1.0), Pace(jitter=lambda: 1.0)
    one.throttle(10.0, 9.9)
    for _turn in range(50):
        many.throttle(10.0, 9.9)
    assert many.gap == one.gap
    assert many.throttled == 50


def test_a_turn_after_the_deadline_is_not_taken() -> None:
    pace = Pace(jitter=lambda: 1.0)
    assert pace.reserve(10.0, 5.0) == 0.0, "nothing is slow yet"
    pace.throttle(10.0, 9.0)
    first = pace.reserve(10.0, 20.0)
    assert first is not None
    assert pace.reserve(10.0, 10.0 + first) is None
    assert pace.reserve(10.0, 20.0) == pytest.approx(first + pace.gap), "what was not taken is left to others"
