# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of Run Command that decide: status, schedule, summary, outbox, parameters; and a real agent's replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab.codec import decode
from tests.lab.errors import AwsError
from tests.lab.run_command.documents import PUBLIC, check, execution_timeout, platforms
from tests.lab.run_command.invocation import Invocation
from tests.lab.run_command.message import CANCEL, SEND, cancel_payload, command_payload, job, topic
from tests.lab.run_command.outbox import Letter, Outbox
from tests.lab.run_command.parameters import check_parameters
from tests.lab.run_command.reply import Reply, parse_reply
from tests.lab.run_command.schedule import Schedule, limit
from tests.lab.run_command.status import Details
from tests.lab.run_command.summary import Summary

VECTORS = Path(__file__).parent / "vectors"


def _recorded(name: str, kind: str) -> list[dict[str, Any]]:
    """Payloads of one type of message in a recording."""
    lines = (VECTORS / f"run-command-{name}.jsonl").read_text().splitlines()
    messages = [decode(bytes.fromhex(event["hex"])) for event in map(json.loads, lines) if "hex" in event]
    return [json.loads(message.payload) for message in messages if message.message_type == kind]


def test_orders_are_as_the_real_agent_took_them() -> None:
    sent, cancelled = _recorded("cancelled", "agent_job")
    content = json.loads(sent["Content"])
    command_id, node_id = sent["JobId"].split(".")[2:]
    payload = command_payload(
        command_id=command_id,
        document_name=content["DocumentName"],
        content=content["DocumentContent"],
        parameters=content["Parameters"],
    )
    made = json.loads(job(sent["JobId"], topic(SEND, "us-east-1", node_id), payload))
    assert json.loads(made["Content"]) == content
    assert {**made, "Content": ""} == {**sent, "Content": ""}
    made = json.loads(job(cancelled["JobId"], topic(CANCEL, "us-east-1", node_id), cancel_payload(sent["JobId"])))
    assert made == cancelled


@pytest.mark.parametrize(
    ("name", "details", "code", "stdout"),
    [
        ("schema-1.2-exit-3", Details.FAILED, 3, "out\n"),
        ("schema-2.2-exit-0", Details.SUCCESS, 0, "out\n"),
        ("cancelled", Details.CANCELLED, 137, "begun\n"),
    ],
)
def test_replies_of_the_real_agent(name: str, details: Details, code: int, stdout: str) -> None:
    """An InProgress that comes after the end changes nothing."""
    invocation = Invocation("mi-1")
    for reply in _recorded(name, "agent_job_reply"):
        if reply["topic"] == SEND:
            invocation.reply(parse_reply(reply["content"]))
    assert invocation.details is details
    (result,) = invocation.plugins.values()
    assert (result.code, result.stdout) == (code, stdout)
    assert result.started is not None and result.ended is not None and result.started <= result.ended


def test_an_invocation_goes_only_forward() -> None:
    invocation = Invocation("i-1")
    assert invocation.delay() and invocation.details is Details.DELAYED
    assert invocation.accept() and not invocation.accept()
    assert not invocation.delay()
    assert invocation.cancel() and invocation.details is Details.CANCELLING
    assert not invocation.reply(Reply(Details.IN_PROGRESS, {}))
    assert invocation.reply(Reply(Details.SUCCESS, {}))
    for change in (invocation.cancel, invocation.accept, lambda: invocation.end(Details.DELIVERY_TIMED_OUT)):
        assert not change()
    assert invocation.details is Details.SUCCESS


def test_a_steps_result_that_comes_after_the_last_one_is_kept_and_stays() -> None:
    def step(status: str, code: int) -> Reply:
        return parse_reply(json.dumps({"documentStatus": status, "runtimeStatus": {"one": {"status": status, "code": code, "standardOutput": status}}}))

    invocation = Invocation("i-1")
    invocation.reply(Reply(Details.SUCCESS, {}))
    assert invocation.final
    assert not invocation.reply(step("Success", 0))
    assert invocation.plugins["one"].stdout == "Success"
    invocation.reply(step("InProgress", -1))
    assert invocation.plugins["one"].stdout == "Success"


def test_what_no_agent_has_is_cancelled_at_once() -> None:
    invocation = Invocation("i-1")
    assert invocation.cancel() and invocation.details is Details.CANCELLED


@pytest.mark.parametrize(("text", "total", "number"), [("10", 3, 10), ("10%", 50, 5), ("10%", 9, 0), ("100%", 7, 7)])
def test_limits(text: str, total: int, number: int) -> None:
    assert limit(text, total) == number


def test_a_schedule() -> None:
    schedule = Schedule(range(10), "3", "1")
    assert schedule.release() == [0, 1, 2]
    assert schedule.release() == []
    schedule.finished(error=True)
    assert schedule.release() == [3] and not schedule.exceeded
    schedule.finished(error=True)
    assert schedule.exceeded and schedule.release() == []
    assert schedule.abandon() == [4, 5, 6, 7, 8, 9]


def test_a_percentage_lets_at_least_one_go() -> None:
    assert Schedule("abc", "1%", "0").release() == ["a"]


