# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on a fleet that answers without executing: who gets one, how often, and what comes of it."""

from __future__ import annotations

import gzip
import itertools
import json
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.fleet import BOTH, ECHO, HUB, OTHER, REGION, REGIONS, ids
from tests.integration.modules.local import Local


@pytest.fixture
def local(on_fleet: Local) -> Local:
    return on_fleet


def test_two_accounts_by_tag(local: Local) -> None:
    result = local("run_command", **ECHO, **BOTH, tags={"Role": "app"})
    assert result["changed"] and result["summary"] == {"total": 5, "succeeded": 5, "failed": 0, "error_ratio": 0.0, "by_status": {"success": 5}}
    assert {(node["account_id"], node["account_name"], node["region"]) for node in result["nodes"]} == {(HUB, "one", REGION), (OTHER, "two", REGIONS[1])}
    first = result["nodes"][0]
    assert first["rc"] == 0 and first["stdout"].startswith("I am app-") and first["started_at"] and not first["output_truncated"]
    assert local.lab.requests().counts["ssm:SendCommand"] == 4


@pytest.mark.slow
def test_failures_come_first_and_fail_the_task_unless_they_are_allowed(local: Local) -> None:
    options = {**ECHO, "region": REGION, "tags": {"Role": ["app", "bad"]}}
    result = local.fail("run_command", **options)
    assert result["msg"] == "2 of 5 nodes did not succeed: 2 failed."
    assert [(node["status"], node["rc"]) for node in result["nodes"]] == [("failed", 3)] * 2 + [("success", 0)] * 3
    assert "no" in result["nodes"][0]["stdout"] + result["nodes"][0]["stderr"]
    assert local("run_command", **options, max_error_ratio=0.4)["summary"]["error_ratio"] == 0.4
    assert "The error ratio is 0.4, more than 0.3" in local.fail("run_command", **options, max_error_ratio=0.3)["msg"]
    assert local("run_command", **options, success="any")["summary"]["succeeded"] == 3


def test_one_unknown_node_of_fifty_leaves_forty_nine(local: Local) -> None:
    stranger = "mi-00000000000000000"
    result = local.fail("run_command", **ECHO, region=REGION, instance_ids=[*ids(local.lab, "batch"), stranger])
    assert result["summary"]["by_status"] == {"success": 49, "undeliverable": 1}
    (node,) = (node for node in result["nodes"] if node["status"] != "success")
    assert node["instance_id"] == stranger and "not registered in this account and region" in node["msg"]
    assert result["msg"] == "1 of 50 nodes did not succeed: 1 undeliverable."
    assert local.lab.requests().counts["ssm:SendCommand"] == 2


@pytest.mark.slow
def test_an_account_that_refuses_takes_no_other_one_with_it(local: Local) -> None:
    local.lab.deny("ssm:SendCommand", principal="FleetOperator")
    nodes = [{"instance_id": node.node_id, "account_id": node.account, "region": node.region} for node in local.lab.nodes() if node.name.startswith("app-")]
    result = local.fail("run_command", **ECHO, **BOTH, nodes=nodes)
    assert result["summary"]["by_status"] == {"access_denied": 2, "success": 3}
    refused = [node for node in result["nodes"] if node["status"] == "access_denied"]
    assert {node["account_id"] for node in refused} == {OTHER} and all("ssm:SendCommand is not allowed for" in node["msg"] for node in refused)
    assert "Allow the action ssm:SendCommand" in result["msg"]

    by_tag = local.fail("run_command", **ECHO, **BOTH, tags={"Role": "app"})
    assert by_tag["summary"]["succeeded"] == 3 and any("account two" in error and "ssm:SendCommand" in error for error in by_tag["errors"])
    assert local("run_command", **ECHO, **BOTH, tags={"Role": "app"}, success="any")["summary"]["succeeded"] == 3


@pytest.mark.slow
def test_an_account_that_cannot_be_searched_costs_its_own_nodes_alone(local: Local) -> None:
    local.lab.deny("ssm:DescribeInstanceInformation", principal="FleetOperator")
    there = {node.node_id for node in local.lab.nodes() if node.name.startswith("app-") and node.account == OTHER}
    result = local.fail("run_command", **ECHO, **BOTH, instance_ids=ids(local.lab, "app"))
    assert result["summary"]["by_status"] == {"not_sent": 2, "success": 3}
    refused = [node for node in result["nodes"] if node["status"] == "not_sent"]
    assert {node["instance_id"] for node in refused} == there and all("ssm:DescribeInstanceInformation is not allowed for" in node["msg"] for node in refused)
    assert "Allow the action ssm:DescribeInstanceInformation" in result["msg"] and len(result["errors"]) == 1


