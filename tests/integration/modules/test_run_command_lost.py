# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SendCommand is accepted, and its answer lost: what may run is never sent again. It is taken over, or said not to be known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.modules.fleet import BOTH, ECHO, OTHER, REGION, ids
from tests.integration.modules.local import Local

SEND = "ssm:SendCommand"


@pytest.fixture
def local(on_fleet: Local) -> Local:
    return on_fleet


def sent(local: Local) -> int:
    """How often a command was sent, accepted or not."""
    return local.lab.requests().counts.get(SEND, 0)


def commands(local: Local, run_id: str) -> list[str]:
    """The ids of the commands that the service has of a run."""
    local.lab.settings(listing_delay=0.0)
    return [entry["CommandId"] for entry in local.lab.client("ssm").list_commands()["Commands"] if f"[fssm:{run_id}." in entry["Comment"]]


@pytest.mark.slow
def test_it_is_taken_over_once_it_is_listed(local: Local) -> None:
    local.lab.settings(listing_delay=1.0)
    local.lab.lose_replies(SEND, count=1)
    result = local("run_command", **ECHO, region=REGION, tags={"Role": "app"})
    assert result["summary"]["by_status"] == {"success": 3} and sent(local) == 1
    assert [command["command_id"] for command in result["commands"]] == commands(local, result["run_id"])


def test_one_that_is_not_listed_in_time_is_unknown_and_a_later_task_takes_it_over(local: Local) -> None:
    local.lab.settings(listing_delay=600)
    local.lab.lose_replies(SEND, count=1)
    options: dict[str, Any] = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "app")[:3], "run_id": "lost"}
    result = local.fail("run_command", **options, wait_timeout=1)
    assert result["summary"]["by_status"] == {"unknown": 3} and result["changed"] and sent(local) == 1
    node = result["nodes"][0]
    assert node["msg"].startswith("it may run: the answer to SendCommand was lost") and "run_command_info and 'run_id: lost'" in node["msg"]
    local.lab.settings(listing_delay=0.0)
    result = local("run_command", **options)
    assert result["summary"]["by_status"] == {"success": 3} and sent(local) == 1


def test_without_permission_to_look_it_is_unknown_at_once(local: Local) -> None:
    local.lab.deny("ssm:ListCommands")
    local.lab.lose_replies(SEND, count=1)
    result = local.fail("run_command", **ECHO, region=REGION, tags={"Role": "app"}, wait=False)
    assert result["summary"]["by_status"] == {"unknown": 3} and sent(local) == 1
    assert "What became of the command on 3 nodes is not known" in result["msg"]
    (error,) = result["errors"]
    assert "it cannot be looked for, since ssm:ListCommands is not allowed" in error and f"'run_id: {result['run_id']}'" in error


@pytest.mark.slow
def test_one_that_is_never_listed_costs_its_own_nodes_alone(local: Local) -> None:
    local.lab.settings(listing_delay=600)
    local.lab.fault_calls(SEND, lost=True, count=1, account=OTHER)
    result = local.fail("run_command", **{**ECHO, **BOTH, "regions": [REGION]}, tags={"Role": ["app", "steady"]})
    assert result["summary"]["by_status"] == {"success": 3, "unknown": 3}
    assert {node["account_id"] for node in result["nodes"] if node["status"] == "unknown"} == {OTHER}
    assert len(commands(local, result["run_id"])) == 1 and sent(local) == 2
    assert any("it is not listed 32 s later" in error for error in result["errors"])


@pytest.mark.slow
def test_a_fault_of_the_service_may_hide_a_command_as_well(local: Local) -> None:
    local.lab.fault_calls(SEND, status=500, count=1)
    nodes = ids(local.lab, "batch") + ids(local.lab, "app")[:3]
    result = local("run_command", **ECHO, region=REGION, instance_ids=nodes, max_concurrency="100%", success="any")
    assert result["summary"]["by_status"] == {"success": 2, "unknown": 50} and sent(local) == 2
    assert "What became of the command on 50 nodes is not known: see 'msg' of each of them in 'nodes'." in str(result["warnings"])
