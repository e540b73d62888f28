# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One caller against a token bucket: how many calls it takes, and how much time."""

from __future__ import annotations

import random

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.pace import SerialPace

LATENCY = 0.05


class Bucket:
    """What AWS has for an action of an account in a region."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self._tokens, self._at = rate, burst, burst, 0.0

    def take(self, now: float) -> bool:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def work(count: int, bucket: Bucket, seed: int, start: float = 0.0, pace: SerialPace | None = None, likely: float = 0.0) -> tuple[int, float]:
    """Calls and seconds that it takes to be let through so many times."""
    pace = pace or SerialPace(random.Random(seed).random)
    now, calls, done = start, 0, 0
    while done < count:
        now += pace.pause(now)
        calls += 1
        sent = now
        now += LATENCY
        if bucket.take(sent):
            pace.succeeded(sent)
            done += 1
        else:
            pace.throttled(sent, now, likely)
    return calls, now - start


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("rate", "burst"), [(10.0, 1.0), (2.0, 1.0), (2.0, 5.0), (0.7, 1.0), (0.2, 1.0)])
def test_a_tenth_of_the_needed_rate_costs_few_calls_more_and_not_much_time(rate: float, burst: float, seed: int) -> None:
    for count, more in ((20, 1.25), (100, 1.12), (400, 1.08)):
        calls, seconds = work(count, Bucket(rate, burst), seed)
        assert calls <= more * count
        assert seconds <= 1.5 * count / rate + 10


@pytest.mark.parametrize("rate", [0.3, 0.7, 2.0])
def test_the_gap_of_another_action_saves_refusals(rate: float) -> None:
    first = SerialPace(random.Random(1).random)
    learned, _seconds = work(10, Bucket(rate, 1.0), 1, pace=first)
    second = SerialPace(random.Random(2).random)
    calls, _seconds = work(10, Bucket(rate, 1.0), 1, pace=second, likely=first.gap)
    assert calls == 11 <= learned


def test_without_throttling_there_is_no_delay() -> None:
    assert work(100, Bucket(1000, 1000), 0) == (100, pytest.approx(100 * LATENCY))


def test_a_rate_that_rises_is_found() -> None:
    pace, bucket = SerialPace(random.Random(1).random), Bucket(1.0, 1.0)
    _calls, seconds = work(50, bucket, 0, pace=pace)
    bucket.rate = bucket.burst = 100.0
    calls, _seconds = work(400, bucket, 0, start=seconds, pace=pace)
    assert calls == 400 and pace.gap < 0.2