def test_nodes_for_which_the_document_is_not(local: Local) -> None:
    nodes = [*ids(local.lab, "pane"), *ids(local.lab, "app")[:3]]
    for target in ({"instance_ids": nodes}, {"tags": {"Role": ["app", "pane"]}}):
        result = local.fail("run_command", **ECHO, region=REGION, **target)
        assert result["summary"]["by_status"] == {"invalid_platform": 2, "success": 3}
        assert {node["instance_id"] for node in result["nodes"] if node["status"] == "invalid_platform"} == set(nodes[:2])
    windows = local("run_command", **ECHO, region=REGION, instance_ids=nodes[:2], platform="windows")
    assert windows["summary"]["succeeded"] == 2


def test_a_version_of_a_document(local: Local) -> None:
    ssm = local.lab.client("ssm", region=REGION)
    content = {"schemaVersion": "2.2", "mainSteps": [{"action": "aws:runShellScript", "name": "step", "inputs": {"runCommand": ["id"]}}]}
    ssm.create_document(Name="Fleet-Versions", DocumentType="Command", Content=json.dumps({**content, "description": "one"}))
    ssm.update_document(Name="Fleet-Versions", DocumentVersion="$LATEST", Content=json.dumps({**content, "description": "two"}))
    options = {"region": REGION, "document": "Fleet-Versions", "tags": {"Role": "app"}}
    for given, sent in ((None, "$DEFAULT"), ("2", "2"), ("$LATEST", "$LATEST")):
        result = local("run_command", **options, **({"document_version": given} if given else {}))
        (command,) = local("run_command_info", region=REGION, run_id=result["run_id"], results=False)["commands"]
        assert (command["document"], command["document_version"]) == ("Fleet-Versions", sent)
    assert "InvalidDocumentVersion" in local.fail("run_command", **options, document_version="9")["msg"]


def test_commands_are_found_by_time_and_no_more_than_asked_for(local: Local) -> None:
    sent = [local("run_command", **ECHO, region=REGION, tags={"Role": "app"})["commands"][0]["command_id"] for _turn in range(3)]
    listed = {entry["CommandId"]: entry["RequestedDateTime"] for entry in local.lab.client("ssm", region=REGION).list_commands()["Commands"]}
    first, second, third = (listed[command].replace(microsecond=0) for command in sent)

    def found(**question: Any) -> list[str]:
        """Which of the three, in their order; others of the lab may be as young."""
        entries = local("run_command_info", region=REGION, **question)["commands"]
        return [entry["command_id"] for entry in entries if entry["command_id"] in sent]

    assert found(since=first.isoformat()) == sent[::-1]
    elsewhere = timezone(timedelta(hours=2))
    assert found(since=second.astimezone(elsewhere).isoformat()) == [sent[2], sent[1]]
    assert found(since=first.isoformat(), before=third.isoformat()) == [sent[1], sent[0]]
    assert found(max_commands=2) == [sent[2], sent[1]] and found(max_commands=1, before=third.isoformat()) == [sent[1]]
    assert "'before' must be a time in ISO 8601" in local.fail("run_command_info", region=REGION, before="yesterday")["msg"]


def test_a_run_is_taken_over_by_its_name(local: Local) -> None:
    options = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "app")[:3], "run_id": "job-1"}
    started = local("run_command", **options, wait=False)
    assert started["run_id"] == "job-1" and len(started["commands"]) == 1 and started["nodes"] == []
    result = local("run_command", **options)
    assert [command["command_id"] for command in result["commands"]] == [command["command_id"] for command in started["commands"]]
    assert result["summary"]["succeeded"] == 3 and local.lab.requests().counts["ssm:SendCommand"] == 1
    more = {**options, "instance_ids": [*options["instance_ids"], ids(local.lab, "batch")[0]]}
    assert local("run_command", **more)["summary"]["succeeded"] == 4
    assert local.lab.requests().counts["ssm:SendCommand"] == 2


def test_the_name_of_a_run_is_not_taken_for_another_one(local: Local) -> None:
    options = {**ECHO, "tags": {"Role": "app"}, "run_id": "job-2"}
    first = local("run_command", **options, region=REGION)
    for other in ({"commands": ["echo other"]}, {"working_directory": "/tmp"}, {"document_version": "$LATEST"}, {"tags": {"Role": "batch"}}):
        result = local.fail("run_command", **{**options, **other}, **BOTH)
        assert result["msg"].startswith("'run_id: job-2' is the name of another run: ") and first["commands"][0]["command_id"] in result["msg"]
        assert "a 'run_id' of its own" in result["msg"] and result["msg"].endswith("Nothing was sent.")
    assert local("run_command", **options, region=REGION)["commands"] == first["commands"]
    assert local.lab.requests().counts["ssm:SendCommand"] == 1


def test_check_mode_says_what_would_run(local: Local) -> None:
    result = local("run_command", "--check", "--diff", **ECHO, **BOTH, tags={"Role": "app"})
    assert result["changed"] and [(each["account_id"], each["nodes"], each["commands"]) for each in result["would_send"]] == [(HUB, 3, 1), (OTHER, 2, 1)]
    assert {node["status"] for node in result["nodes"]} == {"would_run"} and result["summary"]["total"] == 5
    assert result["diff"]["after"]["would_send"][0]["parameters"] == {"commands": ["echo hello"]}
    assert "ssm:SendCommand" not in local.lab.requests().counts


