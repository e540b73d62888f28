# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for instances with and without a profile, and what EC2's refusals mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.profile_plan import (
    AGAIN,
    REACHED,
    Association,
    Instance,
    Role,
    Wanted,
    after,
    is_reached,
    judge,
    others,
    outsiders,
    plan,
    policy_arn,
    widened,
    with_association,
)

CORE = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
NODE, APP = "arn:aws:iam::111111111111:instance-profile/team/Node", "arn:aws:iam::111111111111:instance-profile/App"
ROLES = {"App": Role("AppRole", frozenset({"arn:aws:iam::aws:policy/Other"}))}
BARE = Instance("i-1", "running")


def having(arn: str, state: str = "running", association: str = "associated") -> Instance:
    return Instance("i-1", state, None, arn, "iip-assoc-1", association)


def present(other_profile: str = "fail", *policies: str) -> Wanted:
    return Wanted(True, "Node", other_profile, policies or ("AmazonSSMManagedInstanceCore",))


@pytest.mark.parametrize(
    ("wanted", "instance", "action", "becomes"),
    [
        (present(), BARE, "attach", "Node"),
        (present(), replace(BARE, state="stopped"), "attach", "Node"),
        (present(), replace(BARE, association_id="x", association_state="disassociating"), "attach", "Node"),
        (present(), having(NODE), "none", "Node"),
        (present(), having(NODE, association="associating"), "none", "Node"),
        (present(), having(APP), "refuse", "App"),
        (present("skip"), having(APP), "skip", "App"),
        (present("replace"), having(APP), "replace", "Node"),
        (present("augment"), having(APP), "augment", "App"),
        (present("augment", "arn:aws:iam::aws:policy/Other"), having(APP), "none", "App"),
        (present("augment"), BARE, "attach", "Node"),
        (present("augment"), having("arn:aws:iam::111111111111:instance-profile/Empty"), "refuse", "Empty"),
        (present("replace"), having(APP, "terminated"), "refuse", "App"),
        (Wanted(False, "Node"), having(NODE), "detach", None),
        (Wanted(False, "Node"), having(APP), "none", "App"),
        (Wanted(False, None), having(APP), "detach", None),
        (Wanted(False, None), BARE, "none", None),
        (Wanted(False, None), having(APP, "shutting-down"), "none", "App"),
    ],
)
def test_steps(wanted: Wanted, instance: Instance, action: str, becomes: str | None) -> None:
    (step,) = plan(wanted, [instance], ROLES)
    assert (step.action, after(wanted, step)) == (action, becomes)
    assert step.changes is (action in ("attach", "replace", "detach", "augment"))
    if action in ("refuse", "skip"):
        assert step.reason


def test_a_role_gets_each_policy_once_however_many_instances_have_it() -> None:
    steps = plan(present("augment", "AmazonSSMManagedInstanceCore", "arn:aws:iam::1:policy/own"), [having(APP), replace(having(APP), instance_id="i-2")], ROLES)
    assert widened(steps) == {"AppRole": (CORE, "arn:aws:iam::1:policy/own")}
    assert others(present("augment"), [BARE, having(NODE), having(APP)]) == ["App"]
    assert others(present("replace"), [having(APP)]) == []


def test_outsiders_are_users_of_a_role_that_were_not_selected() -> None:
    assert outsiders({"AppRole": {"i-1", "i-9", "i-8"}, "Mine": {"i-1"}}, {"i-1", "i-2"}) == {"AppRole": ["i-8", "i-9"]}


def test_names_of_policies_are_those_of_aws_in_the_partition_of_the_profile() -> None:
    assert policy_arn("X", NODE) == "arn:aws:iam::aws:policy/X"
    assert policy_arn("X", NODE.replace("arn:aws:", "arn:aws-cn:")) == "arn:aws-cn:iam::aws:policy/X"
    assert policy_arn("arn:aws:iam::1:policy/own", NODE) == "arn:aws:iam::1:policy/own"


def test_the_association_that_comes_counts_more_than_the_one_that_goes() -> None:
    old, new = Association("a-1", "i-1", APP, "disassociating"), Association("a-2", "i-1", NODE, "associating")
    other = Association("a-3", "i-2", APP, "associated")
    found = with_association(BARE, [old, other, new])
    assert (found.profile, found.association_id, found.association_state) == ("Node", "a-2", "associating")
    going = with_association(BARE, [old])
    assert going.profile is None and not going.settled
    assert with_association(having(APP), [replace(old, state="disassociated"), other]) == BARE


@pytest.mark.parametrize(
    ("wanted", "was", "now", "verdict"),
    [
        (present(), BARE, None, "the instance was terminated meanwhile"),
        (present(), BARE, replace(BARE, state="shutting-down"), "the instance was terminated meanwhile (it is shutting-down)"),
        (present(), BARE, having(NODE, association="associating"), REACHED),
        (present(), BARE, having(APP), "it was given the profile App meanwhile: run the task again"),
        (present("replace"), having(APP), having(APP, "stopping"), AGAIN),
        (present("replace"), having(APP), BARE, AGAIN),
        (present(), replace(BARE, state="pending"), replace(BARE, state="pending"), AGAIN),
        (Wanted(False, None), having(APP), BARE, REACHED),
        (Wanted(False, "App"), having(APP), having(NODE), REACHED),
        (Wanted(False, None), having(APP), having(NODE), "it was given the profile Node meanwhile: run the task again"),
        (Wanted(False, None), having(APP), replace(BARE, association_state="disassociating"), AGAIN),
    ],
)
def test_what_a_refusal_means(wanted: Wanted, was: Instance, now: Instance | None, verdict: str) -> None:
    assert judge(wanted, was, now) == verdict


def test_reached_is_once_ec2_is_done() -> None:
    assert is_reached(present(), having(NODE)) and not is_reached(present(), having(NODE, association="associating"))
    assert is_reached(Wanted(False, None), BARE) and not is_reached(Wanted(False, None), replace(BARE, association_state="disassociating"))
