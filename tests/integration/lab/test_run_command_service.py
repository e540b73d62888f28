# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command as a caller sees it, on simulated nodes: what is refused, who is meant, counters, pages, events, functions."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.lab import Lab, NodeDefinition
from tests.lab.model import NodeKind

SHELL = "AWS-RunShellScript"
ECHO = {"commands": ["echo"]}


def _simulated(name: str, **values: Any) -> NodeDefinition:
    return NodeDefinition(name=name, kind=NodeKind.SIMULATED, hybrid=True, **values)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    nodes = [
        *(_simulated(f"good-{number}", tags={"Role": "web"}, options={"stdout": "{name}\n"}) for number in range(6)),
        *(_simulated(f"bad-{number}", tags={"Role": "bad"}, options={"failing": 1, "code": 7}) for number in range(6)),
        _simulated("silent", tags={"Role": "silent"}, options={"silent": 1}),
        _simulated("windows", tags={"Role": "windows"}, platform_type="Windows"),
        NodeDefinition(name="instance", kind=NodeKind.SIMULATED, tags={"Role": "ec2"}),
        NodeDefinition(name="stopped", kind=NodeKind.SIMULATED, tags={"Role": "ec2"}, state="stopped", registered=True),
    ]
    with Lab(nodes, settings={"delivery_second": 0.01, "invocation_delay": 0.0}) as running:
        yield running


@pytest.fixture
def ssm(lab: Lab) -> Any:
    return lab.client("ssm")


def _send(ssm: Any, **values: Any) -> str:
    sent = ssm.send_command(**{"DocumentName": SHELL, "Parameters": ECHO, **values})
    return str(sent["Command"]["CommandId"])


def _tagged(role: str) -> list[dict[str, Any]]:
    return [{"Key": "tag:Role", "Values": [role]}]


def _eventually(look: Callable[[], Any], seconds: float = 10.0) -> Any:
    ends = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)
    return found


def _finished(ssm: Any, command_id: str) -> dict[str, Any]:
    def look() -> Any:
        (command,) = ssm.list_commands(CommandId=command_id)["Commands"]
        return command if command["CompletedCount"] == command["TargetCount"] else None

    found: dict[str, Any] = _eventually(look)
    return found


def _details(ssm: Any, command_id: str) -> list[str]:
    return [each["StatusDetails"] for each in ssm.list_command_invocations(CommandId=command_id)["CommandInvocations"]]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"DocumentName": "Nobody-HasThis"}, "InvalidDocument"),
        ({"DocumentName": "AWS-StartInteractiveCommand"}, "InvalidDocument"),
        ({"DocumentVersion": "9"}, "InvalidDocumentVersion"),
        ({"DocumentHash": "0" * 64}, "InvalidDocument"),
        ({"Parameters": {}}, "InvalidParameters"),
        ({"Parameters": {**ECHO, "nonsense": ["1"]}}, "InvalidParameters"),
        ({"Parameters": {**ECHO, "executionTimeout": ["soon"]}}, "InvalidParameters"),
        ({"Parameters": {"commands": ["x" * 70_000]}}, "MaxDocumentSizeExceeded"),
        ({"OutputS3BucketName": "nobody-has-this"}, "InvalidOutputFolder"),
        ({"NotificationConfig": {"NotificationArn": "arn:aws:sns:x:1:t"}}, "InvalidRole"),
        ({"InstanceIds": []}, "ValidationException"),
    ],
)
def test_a_command_that_is_refused(lab: Lab, ssm: Any, values: dict[str, Any], code: str) -> None:
    node = lab.node("good-1").node_id
    with pytest.raises(ClientError, match=code):
        _send(ssm, **{"InstanceIds": [node], **values})


