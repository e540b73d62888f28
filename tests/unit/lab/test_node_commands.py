# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command on a node of the lab, against the recordings of a real agent: what it got is what ours gets."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lab.nodes.agent import message
from tests.lab.nodes.agent.commands import conditions, parameters, result
from tests.lab.nodes.agent.commands.ec2messages import Ec2Messages
from tests.lab.nodes.agent.commands.order import InvalidDocumentError, command_of, join_key, parse_document
from tests.lab.nodes.agent.commands.replies import size_in_go
from tests.lab.nodes.agent.commands.run_command import RunCommand
from tests.lab.nodes.agent.commands.script import execution_timeout
from tests.lab.nodes.agent.commands.scripted import check_table
from tests.lab.nodes.agent.config import AgentConfig
from tests.lab.nodes.agent.service import Service
from tests.lab.nodes.agent.signing import Credentials
from tests.lab.nodes.names import answer

VECTORS = Path(__file__).parent / "vectors"
NODE = "mi-b167ee5784e4404fa"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="scripts of Run Command run as root")


def recorded(name: str) -> tuple[list[bytes], list[message.Message]]:
    """Frames that the service sent, and messages of the agent."""
    sent, answered = [], []
    for line in (VECTORS / name).read_text().splitlines():
        event = json.loads(line)
        data = bytes.fromhex(event["hex"])
        if "frm" in event:
            answered.append(message.unpack(data))
        else:
            sent.append(data)
    return sent, answered


