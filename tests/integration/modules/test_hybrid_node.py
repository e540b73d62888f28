# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes outside EC2 are deregistered wherever they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modules.local import ROLE, Local
from tests.lab import Lab

REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"state": "absent", "regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}


@pytest.fixture
def local(lab: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", lab)
    lab.clear_permissions()


def test_nodes_of_two_accounts_are_deregistered_once(local: Local) -> None:
    (one,) = local.lab.simulate(1, prefix="gone-one", hybrid=True)
    (two,) = local.lab.simulate(1, prefix="gone-two", hybrid=True, account="222222222222", region="us-east-1")
    ids = [one.node_id, two.node_id, "mi-0123456789abcdef0"]

    local.lab.reset_requests()
    planned = local("hybrid_node", "--check", "--diff", **BOTH, instance_ids=ids)
    done = local("hybrid_node", **BOTH, instance_ids=ids)

    assert planned["changed"] and len(planned["diff"]) == 2
    assert done["nodes"] == planned["nodes"]
    assert {(node["instance_id"], node["account_name"], node["region"]) for node in done["nodes"]} == {
        (one.node_id, "one", "eu-central-1"), (two.node_id, "two", "us-east-1"),
    }  # fmt: skip
    asked = {action for action in local.lab.requests().counts if not action.startswith("sts:")}
    assert asked == {"ssm:DescribeInstanceInformation", "ssm:DeregisterManagedInstance"}
    assert not local("hybrid_node", **BOTH, instance_ids=ids)["changed"]


def test_what_it_may_not_do_is_named_and_instances_are_not_for_it(local: Local) -> None:
    (node,) = local.lab.simulate(1, prefix="stays", hybrid=True)
    local.lab.deny("ssm:DeregisterManagedInstance")

    assert "ssm:DeregisterManagedInstance is not allowed" in local.fail("hybrid_node", **BOTH, instance_ids=[node.node_id])["msg"]
    assert "takes nodes outside EC2" in local.fail("hybrid_node", **BOTH, instance_ids=["i-0123456789abcdef0"])["msg"]
