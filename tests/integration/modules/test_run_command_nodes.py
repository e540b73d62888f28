# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that nodes really execute: exit status, streams, outputs in full, cancellation, and what is found of it later."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import processes
from tests.integration.modules.local import ROLE, Local
from tests.integration.waiting import eventually
from tests.lab import Lab

EVERYWHERE = {"regions": ["eu-central-1", "us-east-1"], "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}


@pytest.fixture
def local(lab: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", lab)
    lab.clear_permissions()


@pytest.fixture
def web(lab: Lab) -> dict[str, Any]:
    """The options that mean the first node."""
    node = lab.node("web-1")
    return {"region": node.region, "instance_ids": [node.node_id]}


@pytest.fixture(scope="module")
def bucket(lab: Lab) -> str:
    lab.client("s3").create_bucket(Bucket="fleet-outputs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return "fleet-outputs"


def test_every_node_of_two_accounts(local: Local) -> None:
    result = local("run_command", **EVERYWHERE, tags={"Role": ["web", "db"]}, commands=["hostname >/dev/null; echo out; echo err >&2"])
    assert result["summary"]["succeeded"] == 6
    for node in result["nodes"]:
        assert node["rc"] == 0 and node["stdout"].startswith("out") and "err" in node["stderr"], node


def test_status_and_streams_of_one_that_fails(local: Local, web: dict[str, Any]) -> None:
    result = local.fail("run_command", **web, commands=["echo out", "echo err >&2", "exit 3"], working_directory="/tmp")
    (node,) = result["nodes"]
    assert (node["status"], node["rc"]) == ("failed", 3) and node["stdout"].startswith("out") and "err" in node["stderr"]
    assert node["started_at"] and node["ended_at"] >= node["started_at"]


def test_outputs_in_full_by_the_api_and_by_s3(local: Local, web: dict[str, Any], bucket: str) -> None:
    commands = ["i=0; while [ $i -lt 3000 ]; do echo 0123456789; i=$((i+1)); done"]
    (brief,) = local("run_command", **web, commands=commands)["nodes"]
    assert brief["output_truncated"] and len(brief["stdout"]) <= 2500 and brief["stdout_uri"] is None
    result = local("run_command", **web, commands=commands, s3_bucket=bucket, s3_prefix="runs", s3_region="eu-central-1", output="full")
    (whole,) = result["nodes"]
    assert whole["stdout"] == "0123456789\n" * 3000 and not whole["output_truncated"] and whole["stdout_uri"].endswith("/stdout")
    info = local("run_command_info", region=web["region"], run_id=result["run_id"], output="full")
    assert info["nodes"][0]["stdout"] == whole["stdout"] and info["commands"][0]["s3_bucket"] == bucket
    (by_api,) = local("run_command_info", region=web["region"], command_ids=[brief["command_id"]], output="full")["nodes"]
    assert by_api["output_truncated"] and 23_900 <= len(by_api["stdout"]) <= 24_000


@pytest.mark.slow
@pytest.mark.parametrize(("size", "shown", "truncated"), [(23_999, 23_999, False), (24_000, 24_000, True), (24_001, 24_000, True)])
def test_an_output_about_as_long_as_the_api_has_it(local: Local, web: dict[str, Any], size: int, shown: int, truncated: bool) -> None:
    (node,) = local("run_command", **web, commands=[f"head -c {size} /dev/zero | tr '\\0' x"], output="full")["nodes"]
    assert (len(node["stdout"]), node["output_truncated"]) == (shown, truncated) and node["stdout"].startswith("x" * 23_900) and node["stderr"] == ""


def test_cancelled_in_mid_run_and_found_later(local: Local, web: dict[str, Any], tmp_path: Path) -> None:
    started = local("run_command", **web, commands=["sleep 60"], wait=False, run_id="to-be-cancelled", comment="a long one")
    place = {"region": web["region"]}
    (command,) = local("run_command_info", **place, run_id="to-be-cancelled")["commands"]
    assert command["comment"] == "a long one" and command["status"] in ("pending", "in_progress") and command["total"] == 1
    (ended,) = local("run_command", **place, state="cancelled", run_id="to-be-cancelled")["commands"]
    assert ended["status"] == "cancelled" and ended["command_id"] == started["commands"][0]["command_id"]
    info = local("run_command_info", **place, instance_id=web["instance_ids"][0], status="cancelled", document="AWS-RunShellScript")
    # Tests of the connection cancel commands on this node as well.
    assert [node["command_id"] for node in info["nodes"]].count(ended["command_id"]) == 1 and {node["status"] for node in info["nodes"]} == {"cancelled"}


@pytest.mark.slow
def test_a_controller_that_is_killed_is_followed_by_one_that_takes_over(local: Local, web: dict[str, Any]) -> None:
    options = {**web, "commands": ["echo once >> /tmp/killed-controller; sleep 15; cat /tmp/killed-controller; rm /tmp/killed-controller"], "run_id": "killed"}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "it", "fleet.ssm.run_command": options}]}]
    path = local.controller.write_playbook(play, "killed.yml")
    local.lab.reset_requests()
    process = local.controller.start("ansible-playbook", "-i", str(local.controller.inventory), str(path))
    killer = threading.Event()
    deadline = time.monotonic() + 30
    while "ssm:SendCommand" not in local.lab.requests().counts:
        assert time.monotonic() < deadline and process.poll() is None
        killer.wait(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    eventually(lambda: not list(processes(local.controller.home)), 8, "it goes on without its controller")
    (node,) = local("run_command", **options)["nodes"]
    assert node["stdout"] == "once\n" and local.lab.requests().counts["ssm:SendCommand"] == 1


@pytest.fixture(scope="module")
def document(lab: Lab) -> str:
    """Of two steps that each write more than the listing holds."""
    lines = {"one": "seq -f first-line-%.0f 300", "two": "seq -f again-%.0f 300; exit {{ code }}"}
    steps = [{"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": [line]}} for name, line in lines.items()]
    parameters = {"code": {"type": "String", "default": "0", "allowedPattern": "[0-9]+"}}
    content = {"schemaVersion": "2.2", "description": "two steps", "parameters": parameters, "mainSteps": steps}
    lab.client("ssm", region="eu-central-1").create_document(Name="Fleet-TwoSteps", DocumentType="Command", Content=json.dumps(content))
    return "Fleet-TwoSteps"