def test_one_bad_id_refuses_all(lab: Lab, ssm: Any) -> None:
    good, stopped, windows = (lab.node(name).node_id for name in ("good-1", "stopped", "windows"))
    with pytest.raises(ssm.exceptions.InvalidInstanceId, match="mi-0123456789abcdef0"):
        _send(ssm, InstanceIds=[good, "mi-0123456789abcdef0"])
    with pytest.raises(ssm.exceptions.InvalidInstanceId, match=stopped):
        _send(ssm, InstanceIds=[good, stopped])
    with pytest.raises(ssm.exceptions.DuplicateInstanceId):
        _send(ssm, InstanceIds=[good, good])
    with pytest.raises(ssm.exceptions.UnsupportedPlatformType):
        _send(ssm, InstanceIds=[good, windows])
    assert not ssm.list_commands(InstanceId=good)["Commands"]


def test_results_and_counters(lab: Lab, ssm: Any) -> None:
    good, bad = lab.node("good-1").node_id, lab.node("bad-1").node_id
    command = _finished(ssm, _send(ssm, InstanceIds=[good, bad], Comment="nonce"))
    assert (command["Status"], command["TargetCount"], command["ErrorCount"], command["Comment"]) == ("Failed", 2, 1, "nonce")
    found = ssm.get_command_invocation(CommandId=command["CommandId"], InstanceId=good)
    assert (found["Status"], found["ResponseCode"], found["StandardOutputContent"]) == ("Success", 0, "good-1\n")
    found = ssm.get_command_invocation(CommandId=command["CommandId"], InstanceId=bad)
    assert (found["Status"], found["ResponseCode"]) == ("Failed", 7)
    with pytest.raises(ssm.exceptions.InvocationDoesNotExist):
        ssm.get_command_invocation(CommandId=command["CommandId"], InstanceId=lab.node("good-2").node_id)


def test_an_invocation_is_not_seen_at_once(lab: Lab, ssm: Any) -> None:
    node = lab.node("good-1").node_id
    lab.settings(invocation_delay=0.3)
    command_id = _send(ssm, InstanceIds=[node])
    with pytest.raises(ssm.exceptions.InvocationDoesNotExist):
        ssm.get_command_invocation(CommandId=command_id, InstanceId=node)
    _eventually(lambda: _details(ssm, command_id) == ["Success"])
    lab.settings(invocation_delay=0.0)


def test_targets(lab: Lab, ssm: Any) -> None:
    groups = lab.client("resource-groups")
    query = {"ResourceTypeFilters": ["AWS::AllSupported"], "TagFilters": [{"Key": "Role", "Values": ["web", "ec2"]}]}
    groups.create_group(Name="mine", ResourceQuery={"Type": "TAG_FILTERS_1_0", "Query": json.dumps(query)})
    in_group = {"Key": "resource-groups:Name", "Values": ["mine"]}
    only_ec2 = {"Key": "resource-groups:ResourceTypeFilters", "Values": ["AWS::EC2::Instance"]}
    counts = [
        _finished(ssm, _send(ssm, Targets=targets, MaxErrors="100%"))["TargetCount"]
        for targets in (
            _tagged("web"),
            [{"Key": "tag-key", "Values": ["Role"]}, {"Key": "tag:Role", "Values": ["web", "bad"]}],
            [{"Key": "InstanceIds", "Values": [lab.node("good-1").node_id, lab.node("bad-1").node_id]}],
            [in_group],
            [in_group, only_ec2],
        )
    ]
    assert counts == [6, 12, 2, 8, 2]


def test_targets_that_are_nobody_or_cannot(lab: Lab, ssm: Any) -> None:
    assert _finished(ssm, _send(ssm, Targets=_tagged("nobody")))["StatusDetails"] == "NoInstancesInTag"
    windows = _finished(ssm, _send(ssm, Targets=_tagged("windows")))
    assert (windows["Status"], windows["StatusDetails"]) == ("Failed", "InvalidPlatform")
    ec2 = _finished(ssm, _send(ssm, Targets=_tagged("ec2")))
    assert ec2["Status"] == "Success" and sorted(_details(ssm, ec2["CommandId"])) == ["Success", "Undeliverable"]
    lab.deny("ssm:SendCommand", resource=f"*{lab.node('good-1').node_id}")
    some = _finished(ssm, _send(ssm, Targets=_tagged("web")))
    assert _details(ssm, some["CommandId"]).count("AccessDenied") == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        _send(ssm, InstanceIds=[lab.node("good-1").node_id])
    lab.clear_permissions()


