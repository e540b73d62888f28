# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy bootstrap.json is enough for the module that attaches instance profiles, and each of its actions is needed for what docs/iam.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.modules.inside import Inside
from tests.integration.modules.local import Local
from tests.integration.modules.test_instance_profile_association import NODE, make_profile
from tests.integration.test_policies import OPERATOR, POLICIES, actions, denied, policy, without
from tests.lab import Lab

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Lab]:
    """One account with a profile of other people's."""
    with Lab([]) as lab:
        make_profile(lab, "App")
        yield lab


@pytest.fixture
def local(guarded: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Inside(tmp_path / "controller", guarded)
    guarded.clear_permissions()


def use(local: Local, document: dict[str, Any], *, profile: str | None, state: str = "running", **options: Any) -> dict[str, Any]:
    """What the module says of an instance that has such a profile, to one who has this policy."""
    (node,) = local.lab.add({"name": "it", "kind": "none", "profile": profile, "state": state, "region": REGION})
    iam = local.lab.client("iam")
    for attached in iam.list_attached_role_policies(RoleName="AppRole")["AttachedPolicies"]:
        iam.detach_role_policy(RoleName="AppRole", PolicyArn=attached["PolicyArn"])
    local.lab.policy(document, principal=OPERATOR)
    chosen = {"regions": [REGION], "instance_profile": NODE, "instance_ids": [node.node_id], **options}
    result = local.result("instance_profile_association", **chosen)
    local.lab.clear_permissions()
    local.lab.client("ec2", region=REGION).terminate_instances(InstanceIds=[node.node_id])
    return result


ATTACH: dict[str, Any] = {"profile": None}
REPLACE: dict[str, Any] = {"profile": "App", "other_profile": "replace"}
AUGMENT: dict[str, Any] = {"profile": "App", "other_profile": "augment"}
USES = {
    "ec2:DescribeInstances": ATTACH,
    "ec2:DescribeIamInstanceProfileAssociations": ATTACH,
    "ec2:AssociateIamInstanceProfile": ATTACH,
    "ec2:ReplaceIamInstanceProfileAssociation": REPLACE,
    "ec2:DisassociateIamInstanceProfile": {**REPLACE, "state": "stopped"},
    "iam:GetInstanceProfile": ATTACH,
    "iam:PassRole": ATTACH,
    "iam:ListAttachedRolePolicies": AUGMENT,
    "iam:AttachRolePolicy": AUGMENT,
    "iam:ListInstanceProfilesForRole": AUGMENT,
    "ec2:DescribeRegions": AUGMENT,
}


@pytest.mark.slow
def test_the_platform_team_gives_instances_their_role(local: Local) -> None:
    local.lab.reset_requests()
    for chosen in (ATTACH, REPLACE, USES["ec2:DisassociateIamInstanceProfile"], AUGMENT):
        result = use(local, policy("bootstrap"), **chosen)
        assert not result.get("failed") and result["changed"], result
    assert not denied(local.lab)
    assert USES.keys() - {"iam:PassRole"} <= set(local.lab.requests().counts)


def test_no_other_role_is_passed(local: Local) -> None:
    result = use(local, policy("bootstrap"), profile=None, instance_profile="App")
    assert f"iam:PassRole is not allowed for {OPERATOR}" in result["msg"]


def test_no_other_account_is_touched(local: Local) -> None:
    local.lab.policy(policy("bootstrap", "333333333333"), principal=OPERATOR)
    with pytest.raises(ClientError, match="not authorized to perform: iam:GetInstanceProfile"):
        local.lab.client("iam").get_instance_profile(InstanceProfileName=NODE)


@pytest.mark.parametrize("action", USES)
def test_who_lacks_an_action_is_told_which(local: Local, action: str) -> None:
    result = use(local, without(policy("bootstrap"), action), **USES[action])
    assert result["failed"] and f"{action} is not allowed for {OPERATOR}" in result["msg"] and not any(entry["changed"] for entry in result["instances"])


@pytest.mark.slow
def test_the_table_has_every_action_and_each_is_tried() -> None:
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("## Bootstrap")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE))
    assert explained == actions(policy("bootstrap")) == set(USES)