class Agent:
    """The agent's part for Run Command with what it sends, and nothing acknowledged unless told."""

    def __init__(self, folder: Path, *, acknowledge: bool = True, **options: Any) -> None:
        config = AgentConfig(
            node_id=NODE,
            name="one",
            region="us-east-1",
            api_url="http://127.0.0.1:1",
            agent_url="https://127.0.0.1:1",
            state_dir=str(folder / "state"),
            run_dir=str(folder / "run"),
            data_dir=str(folder / "data"),
            **options,
        )
        context = ssl.create_default_context()
        messages = Ec2Messages(Service(config, context), context, lambda: Credentials("a", "b"), folder / "ec2messages")
        self.sent: list[message.Message] = []
        self._acknowledge, self._changed = acknowledge, asyncio.Event()
        self.commands = RunCommand(config, context, messages, self._take)

    def _take(self, frame: bytes) -> None:
        sent = message.unpack(frame)
        self.sent.append(sent)
        self._changed.set()
        if sent.kind == message.AGENT_JOB_REPLY and self._acknowledge:
            asyncio.get_running_loop().call_soon(self.acknowledge, sent)

    def acknowledge(self, reply: message.Message) -> None:
        name = message.id_text(reply.message_id).decode()
        body = json.dumps({"jobId": "", "acknowledgedMessageId": name}).encode()
        self.commands.take_reply_acknowledgement(message.unpack(message.pack(message.AGENT_JOB_REPLY_ACK, body)))

    def give(self, frame: bytes) -> None:
        self.commands.take_job(message.unpack(frame), message.created_ms(frame))

    def order(self, number: int, *lines: str, document: dict[str, Any] | None = None, **values: Any) -> str:
        """Give a job that runs a script; its id."""
        job_id = f"aws.ssm.{number:08d}-0000-4000-8000-000000000000.{NODE}"
        content = {
            "Parameters": {"commands": list(lines), **values},
            "DocumentContent": document or shell_document(),
            "CommandId": command_of(job_id),
            "DocumentName": "Test",
            "OutputS3KeyPrefix": "",
            "OutputS3BucketName": "",
            "CloudWatchOutputEnabled": "false",
        }
        self.job(job_id, "aws.ssm.sendCommand", content)
        return job_id

    def job(self, job_id: str, topic: str, content: dict[str, Any]) -> None:
        body = {"Content": json.dumps(content), "JobId": job_id, "Topic": f"{topic}.us-east-1.{NODE}", "SchemaVersion": 1}
        self.give(message.pack(message.AGENT_JOB, json.dumps(body).encode(), flags=0))

    async def until(self, wanted: Callable[[list[message.Message]], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not wanted(self.sent):
                self._changed.clear()
                await self._changed.wait()

    async def final(self, job_id: str, status: str | None = None) -> dict[str, Any]:
        """The last reply of a job, whose document is over."""
        found: list[dict[str, Any]] = []

        def over(sent: list[message.Message]) -> bool:
            found[:] = [
                content
                for content in contents(sent, job_id)
                if (content["documentStatus"] != "InProgress" if status is None else content["documentStatus"] == status)
            ]
            return bool(found)

        await self.until(over)
        return found[-1]


def contents(sent: list[message.Message], job_id: str) -> list[dict[str, Any]]:
    replies = [json.loads(one.payload) for one in sent if one.kind == message.AGENT_JOB_REPLY]
    return [json.loads(reply["content"]) for reply in replies if reply["jobId"] == job_id]


def acknowledgements(sent: list[message.Message]) -> list[str]:
    return [json.loads(one.payload)["statusCode"] for one in sent if one.kind == message.AGENT_JOB_ACK]


def shell_document(**inputs: Any) -> dict[str, Any]:
    given = {"runCommand": "{{ commands }}", "timeoutSeconds": "{{ executionTimeout }}", **inputs}
    return {
        "schemaVersion": "2.2",
        "parameters": {"commands": {"type": "StringList"}, "executionTimeout": {"type": "String", "default": "3600"}},
        "mainSteps": [{"action": "aws:runShellScript", "name": "runShellScript", "inputs": given}],
    }


def shape(sent: message.Message) -> Any:
    """A message without what differs from run to run, keys in their order."""
    text = sent.payload.decode()
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    if sent.kind == message.AGENT_JOB_ACK:
        text = re.sub(r'"createdDate":"TIME"', '"createdDate":""', text)
    return sent.kind, sent.flags, sent.sequence, sent.payload_type, text


# As recorded


@pytest.mark.parametrize("name", ["run-command-schema-1.2-exit-3.jsonl", "run-command-schema-2.2-exit-0.jsonl"])
async def test_recorded_job_gets_the_recorded_answers(name, tmp_path):
    given, answered = recorded(name)
    agent = Agent(tmp_path)
    agent.give(next(frame for frame in given if message.unpack(frame).kind == message.AGENT_JOB))
    await agent.until(lambda sent: len(sent) >= len(answered))

    assert [one.kind for one in agent.sent] == [one.kind for one in answered]
    # The real one's last two replies come in any order.
    assert sorted(shape(one)[-1] for one in agent.sent) == sorted(shape(one)[-1] for one in answered)
    assert {shape(one)[:-1] for one in agent.sent} == {shape(one)[:-1] for one in answered}


async def test_recorded_cancel_gets_the_recorded_answers(tmp_path):
    given, answered = recorded("run-command-cancelled.jsonl")
    job, cancel = (frame for frame in given if message.unpack(frame).kind == message.AGENT_JOB)
    agent = Agent(tmp_path)
    agent.give(job)
    stdout = tmp_path / "data" / NODE / "document/orchestration/19eeeda4-ca65-4cdb-b720-75769a1129da"
    stdout = stdout / "awsrunShellScript/0.awsrunShellScript/stdout"
    async with asyncio.timeout(10):
        while not (stdout.exists() and stdout.read_bytes() == b"begun\n"):
            await asyncio.sleep(0.01)
    agent.give(cancel)
    await agent.until(lambda sent: len(sent) >= len(answered))

    assert sorted(shape(one)[-1] for one in agent.sent) == sorted(shape(one)[-1] for one in answered)


# Placing


async def test_five_run_five_wait_and_the_eleventh_is_turned_down(tmp_path):
    agent = Agent(tmp_path)
    go = tmp_path / "go"
    jobs = [agent.order(number, f"while [ ! -e {go} ]; do sleep 0.05; done; echo {number}") for number in range(11)]
    assert acknowledgements(agent.sent) == ["200"] * 10 + ["51402"]
    assert not contents(agent.sent, jobs[10])
    go.touch()
    for number, job in enumerate(jobs[:10]):
        reply = await agent.final(job, "Success")
        assert reply["runtimeStatus"]["runShellScript"]["standardOutput"] == f"{number}\n"
    agent.order(10, "echo again")
    assert acknowledgements(agent.sent)[-1] == "200"


async def test_command_that_came_before_is_a_duplicate(tmp_path):
    agent = Agent(tmp_path)
    job = agent.order(1, "echo once")
    await agent.final(job)
    agent.order(1, "echo twice")
    assert acknowledgements(agent.sent) == ["200", "51405"]


async def test_document_that_is_none_is_turned_down_and_failed(tmp_path):
    agent = Agent(tmp_path)
    job = agent.order(1, document={"schemaVersion": "9.9", "mainSteps": []})
    assert acknowledgements(agent.sent) == ["51408"]
    assert [content["documentStatus"] for content in contents(agent.sent, job)] == ["Failed"]


async def test_waiting_command_that_is_cancelled_never_runs_and_nobody_is_told(tmp_path):
    agent = Agent(tmp_path)
    go = tmp_path / "go"
    jobs = [agent.order(number, f"while [ ! -e {go} ]; do sleep 0.05; done") for number in range(6)]
    agent.job(f"aws.ssm.cancel.{NODE}", "aws.ssm.cancelCommand", {"CancelMessageId": jobs[5]})
    go.touch()
    for job in jobs[:5]:
        await agent.final(job)
    await agent.final(agent.order(7, "echo after"))
    assert [content["documentStatus"] for content in contents(agent.sent, jobs[5])] == ["InProgress"]


# Replies


async def test_reply_that_is_not_acknowledged_is_kept_and_sent_again_as_the_same(tmp_path):
    agent = Agent(tmp_path, acknowledge=False, reply_retry=0.2)
    job = agent.order(1, "echo kept")
    await agent.final(job)
    await asyncio.sleep(1.3)
    kept = list((tmp_path / "state/commands/replies").glob("*.json"))
    assert len(kept) == 2
    before = {one.message_id for one in agent.sent if one.kind == message.AGENT_JOB_REPLY}

    again = Agent(tmp_path, reply_retry=0.2)
    again.commands.resume()
    await again.final(job)
    async with asyncio.timeout(5):
        while any((tmp_path / "state/commands/replies").glob("*.json")):
            await asyncio.sleep(0.01)
    assert len(again.sent) == 2
    assert {one.message_id for one in again.sent} <= before


async def test_last_reply_comes_first_if_told_so(tmp_path):
    agent = Agent(tmp_path, replies_reversed=True)
    job = agent.order(1, "echo x")
    await agent.until(lambda sent: len(contents(sent, job)) == 3)
    assert [content["documentStatus"] for content in contents(agent.sent, job)] == ["InProgress", "Success", "InProgress"]


async def test_another_agent_takes_up_what_runs_and_tells_its_end(tmp_path):
    go = tmp_path / "go"
    agent = Agent(tmp_path)
    job = agent.order(1, f"echo begun; while [ ! -e {go} ]; do sleep 0.05; done; echo done")
    await asyncio.sleep(0.2)
    for task in list(agent.commands._tasks):
        task.cancel()
    again = Agent(tmp_path)
    again.commands.resume()
    go.touch()
    reply = await again.final(job)
    assert reply["documentStatus"] == "Success"
    assert reply["runtimeStatus"]["runShellScript"]["standardOutput"] == "begun\ndone\n"


async def test_command_whose_worker_is_gone_fails_when_patience_ends(tmp_path):
    agent = Agent(tmp_path, zombie_timeout=0.3)
    job = agent.order(1, "echo begun; sleep 2")
    await asyncio.sleep(0.2)
    (state,) = (tmp_path / "state/commands/current").glob("*.json")
    os.kill(json.loads(state.read_text())["pid"], signal.SIGKILL)
    reply = await agent.final(job)
    status = reply["runtimeStatus"]["runShellScript"]
    assert (reply["documentStatus"], status["name"], status["code"]) == ("Failed", "", 1)
    assert status["output"].startswith("document process failed unexpectedly")


def test_size_of_a_reply_is_that_of_gos_json():
    content = {"text": "<&>\u2028\u00e9\0"}
    as_go = br'{"text":"\u003c\u0026\u003e\u2028\u00e9\u0000"}'
    assert size_in_go(content) == len(as_go.replace(rb"\u00e9", "\u00e9".encode()))


# Names of S3, for real agents


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", 77, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


@pytest.mark.parametrize("name", ["bucket.s3.eu-central-1.amazonaws.com", "s3.amazonaws.com", "a.b.S3.us-east-1.amazonaws.com"])
def test_names_of_s3_are_this_machine(name):
    reply = answer(query(name))
    assert struct.unpack_from(">6H", reply) == (77, 0x8580, 1, 1, 0, 0)
    assert reply[-4:] == bytes([127, 0, 0, 1])
    assert struct.unpack_from(">6H", answer(query(name, 28)))[1:4] == (0x8580, 1, 0)


@pytest.mark.parametrize("name", ["ssm.eu-central-1.amazonaws.com", "example.org"])
def test_other_names_are_not_there(name):
    assert struct.unpack_from(">6H", answer(query(name))) == (77, 0x8583, 1, 0, 0, 0)


@pytest.mark.parametrize("data", [b"", b"x" * 11, query("s3.amazonaws.com")[:-5], b"\xff" * 40])
def test_what_is_no_query_gets_no_answer(data):
    assert answer(data) == b""


# Parameters


@pytest.mark.parametrize(
    ("value", "replaced"),
    [
        ("{{ list }}", ["a", "b"]),
        ("{{list}}", ["a", "b"]),
        ("x {{ list }}", 'x ["a","b"]'),
        ("{{ text }} {{ other }}", "cost $1 {{ text }}"),
        ("{{ unknown }}", "{{ unknown }}"),
        ("{{ html }}!", '["\\u003c\\u0026"]!'),
        (["{{ text }}"], ["cost $$1"]),
        ({"{{ text }}": "{{ other }}"}, {"{{ text }}": "{{ text }}"}),
    ],
)
def test_parameters_are_put_in(value, replaced):
    values = {"list": ["a", "b"], "text": "cost $$1", "other": "{{ text }}", "html": ["<&"]}
    assert parameters.replace(value, values) == replaced


def test_defaults_are_taken_and_invalid_names_are_not():
    values = parameters.parameter_values({"a": 1, "b-c": 2}, {"d": {"default": 3}, "e": {}})
    assert values == {"a": 1, "d": 3, "e": None}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("5", 5), ("4", 3600), ("172800", 172800), ("172801", 3600), (60, 60), (6.9, 6), ("7.5", 7), ("x", 3600), (None, 3600), ("", 3600)],
)
def test_execution_timeouts_out_of_their_limits_are_an_hour(given, seconds):
    assert execution_timeout(given) == seconds