def test_errors_end_the_sending(ssm: Any) -> None:
    command = _finished(ssm, _send(ssm, Targets=_tagged("bad"), MaxConcurrency="1", MaxErrors="1"))
    assert sorted(_details(ssm, command["CommandId"])) == ["Failed"] * 2 + ["Terminated"] * 4
    assert (command["StatusDetails"], command["ErrorCount"]) == ("Failed", 2)
    command = _finished(ssm, _send(ssm, Targets=_tagged("bad"), MaxConcurrency="1", MaxErrors="100%"))
    assert (command["StatusDetails"], command["ErrorCount"]) == ("Incomplete", 6)


def test_a_command_nobody_answers_is_cancelled_or_expires(lab: Lab, ssm: Any) -> None:
    command_id = _send(ssm, Targets=_tagged("silent"), TimeoutSeconds=30, Parameters={**ECHO, "executionTimeout": ["5"]})
    assert _details(ssm, command_id) == ["Pending"]
    assert _finished(ssm, command_id)["StatusDetails"] == "DeliveryTimedOut"
    command_id = _send(ssm, Targets=_tagged("silent"))
    ssm.cancel_command(CommandId=command_id)
    assert _finished(ssm, command_id)["StatusDetails"] == "Cancelled"
    with pytest.raises(ssm.exceptions.InvalidCommandId):
        ssm.cancel_command(CommandId=command_id[::-1])


def test_pages_and_filters(lab: Lab, ssm: Any) -> None:
    command_ids = [_send(ssm, Targets=_tagged("web"), Comment=f"page {number}") for number in range(3)]
    for command_id in command_ids:
        _finished(ssm, command_id)
    pages = ssm.get_paginator("list_command_invocations").paginate(PaginationConfig={"PageSize": 4})
    seen = [(each["CommandId"], each["InstanceId"]) for page in pages for each in page["CommandInvocations"]]
    assert [command_id for command_id, _node in seen[:18]] == [each for each in reversed(command_ids) for _turn in range(6)]
    assert len(seen) == len(set(seen))
    first = ssm.list_commands(MaxResults=1)
    newer = _send(ssm, Targets=_tagged("web"))
    second = ssm.list_commands(MaxResults=1, NextToken=first["NextToken"])
    assert [first["Commands"][0]["CommandId"], second["Commands"][0]["CommandId"]] == [command_ids[2], command_ids[1]]
    found = ssm.list_commands(Filters=[{"key": "InvokedAfter", "value": "2999-01-01T00:00:00Z"}])
    assert not found["Commands"]
    _finished(ssm, newer)
    executing = [{"key": "ExecutionStage", "value": "Executing"}, {"key": "DocumentName", "value": SHELL}]
    assert newer not in [each["CommandId"] for each in ssm.list_commands(Filters=executing)["Commands"]]
    with pytest.raises(ssm.exceptions.InvalidNextToken):
        ssm.list_commands(NextToken="nonsense")


def test_a_document_with_typed_parameters_and_steps(lab: Lab, ssm: Any) -> None:
    step = {"action": "aws:runShellScript", "inputs": {"runCommand": ["echo {{ what }}"]}}
    content = {
        "schemaVersion": "2.2",
        "parameters": {
            "what": {"type": "String", "allowedValues": ["a", "b"], "default": "a"},
            "many": {"type": "Integer", "default": 1},
        },
        "mainSteps": [{**step, "name": "first"}, {**step, "name": "second"}],
    }
    ssm.create_document(Name="Mine", Content=json.dumps(content), DocumentType="Command")
    node = lab.node("good-1").node_id
    for parameters in ({"what": ["c"]}, {"many": ["few"]}):
        with pytest.raises(ssm.exceptions.InvalidParameters):
            _send(ssm, DocumentName="Mine", InstanceIds=[node], Parameters=parameters)
    command_id = _send(ssm, DocumentName="Mine", InstanceIds=[node], Parameters={"what": ["b"], "many": ["3"]})
    _finished(ssm, command_id)
    with pytest.raises(ssm.exceptions.InvalidPluginName):
        ssm.get_command_invocation(CommandId=command_id, InstanceId=node)
    found = ssm.get_command_invocation(CommandId=command_id, InstanceId=node, PluginName="first")
    assert found["Status"] == "Success"
    ssm.delete_document(Name="Mine")


