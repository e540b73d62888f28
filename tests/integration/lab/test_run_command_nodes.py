# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands do on our nodes what they do on nodes with amazon-ssm-agent. The same tests run on ours and, with
``FLEET_SSM_AGENT=/folder``, on nodes that run a real agent: they are what makes ours a stand-in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.lab.test_nodes import AGENT, KINDS, definition
from tests.lab import Lab, LabNode

SHELL = "AWS-RunShellScript"
BUCKET = "fleet-lab-outputs"
NOT_REAL = pytest.mark.skipif(bool(AGENT), reason="about our own nodes alone: scripted PowerShell, or an option of theirs")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([], settings={"invocation_delay": 0.0}) as running:
        place = {"LocationConstraint": "eu-central-1"}
        running.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        for name, content in DOCUMENTS.items():
            running.client("ssm").create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
        yield running


@pytest.fixture(scope="module", params=KINDS)
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabNode]:
    made = lab.add(definition(f"commands-{request.param}", request.param))[0]
    made.wait_online()
    yield made
    made.terminate()


def step(name: str, *lines: str, action: str = "aws:runShellScript", condition: list[str] | None = None, **inputs: Any) -> dict[str, Any]:
    made = {"action": action, "name": name, "inputs": {"runCommand": list(lines), **inputs}}
    return {**made, "precondition": {"StringEquals": condition}} if condition else made


def document(*steps: dict[str, Any], version: str = "2.2", **parameters: Any) -> dict[str, Any]:
    return {"schemaVersion": version, "description": "of a test", "parameters": parameters, "mainSteps": list(steps)}


INNER = document(step("in1", "echo inner {{ word }}; echo err >&2"), step("in2", "exit 7"), word={"type": "String", "default": "default"})
DOCUMENTS = {
    "Test-Shell22": document(
        {"action": "aws:runShellScript", "name": "runShellScript", "inputs": {"runCommand": "{{ commands }}"}},
        commands={"type": "StringList"},
    ),
    "Test-Steps": document(step("one", "echo 1"), step("two", "echo 2; exit 2"), step("three", "echo 3")),
    "Test-OnFailure": document(
        step("one", "exit 1", onFailure="exit"), step("two", "echo 2"), step("last", "echo end", finallyStep=True)
    ),
    "Test-SuccessAndExit": document(step("one", "exit 4", onFailure="successAndExit"), step("two", "echo 2")),
    "Test-Conditions": document(
        step("linux", "echo linux", condition=["platformType", "Linux"]),
        step("windows", "echo windows", action="aws:runPowerShellScript", condition=["platformType", "Windows"]),
    ),
    "Test-PowerShell": document(step("one", "Get-Date", action="aws:runPowerShellScript")),
    "Test-Parameters": document(
        step("one", "echo '{{ text }} {{ list }} {{ unknown }}'", "{{ text }}"),
        text={"type": "String", "default": "true"},
        list={"type": "StringList", "default": ["x", "y"]},
    ),
    "Test-RunDocument": document(
        step("write", "mkdir -p /tmp/documents", "cat > /tmp/documents/inner.json <<'END'", json.dumps(INNER), "END"),
        {
            "action": "aws:runDocument",
            "name": "run",
            "inputs": {"documentType": "LocalPath", "documentPath": "/tmp/documents/inner.json", "documentParameters": {"word": "given"}},
        },
    ),
}


