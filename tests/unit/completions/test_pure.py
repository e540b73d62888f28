# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the function makes of keys, events and results. No I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest
from completions.events import INVOCATION, ObjectEvent, StatusEvent, read
from completions.invocations import Invocation, Step, locate, snake
from completions.keys import OutputKey, understand
from completions.message import message_of, message_without_look

COMMAND = "0a4e2c8b-5d0f-4f7e-9a51-3a1d7f8f5b10"
NODE, EDGE = "i-0123456789abcdef0", "mi-0123456789abcdef0"
ACCOUNT, REGION = "222222222222", "us-east-1"
URL = "https://s3.eu-central-1.amazonaws.com/outputs"


@pytest.mark.parametrize(
    ("below", "step"),
    [
        ("awsrunShellScript/0.awsrunShellScript/stdout", "aws:runShellScript"),  # schema 1.2
        ("awsrunPowerShellScript/0.awsrunPowerShellScript/stdout", "aws:runPowerShellScript"),
        ("awsrunShellScript/PatchLinux/stdout", "PatchLinux"),  # schema 2.x
        ("awsrunPowerShellScript/runPowerShellScript/stdout", "runPowerShellScript"),
        ("awsrunDocument/outer/awsrunShellScript/inner/stdout", "outer/awsrunShellScript/inner"),
    ],
)
@pytest.mark.parametrize("node", [NODE, EDGE])
def test_all_layouts_are_one(below: str, step: str, node: str) -> None:
    found = understand(f"{ACCOUNT}/{REGION}/nightly/{COMMAND}/{node}/{below}", (REGION,))
    assert found == OutputKey(ACCOUNT, REGION, COMMAND, node, step, "stdout")


def test_a_region_is_one_that_is_known() -> None:
    tail = f"{COMMAND}/{NODE}/awsrunShellScript/0.awsrunShellScript/stderr"
    for before in ("", "nightly/", "eu-south-9/"):
        found = understand(f"{ACCOUNT}/{before}{tail}", (REGION,))
        assert found is not None and (found.account, found.region, found.stream) == (ACCOUNT, None, "stderr")


@pytest.mark.parametrize(
    "key",
    [
        f"{COMMAND}/{NODE}/awsrunShellScript/0.awsrunShellScript/stdout",  # without an account
        f"{ACCOUNT}/{COMMAND}/{NODE}/awsrunShellScript/0.awsrunShellScript/stdout.gz",
        f"{ACCOUNT}/{COMMAND}/web-1/awsrunShellScript/0.awsrunShellScript/stdout",
        f".completed/{ACCOUNT}/{REGION}/{COMMAND}/{NODE}",
        f"{ACCOUNT}/stdout",
        "",
    ],
)
def test_other_keys_are_none(key: str) -> None:
    assert understand(key, (REGION,)) is None


def status_event(status: str = "Success") -> dict[str, Any]:
    detail = {"command-id": COMMAND, "instance-id": NODE, "status": status, "document-name": "AWS-RunShellScript"}
    return {"detail-type": INVOCATION, "source": "aws.ssm", "account": ACCOUNT, "region": REGION, "detail": detail}


def object_record(key: str = f"{ACCOUNT}/{COMMAND}/{NODE}/awsrunShellScript/a+step/stdout") -> dict[str, Any]:
    return {
        "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-02T03:04:05.678Z",
        "userIdentity": {"principalId": f"AWS:AROAEXAMPLE:{NODE}"},
        "s3": {"bucket": {"name": "outputs"}, "object": {"key": key, "size": 3, "eTag": "abc"}},
    }  # fmt: skip


EXPECTED = StatusEvent(ACCOUNT, REGION, COMMAND, NODE, "Success", "AWS-RunShellScript")


def test_events_of_both_services_are_read() -> None:
    ((status,),) = [item.sightings for item in read(status_event())]
    assert status == EXPECTED
    ((written,),) = [item.sightings for item in read({"Records": [object_record()]})]
    assert isinstance(written, ObjectEvent)
    assert (written.bucket, written.output.step, written.written, written.writer) == ("outputs", "a step", 1767323045.678, f"AWS:AROAEXAMPLE:{NODE}")


def test_batches_of_queues_and_topics_are_read() -> None:
    in_topic = {"Type": "Notification", "Message": json.dumps(status_event())}
    bodies = [status_event(), {"Records": [object_record(), object_record()]}, in_topic, {"Event": "s3:TestEvent"}]
    records = [{"eventSource": "aws:sqs", "messageId": str(number), "body": json.dumps(body)} for number, body in enumerate(bodies)]
    found = read({"Records": records})
    assert [(item.queue_message_id, len(item.sightings)) for item in found] == [("0", 1), ("1", 2), ("2", 1), ("3", 0)]
    (direct,) = read({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(status_event())}}]})
    assert direct.sightings == (EXPECTED,)


