# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From evidence to causes: which, in which order, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.health.causes import Likelihood
from ansible_collections.fleet.ssm.plugins.module_utils.health.diagnosis import Status, diagnose, seconds, status_of
from ansible_collections.fleet.ssm.plugins.module_utils.health.evidence import CORE_ACTIONS, NOTHING, Evidence, Machines, Metadata, RoleFacts, Way
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS

LAUNCHED = "2026-01-01T00:00:00Z"
START = seconds(LAUNCHED) or 0.0
HOUR = 3600.0
PROFILE = "arn:aws:iam::111111111111:instance-profile/path/App"
GOOD = Evidence(
    metadata=Metadata(enabled=True, tokens_required=True, hop_limit=2),
    role=RoleFacts("AppRole", created=START - HOUR, missing=frozenset()),
    default_role="", profile_since=START, failed_check="", way=Way(None),
)  # fmt: skip


def node(**values: Any) -> dict[str, Any]:
    """An instance that was launched long ago, and of which nobody has heard."""
    known = {
        "instance_id": "i-1", "resource_type": "ec2", "region": "eu-central-1", "account_id": "1", "managed": False, "state": "running", "tags": {},
        "launched_at": LAUNCHED, "instance_profile_arn": PROFILE,
    }  # fmt: skip
    return {**dict.fromkeys(FIELDS), **known, **values}


LOST = {"managed": True, "ping_status": "connection_lost", "last_ping": "2026-01-01T10:00:00Z"}
HYBRID = {"instance_id": "mi-1", "resource_type": "hybrid", "state": None, "launched_at": None, "instance_profile_arn": None, "iam_role": "FleetNode"}


def codes(of: dict[str, Any], evidence: Evidence = NOTHING, *, now: float = START + 24 * HOUR) -> list[str]:
    return [f"{cause.likelihood} {cause.cause}" for cause in diagnose(of, evidence, now=now)]


@pytest.mark.parametrize(
    ("values", "minimum", "expected"),
    [
        ({}, None, Status.NEVER_REGISTERED),
        (LOST, None, Status.LOST),
        ({**LOST, "ping_status": "inactive"}, None, Status.LOST),
        ({**LOST, "ping_status": "online", "agent_is_latest": True}, None, Status.ONLINE),
        ({**LOST, "ping_status": "online", "agent_is_latest": False}, None, Status.OUTDATED),
        ({**LOST, "ping_status": "online", "agent_version": "3.3.9.0", "agent_is_latest": False}, "3.3.9.0", Status.ONLINE),
        ({**LOST, "ping_status": "online", "agent_version": "3.3.9.0"}, "3.3.10.0", Status.OUTDATED),
        ({**LOST, "state": "stopped"}, None, Status.STOPPED),
    ],
)
def test_status(values: dict[str, Any], minimum: str | None, expected: Status) -> None:
    assert status_of(node(**values), minimum) is expected


@pytest.mark.parametrize(
    ("values", "evidence", "expected"),
    [
        ({"state": "stopped"}, {}, "certain instance_stopped"),
        ({"state": "pending"}, {}, "likely instance_starting"),
        ({}, {"initializing": True}, "likely instance_starting"),
        ({}, {"failed_check": "system"}, "certain status_check_failed"),
        ({}, {"metadata": Metadata(False, True, 2)}, "certain metadata_disabled"),
        ({"instance_profile_arn": None}, {}, "certain no_role"),
        ({"instance_profile_arn": None}, {"default_role": ""}, "certain no_role"),
        ({"instance_profile_arn": None}, {"default_role": None}, "likely no_role"),
        ({}, {"role": RoleFacts("AppRole", missing=frozenset(CORE_ACTIONS)), "default_role": None}, "likely role_without_permission"),
        ({"instance_profile_arn": None}, {"default_role": "service-role/Default"}, "likely default_role_unused"),
        ({**LOST, "instance_profile_arn": None, "agent_version": "3.2.582.0"}, {"default_role": "Default"}, "likely default_role_unused"),
        ({**LOST, "instance_profile_arn": None, "agent_version": "3.1.1927.0"}, {"default_role": "Default"}, "certain default_role_unused"),
        ({}, {"role": RoleFacts(None)}, "certain role_missing"),
        ({}, {"role": RoleFacts("AppRole", missing=frozenset(CORE_ACTIONS))}, "certain role_without_permission"),
        ({}, {"role": RoleFacts("AppRole", missing=frozenset(CORE_ACTIONS)), "default_role": "Default"}, "likely role_without_permission"),
        ({}, {"way": Way("It has no way.", "Build one.")}, "likely no_route"),
        ({}, {"log": frozenset({"clock_wrong"})}, "likely clock_wrong"),
        ({}, {"log": frozenset({"no_route"})}, "likely no_route"),
        ({}, {"log": frozenset({"role_without_permission"})}, "likely role_without_permission"),
        ({}, {"others": ("mi-7",)}, "likely registered_as_hybrid"),
        ({}, {}, "likely agent_not_running"),
        (LOST, {}, "likely agent_stopped"),
        ({**LOST, "instance_profile_arn": None}, {}, "certain no_role"),
        ({**LOST, **HYBRID}, {}, "likely machine_away"),
        ({**LOST, **HYBRID}, {"others": ("mi-7",)}, "likely registered_again"),
        ({**LOST, **HYBRID}, {"role": RoleFacts("FleetNode", missing=frozenset(CORE_ACTIONS[:1]))}, "certain role_without_permission"),
    ],
)  # fmt: skip
def test_the_first_cause(values: dict[str, Any], evidence: dict[str, Any], expected: str) -> None:
    assert codes(node(**values), replace(GOOD, **evidence))[0] == expected