class Commands:
    """Sends commands to one node and waits for their ends."""

    def __init__(self, lab: Lab, node: LabNode) -> None:
        self.ssm, self.node = lab.client("ssm"), node

    def send(self, *lines: str, name: str = SHELL, bucket: str = "", prefix: str = "", **parameters: list[str]) -> str:
        given = {"commands": list(lines), **parameters} if lines else parameters
        places = {"OutputS3BucketName": bucket, **({"OutputS3KeyPrefix": prefix} if prefix else {})} if bucket else {}
        sent = self.ssm.send_command(InstanceIds=[self.node.node_id], DocumentName=name, Parameters=given, **places)
        return str(sent["Command"]["CommandId"])

    def state(self, command: str) -> dict[str, Any]:
        found = self.ssm.list_command_invocations(CommandId=command, InstanceId=self.node.node_id, Details=True)
        invocations = found["CommandInvocations"]
        return dict(invocations[0]) if invocations else {"StatusDetails": "Pending", "CommandPlugins": []}

    def ended(self, command: str, seconds: float = 30) -> dict[str, Any]:
        return until(lambda: self.state(command), lambda state: state["StatusDetails"] not in ("Pending", "InProgress", "Delayed", "Cancelling"), seconds)

    def result(self, command: str, plugin: str = "") -> dict[str, Any]:
        """What GetCommandInvocation says about a step."""
        given = {"PluginName": plugin} if plugin else {}
        return dict(self.ssm.get_command_invocation(CommandId=command, InstanceId=self.node.node_id, **given))

    def run(self, *lines: str, seconds: float = 30, **values: Any) -> dict[str, Any]:
        command = self.send(*lines, **values)
        self.ended(command, seconds)
        return self.result(command)


@pytest.fixture
def commands(lab: Lab, node: LabNode) -> Commands:
    return Commands(lab, node)


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 30) -> Any:
    ends = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < ends, f"still {found}"
        time.sleep(0.05)
    return found


def outcome(result: dict[str, Any]) -> tuple[str, int, str, str]:
    return result["StatusDetails"], result["ResponseCode"], result["StandardOutputContent"], result["StandardErrorContent"]


# Scripts


@pytest.mark.parametrize("name", [SHELL, "Test-Shell22"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("echo out; echo err >&2", ("Success", 0, "out\n", "err\n")),
        ("true", ("Success", 0, "", "")),
        ("echo out; exit 3", ("Failed", 3, "out\n", "failed to run commands: exit status 3")),
        ("printf err >&2; exit 255", ("Failed", 255, "", "errfailed to run commands: exit status 255")),
        ("kill -KILL 0", ("Failed", -1, "", "failed to run commands: signal: killed")),
        ("printf 'a\\377\\342\\202z\\303\\251'", ("Success", 0, "a\ufffd\ufffd\ufffdz\u00e9", "")),
        ("readlink /proc/self/fd/0; id -u", ("Success", 0, "/dev/null\n0\n", "")),
    ],
)
def test_script_gives_its_outputs_and_status(commands, name, line, expected):
    assert outcome(commands.run(line, name=name)) == expected


def test_exit_codes_that_mean_something_else(commands):
    assert outcome(commands.run("echo x; exit 137"))[1:] == (137, "x\n", "")
    status, code, stdout, stderr = outcome(commands.run("echo x; echo lost >&2; exit 168"))
    assert (status, code, stderr) == ("Success", 168, "")
    assert stdout.startswith("x\n\nStep exited with code 168.")
    status, code, stdout, stderr = outcome(commands.run("echo x; exit 169"))
    assert (status, code) == ("Failed", 169)
    assert stdout.startswith("x\n\nStep exited with code 169.")
    assert stderr.startswith("failed to run commands: exit status 169\nStep exited with code 169.")


def test_script_has_the_environment_of_the_agent_and_the_commands_own(commands):
    command = commands.send("echo $AWS_SSM_INSTANCE_ID $AWS_SSM_REGION_NAME $SSM_COMMAND_ID $PWD; ps -o pgid= -p $$ | tr -d ' '; echo $PPID")
    commands.ended(command)
    words, group, parent = commands.result(command)["StandardOutputContent"].splitlines()
    where = "/usr/bin" if commands.node.kind == "machine" else "/"
    assert words == f"{commands.node.node_id} eu-central-1 {command} {where}"
    assert group == parent  # sh -c, whose child is the script's shell


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/usr/share", ("Success", 0, "/usr/share\n", "")),
        ("/not/there", ("Failed", 1, "", "failed to run commands: fork/exec /usr/bin/sh: no such file or directory")),
    ],
)
def test_working_directory(commands, directory, expected):
    assert outcome(commands.run("pwd", workingDirectory=[directory])) == expected