def test_keys_of_s3_are_without_colons_and_slashes_too_many():
    assert join_key("", "CMD", "i-1") == "CMD/i-1"
    assert join_key("pre/fix/", "CMD", "i-1") == "pre/fix/CMD/i-1"
    assert join_key("a/CMD/i-1", "aws:runShellScript", "0.aws:runShellScript") == "a/CMD/i-1/awsrunShellScript/0.awsrunShellScript"


# Conditions


def step(conditions_: dict[str, list[tuple[str, str]]], plugin: str = "aws:runShellScript", version: str = "2.2") -> Any:
    document = {
        "schemaVersion": version,
        "mainSteps": [{"action": plugin, "name": "one", "inputs": {}, "precondition": conditions_}],
    }
    return parse_document(document, {})[0]


@pytest.mark.parametrize(
    ("given", "decision", "word"),
    [
        (step({}), conditions.Decision.EXECUTE, ""),
        (step({"StringEquals": ["platformType", "Linux"]}), conditions.Decision.EXECUTE, ""),
        (step({"StringEquals": ["Windows", "platformType"]}), conditions.Decision.SKIP, "[Windows, platformType]"),
        (step({"StringEquals": ["a", "b"]}), conditions.Decision.FAIL, "valid document parameter"),
        (step({"StringEquals": ["a"]}), conditions.Decision.FAIL, "exactly 2"),
        (step({"NumberEquals": ["a", "b"]}), conditions.Decision.FAIL, "unrecognized operator"),
        (step({}, "aws:unheardOf"), conditions.Decision.FAIL, "update to latest version"),
        (step({}, "aws:unheardOf", "2.0"), conditions.Decision.FAIL, "update to latest version"),
        (step({"StringEquals": ["platformType", "Linux"]}, version="2.0"), conditions.Decision.FAIL, "prior to 2.2"),
        (step({}, "aws:psModule"), conditions.Decision.SKIP, "unsupported plugin"),
    ],
)
def test_conditions_decide_as_the_real_agent(given, decision, word):
    found, words = conditions.decide(given, platform="linux", here=given.plugin == "aws:runShellScript", supported=True, left=False)
    assert found is decision
    assert word in words