def test_events_of_others_are_left_out() -> None:
    others = [
        {**status_event(), "source": "fake.ssm"},
        {**status_event(), "detail-type": "EC2 Command Status-change Notification"},
        {"Records": [{**object_record(), "eventName": "ObjectRemoved:Delete"}]},
        {"Records": [object_record("some/other/object")]},
        {},
    ]
    assert [item.sightings for event in others for item in read(event)] == [()] * len(others)


def step(name: str, status: str, rc: int | None, *, out: bool = True, err: bool = False) -> Step:
    out_url, err_url = f"{URL}/{ACCOUNT}/{name}/stdout", f"{URL}/{ACCOUNT}/{name}/stderr"
    return Step(name, status, rc, out_url if out else None, err_url if err else None, (out_url, err_url), f"end of {name}")


def invocation(*steps: Step, status: str = "success") -> Invocation:
    return Invocation(ACCOUNT, REGION, COMMAND, NODE, status, "AWS-RunShellScript", "nightly", steps)


def test_a_message_has_the_step_that_tells() -> None:
    found = message_of(invocation(step("one", "success", 0), step("two", "failed", 3, out=False, err=True), step("three", "success", 0), status="failed"))
    assert (found["status"], found["rc"], found["stdout_uri"], found["stderr_uri"]) == ("failed", 3, None, f"{URL}/{ACCOUNT}/two/stderr")
    assert [(each["name"], each["rc"]) for each in found["steps"]] == [("one", 0), ("two", 3), ("three", 0)]
    assert found["verified"] and (found["ended_at"], found["comment"]) == ("end of three", "nightly")


def test_of_a_command_without_steps_the_status_is_told() -> None:
    found = message_of(invocation(status="delivery_timed_out"))
    assert (found["status"], found["rc"], found["stdout_uri"], found["ended_at"], found["steps"]) == ("delivery_timed_out", None, None, None, [])
    assert found["verified"]


def test_a_stream_that_is_empty_has_no_uri() -> None:
    found = message_of(invocation(step("one", "success", 0, out=False)))
    assert (found["stdout_uri"], found["stderr_uri"]) == (None, None)


def test_uris_follow_outputs_that_are_moved() -> None:
    found = message_of(invocation(step("one", "success", 0)), ("us-east-1", "restricted"))
    assert found["stdout_uri"] == f"https://s3.us-east-1.amazonaws.com/restricted/{ACCOUNT}/one/stdout"
    spaced = message_of(invocation(step("a%20b", "success", 0)), ("us-east-1", "restricted"))
    assert spaced["stdout_uri"].endswith(f"/restricted/{ACCOUNT}/a%20b/stdout")


def test_without_a_look_the_status_is_known_alone() -> None:
    found = message_without_look(EXPECTED, "may not")
    assert (found["status"], found["rc"], found["verified"], found["problem"]) == ("success", None, False, "may not")
    assert found.keys() - {"problem"} == message_of(invocation(step("one", "success", 0))).keys()


def test_only_an_object_where_the_output_was_to_go_is_of_the_command() -> None:
    ended = invocation(step("one", "success", 0, out=False))
    assert ended.has("outputs", f"{ACCOUNT}/one/stdout")
    assert invocation(step("a%20b", "success", 0)).has("outputs", f"{ACCOUNT}/a b/stdout")
    assert not ended.has("outputs", f"{ACCOUNT}/two/stdout") and not ended.has("others", f"{ACCOUNT}/one/stdout")


@pytest.mark.parametrize(("status", "ended"), [("delayed", False), ("cancelling", False), ("delivery_timed_out", True), ("cancelled", True)])
def test_which_statuses_are_last_ones(status: str, ended: bool) -> None:
    assert invocation(status=status).ended is ended


def test_urls_and_statuses_of_the_api() -> None:
    assert locate("https://s3.cn-north-1.amazonaws.com.cn/b/k/e") == ("b", "k/e") and locate("") == ("", "")
    assert locate("https://s3.amazonaws.com/b/k%20e") == ("b", "k e") == locate("https://s3-us-west-2.amazonaws.com/b/k%20e")
    assert [snake(word) for word in ("ExecutionTimedOut", "Execution Timed Out", "Success")] == ["execution_timed_out", "execution_timed_out", "success"]
