# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that somebody uses stays, and stays whole; a profile is not left without one."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError
from ansible_collections.fleet.ssm.plugins.module_utils.resources.engine import resources_of
from ansible_collections.fleet.ssm.plugins.module_utils.resources.role import Role
from tests.unit.module_utils.api import Api

REGIONS = {"Regions": [{"RegionName": "eu-central-1"}, {"RegionName": "us-east-1"}]}


def kept(api: Api, **answers: Any) -> str:
    """Why the role stays, if instance i-1 and the profile FleetNode are about to lose it."""
    wanted = {"trust": {}, "policies": {}, "leaving": ["i-1", "FleetNode"]}
    api.answer(DescribeRegions=REGIONS, **answers)
    return Role(api.place(), "FleetNode", wanted).kept()


def test_machines_outside_ec2_keep_it(api: Api) -> None:
    nodes = [{"InstanceId": "mi-1", "IamRole": "FleetNode"}, {"InstanceId": "mi-2", "IamRole": "Other"}, {"InstanceId": "mi-3", "IamRole": "fleet/FleetNode"}]
    assert kept(api, DescribeInstanceInformation={"InstanceInformationList": nodes}) == "nodes use it: mi-1, mi-3"
    assert kept(api, DescribeInstanceInformation={"InstanceInformationList": nodes[1:2]}) == ""


def test_another_profile_keeps_it_since_iam_would_only_strip_it(api: Api) -> None:
    profiles = [{"InstanceProfileName": name, "Arn": f"arn:aws:iam::111111111111:instance-profile/{name}"} for name in ("FleetNode", "Theirs")]
    assert kept(api, ListInstanceProfilesForRole={"InstanceProfiles": profiles}) == "instance profiles have it: Theirs"
    assert kept(api, ListInstanceProfilesForRole={"InstanceProfiles": profiles[:1]}) == ""


def test_a_profile_keeps_the_role_of_others(api: Api) -> None:
    profile = {"Arn": "arn:aws:iam::111111111111:instance-profile/FleetNode", "Path": "/", "Roles": [{"RoleName": "Theirs"}]}
    api.answer(GetInstanceProfile={"InstanceProfile": profile})
    ((resource,),) = resources_of([{"kind": "instance_profile", "name": "FleetNode", "properties": {"role": "FleetNode"}}], [api.place()])
    with pytest.raises(CollectError, match="has the role Theirs, by which instances may be managed"):
        resource.plan(absent=False)