@pytest.mark.parametrize(
    ("ends", "max_errors", "details"),
    [
        ([], 0, Details.NO_INSTANCES),
        ([Details.SUCCESS] * 2, 0, Details.SUCCESS),
        ([Details.SUCCESS, Details.FAILED], 0, Details.FAILED),
        ([Details.SUCCESS, Details.EXECUTION_TIMED_OUT], 1, Details.INCOMPLETE),
        ([Details.SUCCESS, Details.UNDELIVERABLE], 0, Details.SUCCESS),
        ([Details.UNDELIVERABLE], 0, Details.FAILED),
        ([Details.DELIVERY_TIMED_OUT] * 2, 0, Details.DELIVERY_TIMED_OUT),
        ([Details.SUCCESS, Details.DELIVERY_TIMED_OUT], 0, Details.INCOMPLETE),
        ([Details.FAILED, Details.TERMINATED], 0, Details.FAILED),
        ([Details.SUCCESS, Details.IN_PROGRESS], 0, Details.IN_PROGRESS),
        ([Details.PENDING, Details.DELAYED], 0, Details.DELAYED),
    ],
)
def test_a_commands_status(ends: list[Details], max_errors: int, details: Details) -> None:
    summary = Summary(len(ends))
    for end in ends:
        summary.change(Details.PENDING, end)
    assert summary.details(max_errors=max_errors, cancelled=False) is details


def test_a_cancelled_commands_status() -> None:
    summary = Summary(2)
    summary.change(Details.PENDING, Details.CANCELLING)
    assert summary.details(max_errors=0, cancelled=True) is Details.CANCELLING
    summary.change(Details.CANCELLING, Details.CANCELLED)
    summary.change(Details.PENDING, Details.SUCCESS)
    assert summary.details(max_errors=0, cancelled=True) is Details.CANCELLED


def test_an_outbox_hands_out_until_acknowledged() -> None:
    outbox = Outbox()
    outbox.put(Letter("a", "", "", 0.0))
    assert [letter.message_id for letter in outbox.take(0.0, 10.0)] == ["a"]
    assert outbox.take(9.0, 10.0) == [] and outbox.next_due == 10.0
    assert [letter.attempts for letter in outbox.take(10.0, 10.0)] == [2]
    outbox.expose()
    assert outbox.take(10.0, 10.0)
    assert outbox.remove("a") and not outbox.remove("a")
    assert outbox.next_due is None


_DOCUMENT = {
    "schemaVersion": "2.2",
    "parameters": {
        "lines": {"type": "StringList", "minItems": 1, "maxItems": 2},
        "word": {"type": "String", "allowedValues": ["a", "b"], "default": "a"},
        "short": {"type": "String", "allowedPattern": "[0-9]*", "maxChars": 3, "default": ""},
        "flag": {"type": "Boolean", "default": True},
        "number": {"type": "Integer", "default": 1},
        "map": {"type": "StringMap", "default": {}},
        "maps": {"type": "MapList", "default": []},
    },
    "mainSteps": [{"action": "aws:runShellScript", "name": "a", "inputs": {}}],
}


def test_parameters_get_their_types() -> None:
    given = {"lines": ["1", "2"], "word": ["b"], "flag": ["false"], "number": ["3"], "map": ['{"a": "b"}'], "maps": ['{"c": 1}']}
    assert check_parameters(_DOCUMENT, given) == {
        "lines": ["1", "2"], "word": "b", "flag": False, "number": 3, "map": {"a": "b"}, "maps": [{"c": 1}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"lines": []},
        {"lines": ["1", "2", "3"]},
        {"word": ["c"]},
        {"word": ["a", "b"]},
        {"short": ["x"]},
        {"short": ["1234"]},
        {"flag": ["maybe"]},
        {"number": ["true"]},
        {"map": ["[]"]},
        {"other": ["1"]},
    ],
)
def test_parameters_that_are_wrong(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(AwsError) as refused:
        check_parameters(_DOCUMENT, {"lines": ["1"], **wrong})
    assert refused.value.code == "InvalidParameters"


def test_a_parameter_that_is_missing() -> None:
    with pytest.raises(AwsError, match="lines required"):
        check_parameters(_DOCUMENT, {})


def test_public_documents_are_valid() -> None:
    for contents in PUBLIC.values():
        for content in contents:
            check(content)
    assert [content["schemaVersion"] for content in PUBLIC["AWS-RunShellScript"]] == ["1.2", "2.2"]
    assert platforms(PUBLIC["AWS-RunShellScript"][0]) == ["Linux", "MacOS"]
    assert "Windows" in platforms(PUBLIC["AWS-RunRemoteScript"][0])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"schemaVersion": "0.3"}, "InvalidDocumentSchemaVersion"),
        ({"schemaVersion": "2.2", "mainSteps": []}, "InvalidDocumentContent"),
        ({**_DOCUMENT, "mainSteps": [{"action": "a", "name": "n"}] * 2}, "InvalidDocumentContent"),
        ({**_DOCUMENT, "parameters": {"p": {"type": "Nothing"}}}, "InvalidDocumentContent"),
        ({**_DOCUMENT, "description": "x" * 70_000}, "MaxDocumentSizeExceeded"),
    ],
)
def test_documents_that_are_refused(content: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as refused:
        check(content)
    assert refused.value.code == code


@pytest.mark.parametrize(("given", "seconds"), [({}, 3600.0), ({"executionTimeout": "10"}, 10.0), ({"executionTimeout": "4"}, 3600.0)])
def test_execution_timeout(given: dict[str, Any], seconds: float) -> None:
    assert execution_timeout(PUBLIC["AWS-RunShellScript"][0], given) == seconds