@pytest.mark.parametrize(("size", "kept"), [(23_999, 23_999), (24_000, 23_980), (60_000, 23_980)])
def test_output_in_the_reply_is_cut(commands, size, kept):
    text = commands.run(f"head -c {size} /dev/zero | tr '\\0' x")["StandardOutputContent"]
    assert text == "x" * kept + ("" if size == kept else "--output truncated--")


def test_end_of_a_command_is_never_told_if_its_reply_is_too_large(commands):
    command = commands.send("head -c 24000 /dev/zero; touch /tmp/large")
    until(lambda: commands.node.run("ls /tmp/large", check=False).returncode, lambda code: code == 0)
    time.sleep(2)
    assert commands.state(command)["StatusDetails"] == "InProgress"


def test_time_out_ends_the_process_group_and_leaves_the_others(commands):
    began = time.monotonic()
    line = "echo begun; setsid sh -c 'sleep 8; echo free > /tmp/free' > /dev/null 2>&1 & sleep 60; echo never"
    status, code, stdout, stderr = outcome(commands.run(line, executionTimeout=["5"]))
    assert 5 <= time.monotonic() - began < 20
    assert status in ("TimedOut", "ExecutionTimedOut")
    assert (code, stdout, stderr) == (137, "begun\n", "")
    assert until(lambda: commands.run("cat /tmp/free")["StandardOutputContent"], bool) == "free\n"


def test_child_that_holds_the_output_keeps_the_command_until_its_time_is_up(commands):
    result = commands.run("setsid sleep 30 & echo there", executionTimeout=["5"])
    assert outcome(result) == ("Failed", 1, "there\n", "failed to run commands: no such process")


def test_cancel_ends_the_command(commands):
    command = commands.send("echo begun; sleep 60")
    until(lambda: commands.state(command), lambda state: state["StatusDetails"] == "InProgress")
    time.sleep(0.5)
    commands.ssm.cancel_command(CommandId=command)
    assert commands.ended(command)["StatusDetails"] == "Cancelled"
    until(lambda: commands.result(command)["StandardOutputContent"], lambda text: text == "begun\n")


def test_ten_commands_at_once_all_run(commands):
    sent = [commands.send(f"sleep 0.5; echo {number}") for number in range(10)]
    for number, command in enumerate(sent):
        assert commands.ended(command)["StatusDetails"] == "Success"
        assert commands.result(command)["StandardOutputContent"] == f"{number}\n"


# Documents


def steps(commands: Commands, name: str, status: str, *order: str) -> list[tuple[str, str, int, str]]:
    """Run a document and give its steps in an order: the replies about them come in any, and after the last one too."""
    command = commands.send(name=name)
    assert commands.ended(command)["StatusDetails"] == status
    # The service has -1 for a step that it knows nothing of yet.
    state = until(lambda: commands.state(command), lambda state: all(plugin["ResponseCode"] != -1 for plugin in state["CommandPlugins"]))
    found = {plugin["Name"]: plugin for plugin in state["CommandPlugins"]}
    return [(step, found[step]["StatusDetails"], found[step]["ResponseCode"], found[step]["Output"]) for step in order]


def test_steps_run_one_after_another_whatever_becomes_of_them(commands):
    assert steps(commands, "Test-Steps", "Failed", "one", "two", "three") == [
        ("one", "Success", 0, "1\n"),
        ("two", "Failed", 2, "2\n\n----------ERROR-------\nfailed to run commands: exit status 2"),
        ("three", "Success", 0, "3\n"),
    ]


def test_on_failure_leaves_but_for_the_finally_step(commands):
    found = steps(commands, "Test-OnFailure", "Failed", "one", "two", "last")
    assert [(name, code) for name, _status, code, _output in found] == [("one", 1), ("two", 0), ("last", 0)]
    assert found[1][3] == "Plugin with name aws:runShellScript and id two skipped due to prior step with an exit condition"
    assert found[2][3] == "end\n"


