# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role by ansible-playbook, and with the variables that most do not need: organization, relay, FIFO queue, topic, web hook, tags."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.output_store.conftest import Receiver
from tests.integration.output_store.deployment import BUCKET, HOME, NAME, OTHER, Deployment, actions_of
from tests.integration.waiting import eventually
from tests.lab.bucket_policy import ORGANIZATION

pytestmark = pytest.mark.slow

RELAY = "restricted-outputs"
QUEUE = f"{NAME}-completions.fifo"


def test_the_role_in_check_mode_for_the_first_time_again_and_away(deployment: Deployment) -> None:
    planned = actions_of(deployment.role("--check", "--diff"))
    assert {action.partition(" ")[0] for action in planned} == {"create"}
    assert actions_of(deployment.role()) == planned
    assert deployment.role().check().stats["localhost"]["changed"] == 0
    assert {action.partition(" ")[0] for action in actions_of(deployment.role(output_store_state="absent"))} == {"remove"}
    assert deployment.role(output_store_state="absent").check().stats["localhost"]["changed"] == 0


def test_a_playbook_starts_a_command_and_hears_of_its_end(deployment: Deployment) -> None:
    deployment.apply()
    _node, other = deployment.run("win-1", "Get-HotFix")  # whose message is not for this playbook
    run = deployment.playbook("run_with_call_back.yml", run_commands=["echo hello"]).check()
    ended = run.result("Hear of its end on each node")
    nodes = {deployment.lab.node(name).node_id for name in ("web-1", "web-2")}
    assert ended["missing"] == 0 and {entry["instance_id"] for entry in ended["completions"]} == nodes
    assert all(entry["rc"] == 0 and entry["stdout_uri"].endswith("/stdout") for entry in ended["completions"])
    assert [message["command_id"] for message in deployment.messages(20)] == [other]
    deployment.apply(output_store_state="absent", output_store_purge=True)


def test_outputs_that_belong_to_others_are_moved_and_told_of_everywhere(deployment: Deployment, receiver: Receiver) -> None:
    lab = deployment.lab
    s3, sns, sqs = lab.client("s3", region=HOME), lab.client("sns", region=HOME), lab.client("sqs", region=HOME)
    topic = sns.create_topic(Name="told")["TopicArn"]
    subscribed = sqs.create_queue(QueueName="subscribed")["QueueUrl"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{HOME}:{lab.account}:subscribed")
    lab.client("ssm", region=HOME).put_parameter(Name="/fleet/secret", Type="SecureString", Value="s3cret")
    variables: dict[str, Any] = {
        "output_store_account_ids": [], "output_store_organization_id": ORGANIZATION,
        "output_store_object_ownership": "ObjectWriter", "output_store_relay": True, "output_store_relay_bucket": RELAY,
        "output_store_queue_name": QUEUE, "output_store_topic_arn": topic,
        "output_store_webhook_url": receiver.url, "output_store_webhook_secret_parameter": "/fleet/secret", "output_store_tags": {"Team": "fleet"},
    }  # fmt: skip
    deployment.role(**variables).check()
    assert deployment.role(**variables).check().stats["localhost"]["changed"] == 0
    assert s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "ObjectWriter"}]
    assert s3.get_bucket_ownership_controls(Bucket=RELAY)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    for account, key in ((OTHER, f"{OTHER}/x"), (lab.account, "x")):  # neither nodes nor administrators put anything where readers read
        with pytest.raises(ClientError, match="AccessDenied"):
            lab.client("s3", account=account, region=HOME).put_object(Bucket=RELAY, Key=key, Body=b"x")

    node, command_id = deployment.run("web-2", "echo moved; echo too >&2; exit 4")
    (message,) = deployment.messages(30, queue=QUEUE)
    key = f"{OTHER}/{node.region}/{command_id}/{node.node_id}/awsrunShellScript/0.awsrunShellScript"
    assert (message["command_id"], message["rc"], message["verified"]) == (command_id, 4, True)
    assert message["stdout_uri"] == f"https://s3.{HOME}.amazonaws.com/{RELAY}/{key}/stdout"
    eventually(lambda: set(deployment.objects(RELAY)) == {f"{key}/stdout", f"{key}/stderr"})
    assert s3.get_object(Bucket=RELAY, Key=f"{key}/stdout")["Body"].read() == b"moved\n"
    eventually(lambda: not [name for name in deployment.objects() if not name.startswith(".completed/")])
    (body, signature), *more = receiver.posts
    assert json.loads(body) == message and signature == receiver.signature(b"s3cret", body) and not more
    (published,) = sqs.receive_message(QueueUrl=subscribed)["Messages"]
    assert json.loads(json.loads(published["Body"])["Message"]) == message
    receiver.refuse = True  # nobody has heard of it, so everybody is told again
    _node, later = deployment.run("web-2", "true")
    eventually(lambda: len(receiver.posts) > 1)
    receiver.refuse = False
    assert [message["command_id"] for message in deployment.messages(20, queue=QUEUE)] == [later]

    foreign = {**variables, "output_store_organization_id": "o-another000"}
    changed = [action.split()[:2] for action in actions_of(deployment.role(**foreign)) if not action.startswith("none")]
    assert changed == [["change", "bucket"], ["change", "event_bus"]]
    with pytest.raises(ClientError, match="AccessDenied"):
        lab.client("s3", account=OTHER, region=HOME).put_object(Bucket=BUCKET, Key=f"{OTHER}/x", Body=b"x")
    gone = actions_of(deployment.role(**variables, output_store_state="absent", output_store_purge=True))
    assert {action.partition(" ")[0] for action in gone} == {"remove"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"output_store_account_ids": []}, "Set one of output_store_organization_id and output_store_account_ids"),
        ({"output_store_relay": True}, "Set output_store_relay_bucket"),
        ({"output_store_object_ownership": "ObjectWriter"}, "Set output_store_relay, or leave BucketOwnerEnforced"),
        ({"output_store_queue": False}, "Nobody would be told"),
    ],
)
def test_variables_that_do_not_go_together_are_refused(deployment: Deployment, variables: dict[str, Any], said: str) -> None:
    run = deployment.role(**variables)
    assert run.returncode != 0 and said in json.dumps(run.report)