def test_a_document_shared_with_another_account(lab: Lab, ssm: Any) -> None:
    other = lab.client("ssm", account=lab.accounts[1])
    content = {"schemaVersion": "2.2", "mainSteps": [{"action": "aws:runShellScript", "name": "a", "inputs": {}}]}
    ssm.create_document(Name="Shared", Content=json.dumps(content), DocumentType="Command")
    arn = f"arn:aws:ssm:{lab.region}:{lab.account}:document/Shared"
    with pytest.raises(other.exceptions.ClientError):
        other.get_document(Name=arn)
    ssm.modify_document_permission(Name="Shared", PermissionType="Share", AccountIdsToAdd=[lab.accounts[1]])
    assert ssm.describe_document_permission(Name="Shared", PermissionType="Share")["AccountIds"] == [lab.accounts[1]]
    assert json.loads(other.get_document(Name=arn)["Content"]) == content
    with pytest.raises(ssm.exceptions.InvalidDocumentOperation):
        ssm.delete_document(Name="Shared")
    ssm.modify_document_permission(Name="Shared", PermissionType="Share", AccountIdsToRemove=[lab.accounts[1]])
    ssm.delete_document(Name="Shared")


def test_an_answer_lost_after_acceptance(lab: Lab, ssm: Any) -> None:
    node = lab.node("good-1").node_id
    with lab.lose_replies("ssm:SendCommand", count=1), pytest.raises(ConnectionClosedError):
        _send(ssm, InstanceIds=[node], Comment="once")
    assert len([each for each in ssm.list_commands()["Commands"] if each["Comment"] == "once"]) == 1


def test_a_bucket_of_tokens_for_each_account_and_region(lab: Lab, ssm: Any) -> None:
    other = lab.client("ssm", account=lab.accounts[1])
    with lab.throttle("ssm:ListCommands", rate=0.01, burst=2):
        for client in (ssm, ssm, other, other):
            client.list_commands()
        for client in (ssm, other):
            with pytest.raises(ClientError, match="ThrottlingException"):
                client.list_commands()


@pytest.fixture
def queue(lab: Lab) -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """A queue of another account, to which both kinds of events come by way of its bus."""
    hub, here = lab.accounts[1], lab.client("events")
    sqs, bus = lab.client("sqs", account=hub), lab.client("events", account=hub)
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    pattern = json.dumps({"source": ["aws.ssm"]})
    targets = {here: f"arn:aws:events:{lab.region}:{hub}:event-bus/default", bus: f"arn:aws:sqs:{lab.region}:{hub}:events"}
    for client, arn in targets.items():
        client.put_rule(Name="status", EventPattern=pattern)
        client.put_targets(Rule="status", Targets=[{"Id": "1", "Arn": arn}])
    seen: list[dict[str, Any]] = []

    def read(count: int) -> list[dict[str, Any]]:
        def look() -> bool:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                seen.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return len(seen) >= count

        _eventually(look)
        return seen

    yield read
    for client in targets:
        client.remove_targets(Rule="status", Ids=["1"])
        client.delete_rule(Name="status")
    sqs.delete_queue(QueueUrl=url)


def test_events_reach_the_central_account(lab: Lab, ssm: Any, queue: Callable[[int], list[dict[str, Any]]]) -> None:
    node = lab.node("good-1").node_id
    command_id = _send(ssm, InstanceIds=[node])
    events = queue(4)
    told = [(event["detail"].get("instance-id"), event["detail"]["status"]) for event in events]
    assert told == [(node, "InProgress"), (None, "InProgress"), (node, "Success"), (None, "Success")]
    assert {(event["account"], event["region"], event["detail"]["command-id"]) for event in events} == {
        (lab.account, lab.region, command_id)
    }
    assert events[2]["detail-type"] == "EC2 Command Invocation Status-change Notification"


