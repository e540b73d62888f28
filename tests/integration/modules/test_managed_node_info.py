# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes by filter over two accounts, and waiting for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modules.local import ROLE, Local
from tests.lab import Lab, NodeKind

HUB, OTHER = "111111111111", "222222222222"
REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Lab]:
    simulated = {"kind": NodeKind.SIMULATED, "region": REGIONS[0], "account": HUB}
    absent = {**simulated, "kind": NodeKind.NONE}
    with Lab(
        [
            {**simulated, "name": "web-1", "tags": {"Role": "web"}},
            {**simulated, "name": "web-2", "tags": {"Role": "web"}, "account": OTHER, "region": REGIONS[1]},
            {**simulated, "name": "edge-1", "tags": {"Role": "edge"}, "hybrid": True},
            {**absent, "name": "lost-1", "registered": True, "tags": {"Role": "lost"}},
            {**absent, "name": "bare-1", "tags": {"Role": "bare"}},
            {**absent, "name": "stopped-1", "state": "stopped", "tags": {"Role": "bare"}},
        ],
        settings={"connection_lost_after": 0},
    ) as lab:
        yield lab


@pytest.fixture
def local(nodes: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", nodes)
    nodes.clear_permissions()


def test_nodes_of_two_accounts_by_tag(local: Local) -> None:
    result = local("managed_node_info", **BOTH, filters={"tag:Role": ["web", "edge"]})
    found = {node["tags"]["Name"]: node for node in result["nodes"]}
    assert found.keys() == {"web-1", "web-2", "edge-1"} and not result["changed"] and result["errors"] == []
    assert (found["web-2"]["account_id"], found["web-2"]["account_name"], found["web-2"]["region"]) == (OTHER, "two", REGIONS[1])
    assert found["edge-1"]["resource_type"] == "hybrid" and found["web-1"]["ping_status"] == "online" and found["web-1"]["agent_version"]


def test_one_account_that_refuses_leaves_the_other(local: Local) -> None:
    local.lab.deny("ec2:DescribeInstances", principal="FleetOperator")
    result = local("managed_node_info", **BOTH, filters={"tag:Role": "web"})
    assert [node["tags"]["Name"] for node in result["nodes"]] == ["web-1"]
    (error,) = result["errors"]
    assert error.startswith("account two, regions eu-central-1, us-east-1: ec2:DescribeInstances is not allowed for arn:aws:sts::222222222222:")
    assert "remove the account from the task" in error
    assert "ec2:DescribeInstances" in local.fail("managed_node_info", **BOTH, strict=True)["msg"]


def test_nodes_that_do_not_come_are_told_with_a_reason(local: Local) -> None:
    ids = {name: local.lab.node(name).node_id for name in ("web-1", "lost-1", "bare-1", "stopped-1")}
    missing = "i-00000000000000000"
    result = local.fail("managed_node_info", regions=REGIONS, instance_ids=[*ids.values(), missing], wait_for="online", wait_timeout=0)
    reasons = {late["instance_id"]: late["reason"] for late in result["late"]}
    assert reasons.keys() == {ids["lost-1"], ids["bare-1"], ids["stopped-1"], missing}
    assert "The connection to its agent is lost since 20" in reasons[ids["lost-1"]] and "Start the agent" in reasons[ids["lost-1"]]
    assert "It never registered. The instance is still starting." in reasons[ids["bare-1"]]
    assert reasons[ids["stopped-1"]] == "The instance is stopped. Start it."
    assert "Check the id, 'accounts' and 'regions'" in reasons[missing]
    assert result["msg"].startswith("1 of 5 nodes are online after 0 s.") and missing in result["msg"]


@pytest.mark.slow
def test_the_time_out_names_the_likely_cause(local: Local) -> None:
    (node,) = local.lab.add({"name": "no-role", "kind": "none", "profile": None, "age": 7200, "region": REGIONS[0]})
    result = local.fail("managed_node_info", regions=REGIONS[:1], instance_ids=[node.node_id], wait_for="online", wait_timeout=0)
    assert "0 of 1 nodes are online" in result["msg"] and "It never registered. It has no instance profile. Attach one" in result["msg"]
    assert [cause["cause"] for cause in result["late"][0]["causes"]] == ["no_role"]


@pytest.mark.slow
def test_a_node_that_comes_ends_the_wait(local: Local) -> None:
    timer = threading.Timer(6, lambda: local.lab.simulate(1, prefix="new", tags={"Role": "new"}, region=REGIONS[0], account=HUB))
    timer.start()
    try:
        result = local("managed_node_info", regions=REGIONS[:1], filters={"tag:Role": "new"}, wait_for="online", wait_timeout=60)
    finally:
        timer.join()
    assert [node["tags"]["Name"] for node in result["nodes"]] == ["new-1"] and result["late"] == []


def test_options_that_contradict_each_other(local: Local) -> None:
    assert "exclude each other" in local.fail("managed_node_info", wait_for="online", ping_status=["online"])["msg"]
    assert "accounts[1] needs both 'access_key' and 'secret_key'" in local.fail("managed_node_info", accounts=[{"access_key": "AKIA"}])["msg"]


def test_only_where_nodes_are_late_is_looked_again(local: Local) -> None:
    here = {"name": "late", "kind": NodeKind.SIMULATED, "account": OTHER, "region": REGIONS[0], "tags": {"Role": "web"}}
    (node,) = local.lab.add({**here, "profile": None, "options": {"credentials_retry": 5}})
    ec2 = local.lab.client("ec2", account=OTHER, region=REGIONS[0])
    ec2.associate_iam_instance_profile(InstanceId=node.node_id, IamInstanceProfile={"Name": "FleetNode"})
    local.lab.reset_requests()
    result = local("managed_node_info", **BOTH, filters={"tag:Role": "web"}, wait_for="online", wait_timeout=60)
    assert {each["tags"]["Name"]: each["ping_status"] for each in result["nodes"]} == {"web-1": "online", "web-2": "online", "late": "online"}
    counts = local.lab.requests().counts
    assert counts["sts:AssumeRole"] == 1 and 4 < counts["ec2:DescribeInstances"] < 8
    node.terminate()
