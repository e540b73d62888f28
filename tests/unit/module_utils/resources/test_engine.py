# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order resources come and go over the regions of an account, and what is told of those that a refusal stops."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.resources.engine import Resource, bring_about, resources_of
from tests.unit.module_utils.api import Api

REGIONS = ["eu-central-1", "us-east-1"]
ROLE = {"kind": "role", "name": "FleetNode", "properties": {"trust": {}, "policies": {"fleet.ssm": {}}, "managed_policies": ["arn:aws:iam::aws:policy/X"]}}
SETTING = {"kind": "service_setting", "name": "/ssm/x", "properties": {"value": "FleetNode"}}
THERE = {"Role": {"AssumeRolePolicyDocument": "{}", "Path": "/"}}
SET = {"ServiceSetting": {"Status": "Customized", "SettingValue": "FleetNode"}}
UNSET = {"ServiceSetting": {"Status": "Default", "SettingValue": ""}}


def planned(api: Api, *, absent: bool = False) -> list[list[Resource]]:
    """A setting in two regions, and the role that it names."""
    by_place = resources_of([ROLE, SETTING], [api.place(region) for region in REGIONS])
    for of_place in by_place:
        for resource in of_place:
            resource.plan(absent=absent)
    api.seen.clear()
    return by_place


def actions(by_place: list[list[Resource]]) -> list[str]:
    return [f"{resource.action} {resource.kind}" for of_place in by_place for resource in of_place]


@pytest.mark.parametrize("absent", [False, True])
def test_what_all_regions_share_is_made_before_and_removed_after(api: Api, absent: bool) -> None:
    api.answer(**({"GetRole": THERE, "GetServiceSetting": SET} if absent else {"GetRole": "NoSuchEntity", "GetServiceSetting": UNSET}))
    by_place = planned(api, absent=absent)
    assert bring_about(by_place, absent=absent, max_workers=2) == [None, None]
    changes = [operation for operation in api.actions if operation in ("CreateRole", "DeleteRole", "UpdateServiceSetting", "ResetServiceSetting")]
    assert changes == (["ResetServiceSetting"] * 2 + ["DeleteRole"] if absent else ["CreateRole"] + ["UpdateServiceSetting"] * 2)


def test_no_region_names_a_role_that_was_refused(api: Api) -> None:
    api.answer(GetRole="NoSuchEntity", GetServiceSetting=UNSET, CreateRole="AccessDenied")
    by_place = planned(api)
    first, second = bring_about(by_place, absent=False, max_workers=2)
    assert first is second is not None and "role FleetNode: iam:CreateRole is not allowed" in str(first)
    assert "UpdateServiceSetting" not in api.actions and actions(by_place) == ["none role", "none service_setting", "none service_setting"]


def test_a_role_stays_while_one_region_names_it(api: Api) -> None:
    def reset(_parameters: dict[str, Any]) -> Any:
        return "AccessDenied" if api.actions.count("ResetServiceSetting") == 1 else {}

    api.answer(GetRole=THERE, GetServiceSetting=SET, ResetServiceSetting=reset)
    by_place = planned(api, absent=True)
    assert all(bring_about(by_place, absent=True, max_workers=1))
    assert "DeleteRole" not in api.actions and actions(by_place) == ["none role", "none service_setting", "remove service_setting"]


def test_what_was_done_before_a_refusal_is_told(api: Api) -> None:
    def get(_parameters: dict[str, Any]) -> Any:
        return THERE if "CreateRole" in api.actions else "NoSuchEntity"

    api.answer(GetRole=get, GetServiceSetting=UNSET, AttachRolePolicy="AccessDenied")
    by_place = planned(api)
    assert all(bring_about(by_place, absent=False, max_workers=2))
    assert actions(by_place) == ["create role", "none service_setting", "none service_setting"]
    assert by_place[0][0].difference()["after"]["managed_policies"] == []


@pytest.mark.parametrize(("region", "service"), [("us-gov-west-1", "ec2.amazonaws.com"), ("cn-north-1", "ec2.amazonaws.com.cn")])
def test_a_role_trusts_ec2_by_the_name_that_it_has_in_the_place(api: Api, region: str, service: str) -> None:
    ((role,),) = resources_of([{**ROLE, "properties": {"trust": {"Service": "ec2.<domain>"}}}], [api.place(region)])
    assert role.wanted["trust"] == {"Service": service}