def test_a_large_fleet_goes_to_a_file(local: Local, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl.gz"
    result = local("run_command", **ECHO, region=REGION, instance_ids=ids(local.lab, "crowd"), max_concurrency="100%", results_path=str(path))
    with gzip.open(path, "rt") as file:
        written = [json.loads(line) for line in file]
    assert {record["instance_id"] for record in written} == set(ids(local.lab, "crowd")) and len(written) == 120
    assert result["nodes"] == [] and result["summary"]["total"] == 120 and len(result["commands"]) == 3
    counts = local.lab.requests().counts
    assert (counts["ssm:SendCommand"], counts["ssm:ListCommandInvocations"]) == (3, 3)


@pytest.mark.slow
def test_a_number_of_nodes_at_once_holds_for_more_than_one_command(local: Local) -> None:
    options = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "crowd"), "max_concurrency": "20"}
    assert "needs 'wait: true'" in local.fail("run_command", **options, wait=False)["msg"]
    result = local("run_command", **options)
    commands = {entry["CommandId"]: entry for entry in local.lab.client("ssm").list_commands()["Commands"]}
    sent = sorted(commands[command["command_id"]]["RequestedDateTime"] for command in result["commands"])
    assert len(sent) == 3 and all((later - earlier).total_seconds() >= 0.9 for earlier, later in itertools.pairwise(sent))


def test_what_was_not_delivered_is_sent_again(local: Local) -> None:
    local.lab.settings(delivery_second=0.05)
    options = {**ECHO, "region": REGION, "tags": {"Role": "silent"}, "delivery_timeout": 30}
    result = local.fail("run_command", **options, retries=1)
    assert [command["attempt"] for command in result["commands"]] == [0, 1]
    assert result["summary"]["by_status"] == {"delivery_timed_out": 1} and result["nodes"][0]["attempt"] == 1


@pytest.mark.slow
def test_waiting_ends_and_a_run_is_cancelled(local: Local) -> None:
    result = local.fail("run_command", **ECHO, region=REGION, tags={"Role": "slow"}, max_concurrency="1", wait_timeout=2)
    assert result["msg"].startswith("Not all nodes had ended after 2 s.") and result["summary"]["total"] == 2
    assert {node["status"] for node in result["nodes"]} <= {"pending", "in_progress"}
    again = {"state": "cancelled", "run_id": result["run_id"], "region": REGION}
    assert local("run_command", "--check", **again)["changed"]
    ended = local("run_command", "--diff", **again)
    assert ended["changed"] and [command["status"] for command in ended["commands"]] == ["cancelled"]
    assert not local("run_command", **again)["changed"]
    assert "No command of the run nobody" in local.fail("run_command", **{**again, "run_id": "nobody"})["msg"]


@pytest.mark.slow
def test_throttling_costs_time_alone(local: Local) -> None:
    nodes = ids(local.lab, "crowd")
    with local.lab.throttle("ssm:ListCommandInvocations", rate=1):
        result = local("run_command", **ECHO, region=REGION, instance_ids=nodes, max_concurrency="100%")
    assert result["summary"]["succeeded"] == 120


@pytest.mark.slow
def test_progress_is_shown_while_it_runs(local: Local) -> None:
    local.controller.environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.builtin.default"
    run = local.play("run_command", **ECHO, region=REGION, tags={"Role": ["slow", "app"]}, wait_timeout=12)
    assert "fleet.ssm.run_command: 3 of 5 nodes done" in run.stdout and "run_id " in run.stdout


def test_defaults_of_the_group_and_a_diff_in_a_play(local: Local) -> None:
    tasks = [{"name": "it", "fleet.ssm.run_command": {**ECHO, "tags": {"Role": "app"}}}]
    defaults = {"group/fleet.ssm.aws": {"region": REGIONS[1]}}
    run = local.controller.tasks(*tasks, module_defaults=defaults, arguments=("--check", "--diff"))
    assert run.result("it")["msg"].startswith("No node matches")  # there are such nodes in the other region alone
    defaults["group/fleet.ssm.aws"]["region"] = REGION
    result = local.controller.tasks(*tasks, module_defaults=defaults, arguments=("--check", "--diff")).check().result("it")
    assert result["diff"]["after"]["would_send"][0]["nodes"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({**ECHO, "tags": {"Role": "app"}, "results_path": "/nonexistent/x"}, "'results_path': the folder /nonexistent"),
        ({**ECHO, "tags": {"Role": "nothing"}}, "No node matches"),
        ({"document": "Nowhere", "tags": {"Role": "app"}}, "InvalidDocument"),
    ],
)
def test_what_cannot_be_meant(local: Local, options: dict[str, Any], words: str) -> None:
    assert words in local.fail("run_command", region=REGION, **options)["msg"]
