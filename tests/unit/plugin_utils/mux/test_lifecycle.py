# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that may have started is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Knowledge, Lifecycle, Verdict


def test_an_undelivered_command_is_retried_as_often_as_allowed() -> None:
    life = Lifecycle(2)
    assert [life.lost() for _turn in range(4)] == [Verdict.RETRY, Verdict.RETRY, Verdict.UNREACHABLE, Verdict.UNREACHABLE]


def test_a_delivered_command_is_never_retried() -> None:
    life = Lifecycle(5)
    life.handed_over()
    assert life.lost() is Verdict.UNKNOWN


def test_a_finished_command_needs_nothing() -> None:
    life = Lifecycle(5)
    life.handed_over()
    life.finished()
    assert life.lost() is Verdict.NOTHING
    assert life.knowledge is Knowledge.FINISHED


def test_a_harmless_request_is_retried_until_its_output_has_left() -> None:
    life = Lifecycle(5, harmless=True)
    life.handed_over()
    assert life.lost() is Verdict.RETRY
    life.handed_over()
    life.output_passed_on()
    assert life.lost() is Verdict.UNKNOWN


def test_input_that_has_gone_cannot_be_sent_again() -> None:
    life = Lifecycle(5, harmless=True)
    life.handed_over()
    life.input_passed_on()
    assert life.lost() is Verdict.UNKNOWN


def test_a_refused_command_is_asked_for_again_only_while_nobody_has_seen_anything() -> None:
    life = Lifecycle(0)
    life.handed_over()
    assert life.refused() is Verdict.RETRY
    life.handed_over()
    life.output_passed_on()
    assert life.refused() is Verdict.REPEAT


def test_a_command_that_nobody_waits_for_is_not_asked_for_again() -> None:
    life = Lifecycle(3)
    life.handed_over()
    life.unwanted()
    assert life.refused() is Verdict.NOTHING
    life = Lifecycle(3, harmless=True)
    life.unwanted()
    assert life.lost() is Verdict.UNREACHABLE


def test_a_finished_command_cannot_be_refused() -> None:
    life = Lifecycle(3)
    life.handed_over()
    life.finished()
    assert life.refused() is Verdict.NOTHING


@given(st.lists(st.sampled_from(["handed_over", "lost", "output_passed_on", "unwanted"])), st.integers(0, 5))
def test_a_command_is_handed_over_once_at_most(events: list[str], retries: int) -> None:
    life = Lifecycle(retries)
    deliveries = 0
    alive = True
    for event in events:
        if not alive:
            break
        if event == "handed_over" and life.knowledge is Knowledge.NEVER_DELIVERED:
            life.handed_over()
            deliveries += 1
        elif event == "output_passed_on":
            life.output_passed_on()
        elif event == "unwanted":
            life.unwanted()
        elif event == "lost":
            alive = life.lost() is Verdict.RETRY
    assert deliveries <= 1


@pytest.mark.parametrize("retries", [0, 3])
def test_no_verdict_retries_without_end(retries: int) -> None:
    life = Lifecycle(retries, harmless=True)
    verdicts = []
    for _turn in range(retries + 1):
        life.handed_over()
        verdicts.append(life.lost())
    assert verdicts == [Verdict.RETRY] * retries + [Verdict.UNREACHABLE]
