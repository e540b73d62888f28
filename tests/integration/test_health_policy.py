# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy health.json is enough for the health report, and without any one of its actions the report says what it could not look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.local import Local
from tests.integration.modules.test_instance_profile_association import make_profile
from tests.integration.modules.test_node_health import private_instance
from tests.integration.test_policies import OPERATOR, POLICIES, actions, denied, policy, without
from tests.lab import Lab

REGION = "eu-central-1"
NEEDED = {"ec2:DescribeInstances", "ssm:DescribeInstanceInformation"}
EVERY = sorted(actions(policy("health")))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Lab]:
    with Lab([], regions=[REGION]) as lab:
        make_profile(lab, "App")
        for values in ({"kind": "none", "profile": "App"}, {"kind": "none", "profile": None}, {"kind": "simulated", "hybrid": True}):
            lab.add({"name": "it", "region": REGION, "age": 7200, **values})
        private_instance(lab, "ssm", "ssmmessages")
        yield lab


@pytest.fixture
def local(guarded: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", guarded)
    guarded.clear_permissions()


def examine(local: Local, document: dict[str, Any], **options: Any) -> dict[str, Any]:
    local.lab.policy(document, principal=OPERATOR)
    return local.result("node_health", **{"regions": [REGION], **options})


def test_the_policy_is_enough(local: Local) -> None:
    local.lab.reset_requests()
    result = examine(local, policy("health"), regions=["all"], console=True)
    assert not result.get("failed") and result["unchecked"] == [] and result["errors"] == []
    assert result["causes"] == {"role_without_permission": 1, "no_role": 1, "instance_starting": 1}
    assert not denied(local.lab)
    assert set(EVERY) == set(local.lab.requests().counts)


@pytest.mark.slow
@pytest.mark.parametrize("action", [action for action in EVERY if action not in {*NEEDED, "ec2:DescribeRegions", "tag:GetResources"}])
def test_an_action_that_is_missing_is_told_and_the_rest_is_said(local: Local, action: str) -> None:
    result = examine(local, without(policy("health"), action), console=True)
    told = "\n".join(result["unchecked"])
    # Who may not simulate is told which action would do in its place.
    assert f"{'iam:ListAttachedRolePolicies' if action == 'iam:SimulatePrincipalPolicy' else action} is not allowed for {OPERATOR}" in told
    assert result["counts"]["never_registered"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("action", [*sorted(NEEDED), "tag:GetResources", "ec2:DescribeRegions"])
def test_without_an_action_that_is_needed_nothing_is_said(local: Local, action: str) -> None:
    result = examine(local, without(policy("health"), action), regions=["all"] if action == "ec2:DescribeRegions" else [REGION])
    assert result["failed"] and f"{action} is not allowed for {OPERATOR}" in result["msg"]


def test_the_table_has_every_action() -> None:
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("## Health")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE)) == actions(policy("health")) == set(EVERY)