def test_events_lost_and_late(lab: Lab, ssm: Any, queue: Callable[[int], list[dict[str, Any]]]) -> None:
    node = lab.node("good-1").node_id
    with lab.fault_events(loss=1.0, count=3):
        _finished(ssm, _send(ssm, InstanceIds=[node]))
        assert [event["detail"]["status"] for event in queue(1)] == ["Success"]
    with lab.fault_events(delay=0.4):
        begun = time.monotonic()
        _finished(ssm, _send(ssm, InstanceIds=[node]))
        queue(5)
        assert time.monotonic() - begun > 0.4


def test_notifications(lab: Lab, ssm: Any) -> None:
    sns, sqs = lab.client("sns"), lab.client("sqs")
    topic, url = sns.create_topic(Name="told")["TopicArn"], sqs.create_queue(QueueName="told")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{lab.region}:{lab.account}:told")
    config = {"NotificationArn": topic, "NotificationEvents": ["Success"], "NotificationType": "Invocation"}
    role = f"arn:aws:iam::{lab.account}:role/FleetNode"
    node = lab.node("good-1").node_id
    _send(ssm, InstanceIds=[node], NotificationConfig=config, ServiceRoleArn=role)
    (message,) = _eventually(lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    told = json.loads(json.loads(message["Body"])["Message"])
    assert (told["instanceId"], told["status"]) == (node, "Success")


_HANDLER = """
import boto3

def handler(event, context):
    print("got", event.get("detail-type") or event["Records"][0]["eventName"])
    who = boto3.client("sts").get_caller_identity()["Arn"]
    key = event["Records"][0]["s3"]["object"]["key"] if "Records" in event else "event"
    boto3.client("s3").put_object(Bucket="results", Key=key, Body=who.encode())
    return {"who": who}
"""


def test_functions_run(lab: Lab, ssm: Any) -> None:
    """When an object comes, when a rule matches, and when they are invoked."""
    functions, s3, events = lab.client("lambda"), lab.client("s3"), lab.client("events")
    for bucket in ("incoming", "results"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": lab.region})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as code:
        code.writestr("main.py", _HANDLER)
    arn = functions.create_function(
        FunctionName="note", Runtime="python3.13", Handler="main.handler", Timeout=20,
        Role=f"arn:aws:iam::{lab.account}:role/FleetNode", Code={"ZipFile": packed.getvalue()},
    )["FunctionArn"]  # fmt: skip
    s3.put_bucket_notification_configuration(
        Bucket="incoming",
        NotificationConfiguration={"LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    s3.put_object(Bucket="incoming", Key="a/stdout", Body=b"x")

    def keys() -> set[str]:
        return {each["Key"] for each in s3.list_objects_v2(Bucket="results").get("Contents", [])}

    _eventually(lambda: "a/stdout" in keys() or "a%2Fstdout" in keys(), 20)
    events.put_rule(Name="ended", EventPattern=json.dumps({"source": ["aws.ssm"], "detail": {"status": ["Success"]}}))
    events.put_targets(Rule="ended", Targets=[{"Id": "1", "Arn": arn}])
    _send(ssm, InstanceIds=[lab.node("good-1").node_id])
    _eventually(lambda: "event" in keys(), 20)
    events.remove_targets(Rule="ended", Ids=["1"])
    events.delete_rule(Name="ended")
    answer = functions.invoke(FunctionName="note", Payload=json.dumps({"detail-type": "by hand"}))
    assert json.loads(answer["Payload"].read())["who"].endswith("assumed-role/FleetNode/function")
    answer = functions.invoke(FunctionName="note", Payload=json.dumps({}))
    assert answer["FunctionError"] == "Unhandled" and "KeyError" in json.loads(answer["Payload"].read())["errorType"]
    logs = lab.client("logs").filter_log_events(logGroupName="/aws/lambda/note")["events"]
    assert any("got by hand" in each["message"] for each in logs)
