# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The function, called directly, with a lab as its AWS: what it makes of events that are doubled, late, early, lost or forged."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import ClientError
from completions.main import NotYet
from completions.memory import Memory, Told

from tests.integration.output_store.called import BUCKET, OTHER, RELAY, ROLE, Store, ended, status
from tests.lab import Lab


def written(key: str, writer: str = "", age: float = 0.0) -> dict[str, Any]:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - age))
    entry = {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": moment, "userIdentity": {"principalId": writer}, "s3": entry}]}


def test_an_event_becomes_a_message(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good", Comment="nightly")
    function.call(status(node, command_id))
    (message,) = function.told()
    where = f"https://s3.{node.region}.amazonaws.com/{BUCKET}/{node.account}/{node.region}/{command_id}/{node.node_id}/awsrunShellScript"
    assert message["stdout_uri"] == f"{where}/0.awsrunShellScript/stdout" and message["stderr_uri"] is None
    assert {key: message[key] for key in ("command_id", "instance_id", "account_id", "region", "status", "rc", "comment", "verified")} == {
        "command_id": command_id, "instance_id": node.node_id, "account_id": node.account, "region": node.region,
        "status": "success", "rc": 0, "comment": "nightly", "verified": True,
    }  # fmt: skip


def test_a_hybrid_node_of_another_account_without_output(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("far")
    function.call(status(node, command_id))
    (message,) = function.told()
    assert (message["account_id"], message["instance_id"], message["rc"], message["stdout_uri"]) == (OTHER, node.node_id, 0, None)


def test_a_command_that_fails(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("bad")
    function.call(status(node, command_id, "Failed"))
    (message,) = function.told()
    assert (message["status"], message["rc"], message["stdout_uri"]) == ("failed", 7, None) and message["stderr_uri"].endswith("/stderr")


def test_nothing_is_told_twice_in_whatever_order_events_come(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good")
    key = function.put(node, command_id)
    events = [status(node, command_id), written(key), status(node, command_id, "InProgress"), status(node, command_id), written(key)]
    batch = {"Records": [{"eventSource": "aws:sqs", "messageId": str(number), "body": json.dumps(event)} for number, event in enumerate(events)]}
    assert function.call(batch) == {"batchItemFailures": []}
    for event in events:
        function.call(event)
    assert len(function.told()) == 1


def test_calls_at_the_same_time_tell_once(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good")
    event = status(node, command_id)
    function.call(status(*function.send("good")))  # makes what the calls share
    function.told()
    calls = [threading.Thread(target=function.call, args=(event,)) for _number in range(6)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert len(function.told()) == 1


def test_an_object_alone_is_enough(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good")
    function.call(written(function.put(node, command_id)))
    (message,) = function.told()
    assert (message["command_id"], message["status"], message["rc"]) == (command_id, "success", 0)


def test_a_region_that_the_key_does_not_name_is_found(store: Callable[..., Store]) -> None:
    function = store()
    node = function.lab.node("far")
    ssm = function.lab.client("ssm", account=node.account, region=node.region)
    sent = ssm.send_command(
        InstanceIds=[node.node_id], DocumentName="AWS-RunShellScript", Parameters={"commands": ["true"]}, OutputS3BucketName=BUCKET, OutputS3KeyPrefix=OTHER
    )
    command_id = sent["Command"]["CommandId"]
    ended(ssm, command_id)
    function.call(written(f"{OTHER}/{command_id}/{node.node_id}/awsrunShellScript/0.awsrunShellScript/stdout"))
    (message,) = function.told()
    assert (message["region"], message["command_id"]) == ("us-east-1", command_id)


def test_an_object_that_comes_before_the_end_is_looked_at_again(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("slow", wait=False)
    event = written(function.put(node, command_id))
    with pytest.raises(NotYet):
        function.call(event)
    batch = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": json.dumps(event)}, {"eventSource": "aws:sqs", "messageId": "n", "body": "{}"}]}
    assert function.call(batch) == {"batchItemFailures": [{"itemIdentifier": "m"}]}
    assert function.told() == []
    deadline = time.monotonic() + 10
    while function.call(batch)["batchItemFailures"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(function.told()) == 1


def test_forged_objects_tell_nothing(store: Callable[..., Store], capsys: pytest.CaptureFixture[str]) -> None:
    function = store()
    node, command_id = function.send("silent", wait=False)
    good, other = function.send("good")
    invented = command_id[:-4] + ("0000" if command_id[-4:] != "0000" else "1111")
    events = [
        written(function.put(node, invented)),  # there is no such command
        written(function.put(good, command_id)),  # nor is this one on that node
        written(function.put(good, other).replace("0.awsrunShellScript", "other")),  # not where the output was to go
        written(function.put(good, other), writer=f"AWS:AROAEXAMPLE:{node.node_id}"),  # another node has written it
    ]
    for event in events:
        function.call(event)
    assert function.told() == []
    outcomes = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
    assert len(outcomes) == 4 and all(outcome.startswith("forged") for outcome in outcomes)
    with pytest.raises(NotYet):  # it may be told as ended, but it is not
        function.call(written(function.put(node, command_id)))
    assert function.told() == []


def test_a_command_that_is_not_known_yet_is_looked_at_again(store: Callable[..., Store]) -> None:
    function = store(SETTLE_SECONDS="30")
    node, command_id = function.send("good")
    invented = command_id[:-4] + ("0000" if command_id[-4:] != "0000" else "1111")
    with pytest.raises(NotYet):
        function.call(written(function.put(node, invented)))
    function.call(written(function.put(node, invented), age=40))
    assert function.told() == []


def test_a_message_that_was_not_taken_is_told_again(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good")
    with function.lab.fault_calls("sqs:SendMessage", status=400, code="InvalidMessageContents", count=1), pytest.raises(ClientError):
        function.call(status(node, command_id))
    assert function.told() == []
    function.call(status(node, command_id))
    function.call(status(node, command_id))
    assert len(function.told()) == 1


def test_the_claim_of_one_who_died_is_taken_over(store: Callable[..., Store]) -> None:
    memory = Memory(store().s3, BUCKET)
    dead = memory.telling("a/b/c/dead", {}, 0.0)
    dead.__enter__()
    with memory.telling("a/b/c/dead", {"n": 1}, 5.0):
        pass
    with pytest.raises(Told), memory.telling("a/b/c/dead", {"n": 2}, 5.0):
        pass
    working = memory.telling("a/b/c/working", {}, 5.0)
    working.__enter__()
    with pytest.raises(Told), memory.telling("a/b/c/working", {}, 5.0):
        pass


def test_an_account_that_refuses_leaves_what_the_event_says(store: Callable[..., Store]) -> None:
    function = store(ROLE_NAME="NoSuchRole")
    node, command_id = function.send("good")
    function.call(status(node, command_id))
    (message,) = function.told()
    assert (message["status"], message["rc"], message["verified"]) == ("success", None, False) and "sts:AssumeRole" in message["problem"]
    function = store()
    function.lab.deny("ssm:GetCommandInvocation", principal=ROLE)
    node, command_id = function.send("good")
    function.call(status(node, command_id))
    (message,) = function.told()
    assert "GetCommandInvocation" in message["problem"]


_STEPS = {
    "schemaVersion": "2.2",
    "description": "two steps",
    "mainSteps": [{"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": ["true"]}} for name in ("first", "second")],
}


def two_steps(function: Store) -> str:
    """The name of a document of two steps."""
    ssm = function.lab.client("ssm")
    with contextlib.suppress(ssm.exceptions.DocumentAlreadyExists):
        ssm.create_document(Name="Two-Steps", DocumentType="Command", Content=json.dumps(_STEPS))
    return "Two-Steps"


def test_a_document_of_several_steps(store: Callable[..., Store]) -> None:
    function = store()
    node, command_id = function.send("good", DocumentName=two_steps(function), Parameters={})
    function.call(status(node, command_id))
    (message,) = function.told()
    assert [step["name"] for step in message["steps"]] == ["first", "second"]
    assert message["steps"][0]["stdout_uri"].endswith("/awsrunShellScript/first/stdout")


def test_outputs_are_moved_once_the_service_confirms_them(store: Callable[..., Store]) -> None:
    function = store(RELAY_BUCKET=RELAY)
    node, command_id = function.send("good")
    key, forged = function.put(node, command_id), function.put(node, command_id, "stderr").replace("0.awsrunShellScript", "other")
    function.s3.put_object(Bucket=BUCKET, Key=forged, Body=b"x")
    for name in (key, key, forged):
        function.call(written(name))
    (message,) = function.told()
    assert message["stdout_uri"] == f"https://s3.{function.lab.region}.amazonaws.com/{RELAY}/{key}"
    assert function.s3.get_object(Bucket=RELAY, Key=key)["Body"].read() == b"hello\n"
    with pytest.raises(ClientError, match="404"):
        function.s3.head_object(Bucket=BUCKET, Key=key)
    with pytest.raises(ClientError, match="404"):
        function.s3.head_object(Bucket=RELAY, Key=forged)
    assert function.s3.head_object(Bucket=BUCKET, Key=forged)


def test_a_topic_and_a_web_hook_are_told_too(store: Callable[..., Store], small: Lab, receiver: Any) -> None:
    topic = small.client("sns").create_topic(Name="told")["TopicArn"]
    small.client("ssm").put_parameter(Name="/fleet/secret", Type="SecureString", Value="s3cret")
    small.client("sqs").create_queue(QueueName="subscribed")
    small.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{small.region}:{small.account}:subscribed")
    function = store(TOPIC_ARN=topic, WEBHOOK_URL=receiver.url, WEBHOOK_SECRET_PARAMETER="/fleet/secret")
    node, command_id = function.send("good")
    receiver.refuse = True
    with pytest.raises(OSError):
        function.call(status(node, command_id))
    assert function.told() == []
    receiver.refuse = False
    function.call(status(node, command_id))
    (message,) = function.told()
    (body, signature) = receiver.posts[-1]
    assert json.loads(body) == message and signature == receiver.signature(b"s3cret", body)
    received = small.client("sqs").receive_message(QueueUrl=small.client("sqs").get_queue_url(QueueName="subscribed")["QueueUrl"])["Messages"]
    assert json.loads(json.loads(received[0]["Body"])["Message"])["command_id"] == command_id
