# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joining EC2's and Systems Manager's views."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS, join, timestamp


def instance(node_id: str, **members: Any) -> dict[str, Any]:
    return {"InstanceId": node_id, "OwnerId": "111111111111", "State": {"Name": "running"}, **members}


def information(node_id: str, **members: Any) -> dict[str, Any]:
    return {"InstanceId": node_id, "PingStatus": "Online", "PlatformType": "Linux", **members}


def joined(*, instances: list[Any] = (), infos: list[Any] = (), tags: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:  # type: ignore[assignment]
    found = join(instances, infos, tags or {}, account_id="999999999999", account_name="prod", region="eu-central-1")
    return {node["instance_id"]: node for node in found}


def test_managed_instance_has_both_views() -> None:
    tags = [{"Key": "Name", "Value": "web-1"}, {"Key": "Empty"}]
    nodes = joined(
        instances=[instance("i-1", Tags=tags, LaunchTime="2026-01-02T03:04:05.000Z", Placement={"AvailabilityZone": "eu-central-1b"}, PublicDnsName="")],
        infos=[information("i-1", AgentVersion="3.3.1", PlatformVersion="12", LastPingDateTime=1.7e9, PingStatus="ConnectionLost")],
    )
    node = nodes["i-1"]
    assert node["tags"] == {"Name": "web-1", "Empty": ""}
    assert (node["managed"], node["resource_type"], node["account_id"], node["account_name"]) == (True, "ec2", "111111111111", "prod")
    assert (node["ping_status"], node["last_ping"], node["agent_version"]) == ("connection_lost", "2023-11-14T22:13:20Z", "3.3.1")
    assert (node["availability_zone"], node["public_dns_name"], node["platform"]) == ("eu-central-1b", None, "linux")


def test_every_node_has_every_field_and_goes_into_json() -> None:
    nodes = joined(instances=[instance("i-1"), instance("i-2")], infos=[information("i-1"), information("mi-1")])
    assert set(nodes) == {"i-1", "i-2", "mi-1"}
    for node in nodes.values():
        assert tuple(node) == FIELDS
        assert json.loads(json.dumps(node)) == node


def test_instance_that_ec2_did_not_name_is_left_out() -> None:
    """Terminated or filtered away: Systems Manager may still list it."""
    assert joined(infos=[information("i-gone")]) == {}


def test_hybrid_node_has_tags_of_systems_manager() -> None:
    node = joined(infos=[information("mi-1", IPAddress="10.1.1.1", ActivationId="a-1", IamRole="R")], tags={"mi-1": {"Role": "edge"}})["mi-1"]
    assert (node["tags"], node["private_ip_address"], node["account_id"]) == ({"Role": "edge"}, "10.1.1.1", "999999999999")
    assert (node["activation_id"], node["state"], node["resource_type"]) == ("a-1", None, "hybrid")


def test_instance_named_by_two_filters_is_one_node() -> None:
    found = list(join([instance("i-1"), instance("i-1")], [], {}, account_id=None, account_name=None, region="x"))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("members", "platform"),
    [({"Platform": "windows"}, "windows"), ({"InstanceType": "mac2.metal"}, "macos"), ({"InstanceType": "m7i.large"}, "linux")],
)
def test_platform_of_an_instance_without_agent(members: dict[str, str], platform: str) -> None:
    assert joined(instances=[instance("i-1", **members)])["i-1"]["platform"] == platform


def test_agents_word_on_the_platform_counts_more() -> None:
    node = joined(instances=[instance("i-1", InstanceType="mac2.metal")], infos=[information("i-1", PlatformType="MacOS")])["i-1"]
    assert node["platform"] == "macos"


@pytest.mark.parametrize(("value", "text"), [(0, "1970-01-01T00:00:00Z"), ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), ("", None), (None, None)])
def test_timestamp(value: Any, text: str | None) -> None:
    assert timestamp(value) == text
