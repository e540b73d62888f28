# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it is tried again."""

from __future__ import annotations

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.patience import Patience, Replacements

NEVER = float("-inf")


def end(patience: Patience, now: float, each: float) -> float:
    """When it is given up, if every try takes that many seconds."""
    while True:
        tried_at, now = now, now + each
        pause = patience.pause(tried_at, now)
        if pause is None:
            return now
        now += pause


def test_whatever_a_try_takes_the_end_is_in_time() -> None:
    for each in (0.0, 0.01, 0.5, 2.0, 3.5, 5.0, 7.0, 9.0):
        took = end(Patience.of(100.0, missed_at=NEVER, silence=60), 100.0, each) - 100.0
        assert took <= max(Patience.FRESH, each)
        assert took + each + 2.0 > Patience.FRESH, "there was time for another try"


def test_a_node_that_was_connected_is_waited_for_as_long_as_it_may_be_silent() -> None:
    took = end(Patience.of(100.0, missed_at=95.0, silence=60), 100.0, 2.0) - 95.0
    assert 50 < took <= 60
    assert end(Patience.of(100.0, missed_at=30.0, silence=60), 100.0, 2.0) - 100.0 <= Patience.FRESH


def test_throttling_does_not_count() -> None:
    patience = Patience.of(100.0, missed_at=NEVER, silence=60)
    patience.waited(50.0)
    for _turn in range(3):
        assert (patience.pause(152.0, 152.0) or 9.0) <= 1.0, "two seconds are gone"
    assert patience.pause(152.0, 156.0) is None


def test_faults_that_aws_has_answered_are_met_with_some_tries_however_late() -> None:
    patience = Patience.of(100.0, missed_at=NEVER, silence=60)
    assert [patience.pause(100.0, 150.0, answered=True) is None for _turn in range(Patience.AT_LEAST + 1)] == [False] * Patience.AT_LEAST + [True]


def losses(replacements: Replacements, now: float, until: float) -> list[float]:
    """When something was started in place of what was lost again at once."""
    started = []
    while now < until:
        replacements.lost(now)
        pause = replacements.pause(now)
        now += 1.0 if pause is None else pause
        if pause is not None:
            replacements.begun()
            started.append(now)
    return started


def test_what_is_lost_again_and_again_is_done_without() -> None:
    replacements = Replacements()
    assert replacements.pause(0.0) is None
    assert len(losses(replacements, 0.0, 120.0)) == Replacements.MOST
    replacements.lost(120.0)
    assert replacements.pause(120.0 + Replacements.FORGIVEN) is None
    assert replacements.pause(121.0 + Replacements.FORGIVEN) == 0.0


def test_losses_far_apart_are_each_the_first() -> None:
    replacements = Replacements()
    for turn in range(20):
        now = turn * (Replacements.FORGIVEN + 1)
        replacements.lost(now)
        assert replacements.pause(now) == 1.0
        assert replacements.pause(now + 5.0) == 0.0
        replacements.begun()
        assert replacements.pause(now + 5.0) is None