def test_success_and_exit_makes_a_failure_a_success(commands):
    assert steps(commands, "Test-SuccessAndExit", "Success", "one", "two")[0][1:3] == ("Success", 168)


def test_conditions_choose_by_platform(commands):
    one, other = steps(commands, "Test-Conditions", "Success", "linux", "windows")
    assert one == ("linux", "Success", 0, "linux\n")
    assert other[3] == "Step execution skipped due to unsatisfied preconditions: '\"StringEquals\": [platformType, Windows]'. Step name: windows"


def test_power_shell_is_missed_where_it_is_not(commands):
    expected = ("Failed", 1, "", "failed to run commands: fork/exec /usr/bin/pwsh: no such file or directory")
    assert outcome(commands.run(name="Test-PowerShell")) == expected


def test_parameters_are_put_in(commands):
    result = commands.run(name="Test-Parameters", text=["echo b$$c"], list=["l<", "m"])
    assert outcome(result) == ("Success", 0, 'echo b$c ["l\\u003c","m"] {{ unknown }}\n' + result["StandardOutputContent"].splitlines()[-1] + "\n", "")


def test_document_in_a_document_is_one_step(commands):
    _write, run = steps(commands, "Test-RunDocument", "Failed", "write", "run")
    assert run == ("run", "Failed", 1, "inner given\n\n----------ERROR-------\nerr\nfailed to run commands: exit status 7")


# S3


def objects(lab: Lab, prefix: str) -> dict[str, bytes]:
    s3 = lab.client("s3")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {entry["Key"].removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in found}


@pytest.mark.parametrize(
    ("name", "folder"), [(SHELL, "awsrunShellScript/0.awsrunShellScript"), ("Test-Shell22", "awsrunShellScript/runShellScript")]
)
@pytest.mark.parametrize("prefix", ["", "some/where"])
def test_outputs_come_to_s3_as_they_are(lab, commands, name, folder, prefix):
    line = "printf 'a\\377\\000'; head -c 100000 /dev/zero | tr '\\0' x; echo err >&2; exit 3"
    command = commands.send(line, name=name, bucket=BUCKET, prefix=prefix)
    commands.ended(command)
    found = objects(lab, f"{prefix}/{command}/".lstrip("/"))
    place = f"{commands.node.node_id}/{folder}"
    assert found == {
        f"{place}/stdout": b"a\xff\0" + b"x" * 100_000,
        f"{place}/stderr": b"err\nfailed to run commands: exit status 3",
    }


def test_empty_streams_are_not_uploaded(lab, commands):
    command = commands.send("true", bucket=BUCKET, prefix="empty")
    commands.ended(command)
    assert objects(lab, f"empty/{command}") == {}


def test_outputs_come_to_a_bucket_in_another_region(lab, commands):
    lab.client("s3", region="us-east-1").create_bucket(Bucket=f"far-{commands.node.node_id}")
    command = commands.send("echo far", bucket=f"far-{commands.node.node_id}")
    commands.ended(command)
    s3 = lab.client("s3", region="us-east-1")
    key = f"{command}/{commands.node.node_id}/awsrunShellScript/0.awsrunShellScript/stdout"
    assert s3.get_object(Bucket=f"far-{commands.node.node_id}", Key=key)["Body"].read() == b"far\n"


@pytest.mark.slow  # the agent waits a minute for the worker
def test_node_that_crashes_in_the_middle_reports_the_command_as_failed(commands):
    command = commands.send("echo begun; sleep 300")
    until(lambda: commands.state(command), lambda state: state["StatusDetails"] == "InProgress")
    time.sleep(1)
    commands.node.crash()
    commands.node.start()
    state = commands.ended(command, 150)
    assert state["StatusDetails"] == "Failed"
    assert "document process failed unexpectedly" in str(state["CommandPlugins"])


