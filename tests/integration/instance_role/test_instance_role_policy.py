# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy instance-role.json is enough for the role, docs/iam.md explains each of its actions, and each is called in the lab."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.instance_role.test_role import Estate, report
from tests.integration.modules.test_instance_profile_association import make_profile
from tests.integration.test_policies import OPERATOR, POLICIES, actions, denied, policy, without
from tests.lab import Lab

REGION = "eu-central-1"
ALONE = {"estate": {"regions": [REGION], "filters": {"tag:Env": "prod"}}, "name": "FleetNode"}
ACTIVATION = {"name": "berlin", "parameter": "/fleet/berlin"}
ALL = {**ALONE, "network": "report", "open_ports": "close", "activations": [ACTIVATION]}
#: Others' services ask for these; those of the lab do for the first.
UNCALLED = {"iam:PassRole", "ssm:AddTagsToResource"}


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    """One account that has no role for nodes yet, and an instance with an open port in a VPC with an endpoint."""
    with Lab([]) as lab:
        iam, ec2 = lab.client("iam"), lab.client("ec2", region=REGION)
        iam.remove_role_from_instance_profile(InstanceProfileName="FleetNode", RoleName="FleetNode")
        iam.delete_instance_profile(InstanceProfileName="FleetNode")
        iam.detach_role_policy(RoleName="FleetNode", PolicyArn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore")
        iam.delete_role(RoleName="FleetNode")
        made = Estate(lab, tmp_path / "controller")
        made.launch(tags={"Env": "prod"}, options={"credentials_retry": 0})  # it answers as soon as it has its profile
        (group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
        permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[permission])
        ec2.create_vpc_endpoint(
            VpcId=group["VpcId"], ServiceName=f"com.amazonaws.{REGION}.ssm", VpcEndpointType="Interface", SecurityGroupIds=[group["GroupId"]],
            PrivateDnsEnabled=True,
        )  # fmt: skip
        yield made


@pytest.mark.slow
def test_all_that_the_role_calls_is_in_the_policy_and_nothing_else(estate: Estate) -> None:
    lab = estate.lab
    make_profile(lab, "App")
    boundaries = ["arn:<partition>:iam::aws:policy/PowerUserAccess", "arn:<partition>:iam::aws:policy/AdministratorAccess"]
    lab.policy(policy("instance-role"), principal=OPERATOR)
    lab.reset_requests()

    def run(**variables: Any) -> None:
        estate.run(**variables).check()

    run(**ALL, base="narrow", log_group="/fleet", managed_policies=["AmazonSSMManagedInstanceCore"], boundary=boundaries[0])
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    others = {"activations": [{**ACTIVATION, "registrations": 2}], "boundary": boundaries[1], "tags": {"Team": "platform"}, "trust": trust}
    run(**{**ALL, **others}, base="narrow", purge=True)
    estate.launch(tags={"Env": "prod"}, profile="App")
    estate.launch(tags={"Env": "prod"}, profile="App", state="stopped")
    run(**ALL, other_profile="replace")
    run(**ALL, state="absent")
    run(**ALONE, mode="dhmc")
    run(**ALONE, mode="dhmc", state="absent")
    assert not denied(lab)
    called = {action for action in lab.requests().counts if not action.startswith("sts:")}
    assert called == actions(policy("instance-role")) - UNCALLED


@pytest.mark.slow
def test_who_lacks_an_action_is_told_which(estate: Estate) -> None:
    for action in ("iam:GetRole", "iam:CreateRole", "iam:PassRole", "ssm:CreateActivation", "ec2:DescribeRouteTables", "ec2:RevokeSecurityGroupIngress"):
        estate.lab.clear_permissions()
        estate.lab.policy(without(policy("instance-role"), action), principal=OPERATOR)
        # The port stays open until it is the one thing that is left to do.
        ports = "close" if action == "ec2:RevokeSecurityGroupIngress" else "report"
        run = estate.run(**{**ALL, "open_ports": ports}, consistency_timeout=1)
        assert run.returncode and f"{action} is not allowed for {OPERATOR}" in "\n".join(report(run)["errors"]), (action, run.stdout)


def test_the_table_has_every_action() -> None:
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("## The role instance_role")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE)
    assert set(explained) == actions(policy("instance-role")) and len(explained) == len(set(explained))