@pytest.mark.parametrize("version", ["0.3", "1.0", "2.2", ""])
def test_documents_without_steps_or_of_other_versions_are_invalid(version):
    with pytest.raises(InvalidDocumentError):
        parse_document({"schemaVersion": version}, {})


# Results


@pytest.mark.parametrize(("length", "kept"), [(23_999, 23_999), (24_000, 23_980), (50_000, 23_980)])
def test_streams_are_cut_by_bytes_even_at_the_limit(length, kept):
    cut = result.cut_stream(b"x" * length)
    assert cut == b"x" * kept + (b"" if length == kept else b"--output truncated--")


def test_each_byte_that_is_no_utf_8_becomes_a_replacement_character():
    assert result.text_of(b"a\xff\xe2\x82z\xc3\xa9") == "a\ufffd\ufffd\ufffdz\u00e9"


@pytest.mark.parametrize(("out", "err"), [(100, 100), (5000, 0), (0, 5000), (5000, 5000), (5000, 10), (10, 5000)])
def test_both_streams_in_one_text_are_within_2500_bytes(out, err):
    joined = result.join_streams(b"o" * out, b"e" * err)
    assert len(joined) <= 2500
    assert (b"---Output truncated---" in joined) == (out == 5000)
    assert (b"---Error truncated----" in joined) == (err == 5000)


def test_reply_about_the_end_shows_a_single_step_only():
    one = result.StepResult("a", "aws:runShellScript", status="Success", output="")
    two = result.StepResult("b", "aws:runShellScript", status="Failed", output="")
    agent = result.AgentInfo("3.3.0.0")
    assert list(result.result_content(agent, "", {"a": one})["runtimeStatus"]) == ["a"]
    content = result.result_content(agent, "", {"a": one, "b": two})
    assert (content["runtimeStatus"], content["documentStatus"]) == ({}, "Failed")
    assert content["additionalInfo"]["runtimeStatusCounts"] == {"Success": 1, "Failed": 1}


@pytest.mark.parametrize("table", ["x", [1], [{"output": ""}], [{"again": {"x": 1}}]])
def test_wrong_table_of_scripted_results_is_named(table):
    with pytest.raises(ValueError, match=r"scripted|list"):
        check_table(table)
