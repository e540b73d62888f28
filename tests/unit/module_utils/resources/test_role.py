# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that somebody uses stays, and stays whole."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.ssm.plugins.module_utils.resources.role import Role
from tests.unit.module_utils.api import Api

REGIONS = {"Regions": [{"RegionName": "eu-central-1"}, {"RegionName": "us-east-1"}]}


def kept(**answers: Any) -> str:
    """Why the role stays, if instance i-1 is about to lose it."""
    return Role(Api(DescribeRegions=REGIONS, **answers).place(), "FleetNode", {"trust": {}, "policies": {}, "leaving": ["i-1"]}).kept()


def test_machines_outside_ec2_keep_it() -> None:
    nodes = [{"InstanceId": "mi-1", "IamRole": "FleetNode"}, {"InstanceId": "mi-2", "IamRole": "Other"}, {"InstanceId": "mi-3", "IamRole": "fleet/FleetNode"}]
    assert kept(DescribeInstanceInformation={"InstanceInformationList": nodes}) == "nodes use it: mi-1, mi-3"
    assert kept(DescribeInstanceInformation={"InstanceInformationList": nodes[1:2]}) == ""