def test_upload_that_fails_changes_nothing(lab, commands):
    fault = lab.fault_calls("s3:PutObject", status=403, code="AccessDenied")
    try:
        command = commands.send("echo x", bucket=BUCKET, prefix="denied")
        commands.ended(command, 60)
    finally:
        fault.clear()
    assert outcome(commands.result(command)) == ("Success", 0, "x\n", "")
    assert objects(lab, f"denied/{command}") == {}


# Agents and nodes that go


def test_agent_restarted_in_the_middle_tells_the_end(commands):
    command = commands.send("echo begun; sleep 6; echo done")
    until(lambda: commands.state(command), lambda state: state["StatusDetails"] == "InProgress")
    time.sleep(1)
    commands.node.restart_agent()
    assert commands.ended(command, 60)["StatusDetails"] == "Success"
    assert commands.result(command)["StandardOutputContent"] == "begun\ndone\n"


def test_script_that_asks_for_a_reboot_runs_again_after_it(commands):
    line = "echo run >> /root/runs; wc -l < /root/runs; [ $(wc -l < /root/runs) = 2 ] || exit 194"
    command = commands.send("rm -f /root/runs")
    commands.ended(command)
    command = commands.send(line)
    assert commands.ended(command, 240)["StatusDetails"] == "Success"  # a machine reboots a minute later
    assert commands.result(command)["StandardOutputContent"] == "1\n2\n"
    commands.node.wait_online()


def test_commands_come_by_the_long_poll_where_the_control_channel_is_refused(lab, commands):
    lab.deny("ssmmessages:CreateControlChannel")
    try:
        commands.node.restart_agent(wait=False)
        result = commands.run("echo polled; exit 4", seconds=60)
    finally:
        lab.clear_permissions()
    assert outcome(result) == ("Failed", 4, "polled\n", "failed to run commands: exit status 4")
    commands.node.restart_agent()


# Windows, and what only ours does


@pytest.fixture(scope="module")
def windows(lab: Lab) -> Iterator[LabNode]:
    table = [
        {"pattern": "Get-HotFix", "stdout": "KB5031364\r\n"},
        {"pattern": "throw", "stdout": "before\r\n", "stderr": "no such thing\r\n", "rc": 1},
        {"pattern": "Install-", "stdout": "installed\r\n", "rc": 3010, "again": {"stdout": "nothing to do\r\n"}},
        {"pattern": "Start-Sleep", "seconds": 60},
    ]
    made = lab.add({"name": "windows", "kind": "windows", "options": {"scripts": table, "s3_late": 2.0}})[0]
    made.wait_online()
    yield made
    made.terminate()


@NOT_REAL
def test_windows_node_answers_from_its_table(lab, windows):
    commands = Commands(lab, windows)
    power = "AWS-RunPowerShellScript"
    assert outcome(commands.run("Get-HotFix", name=power)) == ("Success", 0, "KB5031364\r\n", "")
    assert outcome(commands.run("throw 1", name=power)) == ("Failed", 1, "before\r\n", "no such thing\r\nfailed to run commands: exit status 1")
    assert outcome(commands.run("Start-Sleep 60", name=power, executionTimeout=["5"]))[1] == -1
    about = commands.ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [windows.node_id]}])
    assert about["InstanceInformationList"][0]["PlatformType"] == "Windows"


@NOT_REAL
def test_windows_node_reboots_for_3010_and_goes_on(lab, windows):
    commands = Commands(lab, windows)
    result = commands.run("Install-WindowsUpdate", name="AWS-RunPowerShellScript", seconds=60)
    assert outcome(result) == ("Success", 0, "installed\r\nnothing to do\r\n", "")
    windows.wait_online()


@NOT_REAL
def test_outputs_come_late_to_s3_if_told_so(lab, windows):
    commands = Commands(lab, windows)
    command = commands.send("Get-HotFix", name="AWS-RunPowerShellScript", bucket=BUCKET)
    commands.ended(command)
    assert objects(lab, command) == {}
    key = f"/{windows.node_id}/awsrunPowerShellScript/0.awsrunPowerShellScript/stdout"
    found = until(lambda: objects(lab, command), bool)
    assert found == {key: b"KB5031364\r\n"}