def test_a_node_that_is_well_has_no_cause() -> None:
    assert codes(node(managed=True, ping_status="online", agent_is_latest=True), GOOD) == []


def test_a_certain_cause_leaves_no_room_for_guesses_but_for_other_facts() -> None:
    evidence = replace(GOOD, metadata=Metadata(True, True, 1), way=Way("No way.", "Build one."))
    assert codes(node(instance_profile_arn=None), evidence) == ["certain no_role", "likely no_route"]
    assert codes(node(), evidence) == ["likely no_route", "possible agent_not_running", "possible clock_wrong", "possible hop_limit"]


def test_a_profile_that_came_late_is_the_cause_as_long_as_an_agent_backs_off() -> None:
    late = replace(GOOD, profile_since=START + 2 * HOUR)
    (cause, *others) = diagnose(node(), late, now=START + 2.5 * HOUR)
    assert cause.cause == "agent_back_off" and cause.likelihood is Likelihood.LIKELY
    assert "120 minutes after its start" in cause.sentence and "until 2026-01-01 03:00 UTC" in cause.remedy
    assert "agent_back_off" not in {other.cause for other in others}
    assert codes(node(), late, now=START + 4 * HOUR)[0] == "likely agent_not_running"


def test_a_profile_that_was_made_after_the_launch_came_late_whatever_ec2_says() -> None:
    made = RoleFacts("AppRole", created=START + 2 * HOUR, missing=frozenset())
    assert codes(node(), replace(GOOD, role=made, profile_since=None), now=START + 2.1 * HOUR)[0] == "likely agent_back_off"


def test_where_ec2_does_not_say_when_the_profile_came_a_back_off_is_possible() -> None:
    assert "possible agent_back_off" in codes(node(), replace(GOOD, profile_since=None))
    assert "possible agent_back_off" not in codes(node(), GOOD)


def test_a_profile_that_came_with_the_start_explains_no_agent_that_is_silent() -> None:
    soon = replace(GOOD, profile_since=START + 60)
    assert codes(node(), soon, now=START + HOUR)[0] == "likely agent_not_running"
    assert codes(node(), soon, now=START + 120)[0] == "likely instance_starting"


@pytest.mark.parametrize(("tokens_required", "hop_limit", "told"), [(True, 1, True), (True, 2, False), (False, 1, False)])
def test_one_hop_is_too_short_only_for_tokens(tokens_required: bool, hop_limit: int, told: bool) -> None:
    evidence = replace(GOOD, metadata=Metadata(True, tokens_required, hop_limit))
    assert ("possible hop_limit" in codes(node(), evidence)) is told


def test_an_agent_that_was_not_heard_since_the_instance_was_started_again() -> None:
    (cause, *_others) = diagnose(node(**{**LOST, "last_ping": "2025-12-31T00:00:00Z"}), GOOD, now=START + HOUR)
    assert "before the instance was started at 2026-01-01T00:00:00Z" in cause.sentence


def test_clones_take_turns() -> None:
    machines = Machines()
    for name in ("a", "a", "b"):
        machines.look([("mi-1", name, "10.0.0.1"), ("mi-2", "quiet", None)])
    online = node(**HYBRID, managed=True, ping_status="online", agent_is_latest=True)
    assert codes(online, Evidence(machines=machines.of("mi-1"))) == ["likely several_agents"]  # perhaps it was renamed
    machines.look([("mi-1", "a", "10.0.0.1")])
    (cause,) = diagnose(online, Evidence(machines=machines.of("mi-1")), now=START)
    assert cause.likelihood is Likelihood.CERTAIN and "a (10.0.0.1), b (10.0.0.1)" in cause.sentence
    assert codes(online, Evidence(machines=machines.of("mi-2"))) == [] and machines.of("mi-3") == ()


def test_another_address_alone_is_another_machine_only_if_it_is_seen_to_change() -> None:
    machines = Machines()
    for address in (None, "10.0.0.1", "10.0.0.1"):
        machines.look([("mi-1", "a", address)])
    assert machines.of("mi-1") == ("a (10.0.0.1)",)
    machines.look([("mi-1", "a", "10.0.0.2")])
    assert machines.of("mi-1") == ("a (10.0.0.1)", "a (10.0.0.2)")


def test_what_cannot_be_known_is_no_cause() -> None:
    assert codes(node()) == ["likely agent_not_running", "possible agent_back_off", "possible clock_wrong"]
