# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command on nodes that execute: ours, or, with ``FLEET_SSM_AGENT=/folder``, those of a real agent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import Lab, NodeDefinition

SHELL = "AWS-RunShellScript"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A node of each identity on the control channel, and one that may only poll ec2messages."""
    nodes = [
        NodeDefinition(name="instance"),
        NodeDefinition(name="hybrid", hybrid=True),
        NodeDefinition(name="polling", options={"message_channel": "ec2messages"}),
    ]
    settings = {"delivery_second": 0.05, "redelivery_seconds": 0.5, "connection_lost_after": 60.0}
    with Lab(nodes, agent=os.environ.get("FLEET_SSM_AGENT"), settings=settings) as running:
        s3 = running.client("s3")
        s3.create_bucket(Bucket="outputs", CreateBucketConfiguration={"LocationConstraint": running.region})
        yield running


@pytest.fixture
def ssm(lab: Lab) -> Any:
    return lab.client("ssm")


def _send(lab: Lab, ssm: Any, script: str, *names: str, **values: Any) -> str:
    ids = [lab.node(name).node_id for name in names]
    parameters = {"commands": [script], **values.pop("Parameters", {})}
    return str(ssm.send_command(DocumentName=SHELL, InstanceIds=ids, Parameters=parameters, **values)["Command"]["CommandId"])


def _eventually(look: Callable[[], Any], seconds: float = 20.0) -> Any:
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.03)
    return found


def _details(ssm: Any, command_id: str) -> str:
    return str(ssm.list_commands(CommandId=command_id)["Commands"][0]["StatusDetails"])


def _finished(lab: Lab, ssm: Any, command_id: str, name: str, **values: Any) -> dict[str, Any]:
    def look() -> Any:
        (command,) = ssm.list_commands(CommandId=command_id)["Commands"]
        return command["CompletedCount"] == command["TargetCount"]

    _eventually(look)
    time.sleep(max(0.0, lab.status()["settings"]["invocation_delay"]))
    found: dict[str, Any] = ssm.get_command_invocation(CommandId=command_id, InstanceId=lab.node(name).node_id, **values)
    return found


def _outcome(found: dict[str, Any]) -> tuple[str, int, str, str]:
    return found["StatusDetails"], found["ResponseCode"], found["StandardOutputContent"], found["StandardErrorContent"]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("name", ["instance", "hybrid", "polling"])
def test_a_script(lab: Lab, ssm: Any, name: str, version: str) -> None:
    """Status, output and errors, on either channel and by both schemas."""
    command_id = _send(lab, ssm, "echo out; echo err >&2; exit 3", name, DocumentVersion=version)
    found = _finished(lab, ssm, command_id, name)
    assert _outcome(found) == ("Failed", 3, "out\n", "err\nfailed to run commands: exit status 3")
    assert found["PluginName"] == ("aws:runShellScript" if version == "1" else "runShellScript")
    assert found["ExecutionStartDateTime"] <= found["ExecutionEndDateTime"]
    by = {entry["principal"].rpartition("/")[2] for entry in lab.requests(entries=True).entries if entry["action"] == "ec2messages:SendReply"}
    assert (lab.node(name).node_id in by) is (name == "polling")


def test_outputs_are_cut(lab: Lab, ssm: Any) -> None:
    command_id = _send(lab, ssm, "head -c 30000 /dev/zero | tr '\\0' x", "instance")
    found = _finished(lab, ssm, command_id, "instance")
    assert found["Status"] == "Success" and len(found["StandardOutputContent"]) <= 24_000
    assert found["StandardOutputContent"].startswith("x" * 20_000)
    (listed,) = ssm.list_command_invocations(CommandId=command_id, Details=True)["CommandInvocations"]
    assert 2_000 < len(listed["CommandPlugins"][0]["Output"]) <= 2_500


def test_outputs_in_a_bucket(lab: Lab, ssm: Any) -> None:
    """Raw bytes, where StandardOutputUrl says; no object for an empty stream."""
    script = "printf 'a\\377b'"
    command_id = _send(lab, ssm, script, "instance", "hybrid", OutputS3BucketName="outputs", OutputS3KeyPrefix="some/where")
    found = _finished(lab, ssm, command_id, "instance")
    assert found["StandardOutputContent"] == "a\N{REPLACEMENT CHARACTER}b"
    bucket = f"https://s3.{lab.region}.amazonaws.com/outputs/"
    key = found["StandardOutputUrl"].removeprefix(bucket)
    assert key.startswith(f"some/where/{command_id}/{lab.node('instance').node_id}/awsrunShellScript/")
    s3 = lab.client("s3")
    assert s3.get_object(Bucket="outputs", Key=key)["Body"].read() == b"a\xffb"
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket="outputs", Prefix=f"some/where/{command_id}")["Contents"]}
    assert len(keys) == 2 and all(each.endswith("/stdout") for each in keys)


@pytest.mark.parametrize("name", ["instance", "polling"])
def test_a_command_is_cancelled(lab: Lab, ssm: Any, name: str) -> None:
    command_id = _send(lab, ssm, "echo begun; touch /tmp/begun; sleep 30", name)
    _eventually(lambda: lab.node(name).run("rm /tmp/begun 2>/dev/null", check=False).returncode == 0)
    ssm.cancel_command(CommandId=command_id)
    found = _finished(lab, ssm, command_id, name)
    assert _outcome(found)[:3] == ("Cancelled", 137, "begun\n")
    assert _details(ssm, command_id) == "Cancelled"


@pytest.mark.slow
def test_a_script_that_takes_too_long(lab: Lab, ssm: Any) -> None:
    command_id = _send(lab, ssm, "sleep 30", "instance", Parameters={"executionTimeout": ["5"]})
    assert _finished(lab, ssm, command_id, "instance")["StatusDetails"] == "ExecutionTimedOut"


def test_steps_and_preconditions(lab: Lab, ssm: Any) -> None:
    """Each step has its result; one for another platform is skipped."""
    step = {"action": "aws:runShellScript", "inputs": {"runCommand": ["echo {{ word }}"]}}
    elsewhere = {"StringEquals": ["platformType", "Windows"]}
    content = {
        "schemaVersion": "2.2",
        "parameters": {"word": {"type": "String", "default": "hello"}},
        "mainSteps": [{**step, "name": "here"}, {**step, "name": "there", "precondition": elsewhere}],
    }
    ssm.create_document(Name="Steps", Content=json.dumps(content), DocumentType="Command")
    node_id = lab.node("instance").node_id
    command_id = ssm.send_command(DocumentName="Steps", InstanceIds=[node_id])["Command"]["CommandId"]
    _eventually(lambda: _details(ssm, command_id) == "Success")
    (listed,) = _eventually(lambda: ssm.list_command_invocations(CommandId=command_id, Details=True)["CommandInvocations"])
    here, there = listed["CommandPlugins"]
    assert (here["Name"], here["Output"]) == ("here", "hello\n")
    assert there["Name"] == "there" and "hello" not in there["Output"]
    ssm.delete_document(Name="Steps")


def test_a_script_from_a_bucket(lab: Lab, ssm: Any) -> None:
    lab.client("s3").put_object(Bucket="outputs", Key="scripts/hello.sh", Body=b"echo hello $1\n")
    path = f"https://s3.{lab.region}.amazonaws.com/outputs/scripts/hello.sh"
    parameters = {"sourceType": ["S3"], "sourceInfo": [json.dumps({"path": path})], "commandLine": ["sh hello.sh world"]}
    node_id = lab.node("instance").node_id
    sent = ssm.send_command(DocumentName="AWS-RunRemoteScript", InstanceIds=[node_id], Parameters=parameters)
    found = _finished(lab, ssm, sent["Command"]["CommandId"], "instance", PluginName="runShellScript")
    assert _outcome(found) == ("Success", 0, "hello world\n", "")


@pytest.mark.slow
def test_a_busy_agent_gets_its_commands_again(lab: Lab, ssm: Any) -> None:
    """Five at once, some that wait; what it refuses is Delayed and brought again, and all of it runs once."""
    lab.node("instance").run("rm -f /tmp/count")
    command_ids = [_send(lab, ssm, "sleep 1.5; echo x >> /tmp/count", "instance") for _turn in range(14)]
    _eventually(lambda: "Delayed" in [_details(ssm, command_id) for command_id in command_ids])
    _eventually(lambda: {_details(ssm, command_id) for command_id in command_ids} == {"Success"}, 40)
    assert lab.node("instance").run("cat /tmp/count").stdout == "x\n" * 14


def test_a_node_that_does_not_come_back_in_time(lab: Lab, ssm: Any) -> None:
    """Its command is not delivered, and does not run when it is back; one that has time left runs."""
    node = lab.node("hybrid")
    node.crash()
    _eventually(lambda: not node.connected)
    gone = _send(lab, ssm, "touch /tmp/late", "hybrid", TimeoutSeconds=30)
    waiting = _send(lab, ssm, "echo back", "hybrid", TimeoutSeconds=3600)
    assert _details(ssm, waiting) == "Pending"
    _eventually(lambda: _details(ssm, gone) == "DeliveryTimedOut")
    node.start()
    assert _outcome(_finished(lab, ssm, waiting, "hybrid"))[:3] == ("Success", 0, "back\n")
    assert node.run("test -e /tmp/late", check=False).returncode == 1
