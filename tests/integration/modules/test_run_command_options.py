# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service offers with a command: resource groups, limits of errors, notifications, logs; and two jobs at once."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.modules.fleet import ECHO, HUB, OTHER, REGION, ids
from tests.integration.modules.local import ROLE, Local


@pytest.fixture
def local(on_fleet: Local) -> Local:
    return on_fleet


@pytest.mark.slow
def test_a_resource_group(local: Local) -> None:
    query = {"ResourceTypeFilters": ["AWS::AllSupported"], "TagFilters": [{"Key": "Role", "Values": ["app", "bad"]}]}
    groups = local.lab.client("resource-groups")
    groups.create_group(Name="fleet", ResourceQuery={"Type": "TAG_FILTERS_1_0", "Query": json.dumps(query)})
    options = {**ECHO, "region": REGION, "resource_group": "fleet"}
    would = local("run_command", "--check", **options)
    assert {node["instance_id"] for node in would["nodes"]} == set(ids(local.lab, "app")[:3] + ids(local.lab, "bad"))
    result = local("run_command", **options, resource_types=["AWS::SSM::ManagedInstance"], success="any")
    assert result["summary"]["by_status"] == {"failed": 2, "success": 3}
    assert "No node matches" in local.fail("run_command", **options, resource_types=["AWS::EC2::Instance"])["msg"]
    groups.delete_group(Group="fleet")
    assert "InvalidTarget: The resource group fleet does not exist" in local.fail("run_command", **options)["msg"]


def test_errors_stop_a_command_and_those_that_would_follow_it(local: Local) -> None:
    options = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "broken"), "max_concurrency": "10", "max_errors": "5"}
    result = local.fail("run_command", **options)
    counts = result["summary"]["by_status"]
    assert counts["failed"] + counts["terminated"] == 60 and 6 <= counts["failed"] <= 15
    assert len(result["commands"]) == 1
    unsent = [node for node in result["nodes"] if node["command_id"] is None]
    assert len(unsent) == 10 and "max_errors=5" in unsent[0]["msg"]


@pytest.mark.slow
def test_one_of_a_hundred_may_fail(local: Local) -> None:
    options = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "crowd")[:99] + ids(local.lab, "bad")[:1], "max_concurrency": "100%"}
    assert local("run_command", **options, max_error_ratio=0.01)["summary"] == {
        "total": 100, "succeeded": 99, "failed": 1, "error_ratio": 0.01, "by_status": {"failed": 1, "success": 99},
    }  # fmt: skip
    assert local.fail("run_command", **options, max_error_ratio=0.009)["msg"] == "The error ratio is 0.01, more than 0.009: of 100 nodes 1 failed."


@pytest.mark.slow
def test_notifications_come_by_sns(local: Local) -> None:
    sns, sqs, iam = (local.lab.client(service, region=REGION) for service in ("sns", "sqs", "iam"))
    topic = sns.create_topic(Name="commands")["TopicArn"]
    queue = sqs.create_queue(QueueName="commands")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{HUB}:commands", Attributes={"RawMessageDelivery": "true"})
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName="Notifier", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    notification = {"topic_arn": topic, "role_arn": role, "events": ["success", "failed"], "type": "invocation"}
    options = {**ECHO, "region": REGION, "tags": {"Role": ["app", "bad"]}}
    result = local("run_command", **options, notification=notification, success="any")
    told: dict[str, str] = {}
    while len(told) < 5:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5).get("Messages", [])
        assert messages, told
        bodies = [json.loads(message["Body"]) for message in messages]
        assert {body["commandId"] for body in bodies} == {result["commands"][0]["command_id"]}
        told.update({body["instanceId"]: body["status"] for body in bodies})
    assert Counter(told.values()) == {"Success": 3, "Failed": 2}
    wrong = {**notification, "role_arn": f"arn:aws:iam::{HUB}:role/Nobody"}
    assert "InvalidRole" in local.fail("run_command", **options, notification=wrong)["msg"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "group"), [({"cloudwatch_output": True}, "/aws/ssm/AWS-RunShellScript"), ({"cloudwatch_log_group": "/fleet/outputs"}, "/fleet/outputs")]
)
def test_outputs_go_to_cloudwatch_logs(local: Local, options: dict[str, Any], group: str) -> None:
    result = local("run_command", **ECHO, region=REGION, tags={"Role": "app"}, **options)
    command = result["commands"][0]["command_id"]
    logs = local.lab.client("logs", region=REGION)
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=command)["logStreams"]
    assert {stream["logStreamName"] for stream in streams} == {f"{command}/{node}/aws-runShellScript/stdout" for node in ids(local.lab, "app")[:3]}
    (event,) = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
    assert event["message"].startswith("I am app-")


def test_two_jobs_at_once_have_their_own_results(local: Local) -> None:
    def job(number: int) -> dict[str, Any]:
        return local("run_command", **ECHO, region=REGION, instance_ids=ids(local.lab, "crowd"), max_concurrency="100%", run_id=f"both-{number}")

    with ThreadPoolExecutor(2) as executor:
        one, two = executor.map(job, (1, 2))
    sent = [{command["command_id"] for command in result["commands"]} for result in (one, two)]
    assert [len(of_job) for of_job in sent] == [3, 3] and not sent[0] & sent[1]
    for result, own in zip((one, two), sent, strict=True):
        assert result["summary"]["by_status"] == {"success": 120} and {node["command_id"] for node in result["nodes"]} == own


@pytest.mark.slow
def test_credentials_that_expire_in_mid_run_are_renewed(local: Local) -> None:
    options = {**ECHO, "regions": [REGION], "accounts": [{"role_arn": ROLE}], "tags": {"Role": "steady"}, "max_concurrency": "1"}
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(local, "run_command", **options)
        while not local.lab.requests().counts.get("ssm:SendCommand"):
            local.pause_while(running)
        assert local.lab.expire_credentials(role="FleetOperator") >= 1
        result = running.result()
    assert result["summary"]["by_status"] == {"success": 3} and {node["account_id"] for node in result["nodes"]} == {OTHER}
    assert local.lab.requests().counts["sts:AssumeRole"] == 2


@pytest.mark.slow
def test_credentials_that_cannot_be_renewed_leave_results_unknown(local: Local) -> None:
    keys = local.lab.client("sts").assume_role(RoleArn=f"arn:aws:iam::{OTHER}:role/FleetOperator", RoleSessionName="fixed")["Credentials"]
    options = {**ECHO, "region": REGION, "instance_ids": ids(local.lab, "steady"), "max_concurrency": "1"}
    fixed = {"access_key": keys["AccessKeyId"], "secret_key": keys["SecretAccessKey"], "session_token": keys["SessionToken"]}
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(local.fail, "run_command", **options, **fixed)
        while not local.lab.requests().counts.get("ssm:SendCommand"):
            local.pause_while(running)
        local.lab.expire_credentials(access_key=keys["AccessKeyId"])
        result = running.result()
    assert result["summary"]["by_status"] == {"unknown": 3}
    assert "the credentials have expired. Renew them" in result["msg"] and f"'run_id: {result['run_id']}' takes it over" in result["nodes"][0]["msg"]
    assert result["nodes"][0]["command_id"] == result["commands"][0]["command_id"]