@pytest.mark.slow
def test_outputs_of_several_steps_are_put_together(local: Local, web: dict[str, Any], document: str, bucket: str) -> None:
    place = {"s3_bucket": bucket, "s3_prefix": "steps"}
    (good,) = local("run_command", **web, document=document, output="full", **place)["nodes"]
    lines = [f"{word}-{number}\n" for word in ("first-line", "again") for number in range(1, 301)]
    assert good["stdout"] == "".join(lines) and not good["output_truncated"] and (good["status"], good["rc"]) == ("success", 0)
    (bad,) = local.fail("run_command", **web, document=document, parameters={"code": "5"}, output="full", **place)["nodes"]
    assert bad["stdout"] == good["stdout"] and (bad["status"], bad["rc"]) == ("failed", 5)
    # Without a bucket there is what the agent's reply holds, and it cuts the outputs of several steps sooner than the API.
    (cut,) = local("run_command", **web, document=document, output="full")["nodes"]
    assert cut["stdout"].startswith("first-line-1\n") and cut["output_truncated"]


@pytest.mark.slow
def test_a_bucket_that_is_deleted_while_nodes_work(local: Local, web: dict[str, Any]) -> None:
    s3 = local.lab.client("s3")
    s3.create_bucket(Bucket="fleet-gone", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    local.lab.reset_requests()
    commands = ["sleep 2; seq -f line-%.0f 500"]
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(local, "run_command", **web, commands=commands, s3_bucket="fleet-gone", output="full")
        while not local.lab.requests().counts.get("ssm:SendCommand"):
            local.pause_while(running)
        s3.delete_bucket(Bucket="fleet-gone")
        (node,) = running.result()["nodes"]
    assert node["status"] == "success" and node["stdout"].startswith("line-1\n") and "NoSuchBucket" in node["output_error"]
