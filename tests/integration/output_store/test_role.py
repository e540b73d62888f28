# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role, in two accounts and two regions with nodes that really run commands: from nothing to messages and back to nothing.

The tests of this file go on from one another, in their order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.controller import REPOSITORY, Controller, Run
from tests.integration.test_policies import policy, without
from tests.lab import Lab

HUB, OTHER = "111111111111", "222222222222"
HOME = "eu-central-1"
BUCKET, NAME = "company-outputs", "fleet-ssm-outputs"
PLAYBOOKS = REPOSITORY / "playbooks"
"""Its examples are what is tested: their variables name the lab's accounts and regions."""


@pytest.fixture(scope="module")
def company() -> Iterator[Lab]:
    scripts = [{"pattern": "Get-HotFix", "stdout": "KB5031364\r\n"}, {"pattern": ".", "stderr": "not known\r\n", "rc": 1}]
    nodes: list[dict[str, Any]] = [
        {"name": "web-1", "account": HUB, "region": HOME, "tags": {"Role": "web"}},
        {"name": "web-2", "account": OTHER, "region": "us-east-1", "tags": {"Role": "web"}},
        {"name": "win-1", "account": OTHER, "region": HOME, "kind": "windows", "options": {"scripts": scripts}},
    ]
    with Lab(nodes) as lab:
        yield lab


class Store:
    """The role, and what comes of it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._controller = Controller(folder, lab.env())
        self._controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})
        self._queue = ""

    def role(self, *arguments: str, **variables: Any) -> Run:
        return self.playbook("output_store.yml", *arguments, output_store_settle_seconds=1, **variables)

    def playbook(self, name: str, *arguments: str, **variables: Any) -> Run:
        words = ["-i", str(self._controller.inventory), str(PLAYBOOKS / name), "--extra-vars", json.dumps(variables), *arguments]
        return Run.of(self._controller.start("ansible-playbook", *words))

    def actions(self, run: Run) -> list[str]:
        """What was done, or would be, to each resource in each place."""
        results = [result for _task, _host, result in run.check().tasks() if "resources" in result]
        assert len(results) == 2
        return [f"{each['action']} {each['kind']} {each['name']} {each['account_id']}" for result in results for each in result["resources"]]

    def run(self, name: str, script: str, bucket: str = BUCKET) -> tuple[Any, str]:
        """A command on a node, as an operator sends it."""
        node = self.lab.node(name)
        document = "AWS-RunPowerShellScript" if node.kind == "windows" else "AWS-RunShellScript"
        sent = self.lab.client("ssm", account=node.account, region=node.region).send_command(
            InstanceIds=[node.node_id], DocumentName=document, Parameters={"commands": [script]},
            OutputS3BucketName=bucket, OutputS3KeyPrefix=f"{node.account}/{node.region}", OutputS3Region=HOME,
        )  # fmt: skip
        return node, sent["Command"]["CommandId"]

    def messages(self, seconds: float = 0.0, count: int = 1, queue: str = f"{NAME}-completions") -> list[dict[str, Any]]:
        """So many messages, or what came within the time; and whatever else is there then."""
        sqs = self.lab.client("sqs", region=HOME)
        url, found, deadline = sqs.get_queue_url(QueueName=queue)["QueueUrl"], [], time.monotonic() + seconds
        while True:
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if not messages and (len(found) >= count or time.monotonic() >= deadline):
                return found
            time.sleep(0.05)

    def log(self) -> list[dict[str, Any]]:
        """What the function wrote."""
        logs = self.lab.client("logs", region=HOME)
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{NAME}")["events"]
        lines = [line for event in events for line in event["message"].splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"outcome"')]

    def objects(self, bucket: str = BUCKET) -> list[str]:
        return [entry["Key"] for entry in self.lab.client("s3", region=HOME).list_objects_v2(Bucket=bucket).get("Contents", [])]


@pytest.fixture(scope="module")
def store(company: Lab, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(company, tmp_path_factory.mktemp("controller"))


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def test_check_mode_says_what_would_be_made_and_makes_nothing_and_a_second_run_changes_nothing(store: Store) -> None:
    store.lab.reset_requests()
    run = store.role("--check", "--diff")
    actions = store.actions(run)
    assert {action.partition(" ")[0] for action in actions} == {"create"}
    assert sum("event_rule" in action for action in actions) == 5 and sum(f"role {NAME}-look" in action for action in actions) == 2
    reads = ("Get", "Head", "List", "Describe", "AssumeRole", "GET ", "HEAD ")
    assert [action for action in store.lab.requests().counts if not action.partition(":")[2].startswith(reads)] == []
    shown = [difference["after_header"] for _task, _host, result in run.tasks() for difference in result.get("diff", [])]
    assert len(shown) == len(actions)
    assert store.actions(store.role()) == actions
    again = store.role()
    assert {action.partition(" ")[0] for action in store.actions(again)} == {"none"} and again.stats["localhost"]["changed"] == 0


def test_the_bucket_is_private_encrypted_and_forgets(store: Store) -> None:
    s3 = store.lab.client("s3", region=HOME)
    assert s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    rule = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    policy = {each["Sid"]: each for each in json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]}
    assert policy["OverTlsAlone"]["Effect"] == "Deny" and policy["OverTlsAlone"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert policy["NodesWriteBelowTheirAccount"]["Resource"] == f"arn:aws:s3:::{BUCKET}/${{aws:PrincipalAccount}}/*"
    assert policy["NodesWriteBelowTheirAccount"]["Action"] == ["s3:PutObject", "s3:PutObjectAcl"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules} == {"": 30, ".completed/": 14}


def test_an_account_writes_below_its_own_prefix_and_reads_nothing(store: Store) -> None:
    s3 = store.lab.client("s3", account=OTHER, region=HOME)
    s3.put_object(Bucket=BUCKET, Key=f"{OTHER}/note", Body=b"x")
    for key in (f"{HUB}/note", ".completed/note", "note"):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    for refused in (lambda: s3.get_object(Bucket=BUCKET, Key=f"{OTHER}/note"), lambda: s3.list_objects_v2(Bucket=BUCKET)):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    own = store.lab.client("s3", region=HOME)
    with pytest.raises(ClientError, match="AccessDenied"):  # whoever may do everything in the store's account, as its nodes perhaps may
        own.put_object(Bucket=BUCKET, Key=f".completed/{HUB}/note", Body=b"x")


def test_each_node_is_told_of_once_with_where_its_outputs_are(store: Store) -> None:
    sent = {
        store.run("web-1", "echo out; echo err >&2"): (0, True, True),
        store.run("web-2", "exit 3"): (3, False, True),
        store.run("win-1", "Get-HotFix"): (0, True, False),
        store.run("web-1", "true"): (0, False, False),
    }
    messages = store.messages(30, len(sent))
    eventually(lambda: len([line for line in store.log() if line["outcome"] == "told before"]) >= 3)
    messages += store.messages()
    assert len(messages) == len(sent)
    for (node, command_id), (rc, out, err) in sent.items():
        (message,) = (message for message in messages if message["command_id"] == command_id)
        assert (message["instance_id"], message["account_id"], message["region"]) == (node.node_id, node.account, node.region)
        assert (message["rc"], message["status"], message["verified"]) == (rc, "failed" if rc else "success", True)
        plugin = "awsrunPowerShellScript" if node.kind == "windows" else "awsrunShellScript"
        where = f"{node.account}/{node.region}/{command_id}/{node.node_id}/{plugin}/0.{plugin}"
        for stream, expected in (("stdout", out), ("stderr", err)):
            uri = f"https://s3.{HOME}.amazonaws.com/{BUCKET}/{where}/{stream}" if expected else None
            assert message[f"{stream}_uri"] == uri and (f"{where}/{stream}" in store.objects()) is expected


def test_a_playbook_starts_a_command_and_hears_of_its_end(store: Store) -> None:
    _node, other = store.run("win-1", "Get-HotFix")  # whose message is not for this playbook
    run = store.playbook("run_with_call_back.yml", run_commands=["echo hello"]).check()
    ended = run.result("Hear of its end on each node")
    assert ended["missing"] == 0 and {entry["instance_id"] for entry in ended["completions"]} == {store.lab.node(name).node_id for name in ("web-1", "web-2")}
    assert all(entry["rc"] == 0 and entry["stdout_uri"].endswith("/stdout") for entry in ended["completions"])
    assert [message["command_id"] for message in store.messages(20)] == [other]


def test_nodes_write_with_the_nodes_policies_and_not_without(store: Store) -> None:
    node = store.lab.node("web-1")
    try:
        for less in ("", "s3:PutObject", "s3:PutObjectAcl"):
            store.lab.clear_permissions()
            for name in ("node", "output-store-node"):
                store.lab.policy(without(policy(name), less), principal=f"*/FleetNode/{node.node_id}")
            _node, command_id = store.run("web-1", "echo hello")
            (message,) = store.messages(20)
            assert (message["command_id"], message["rc"]) == (command_id, 0)
            assert any(command_id in key and key.endswith("/stdout") for key in store.objects()) is (not less)
    finally:
        store.lab.clear_permissions()


def test_a_lost_event_is_made_good_by_the_object(store: Store) -> None:
    with store.lab.fault_events(loss=1.0):
        _node, command_id = store.run("web-2", "echo out")
        (message,) = store.messages(30)
    assert (message["command_id"], message["rc"]) == (command_id, 0) and message["stdout_uri"]


def test_an_event_that_is_lost_without_an_output_is_for_the_poll(store: Store) -> None:
    with store.lab.fault_events(loss=1.0):
        node, command_id = store.run("web-2", "true")
        ssm = store.lab.client("ssm", account=node.account, region=node.region)
        eventually(lambda: ssm.list_commands(CommandId=command_id)["Commands"][0]["Status"] == "Success")
        assert store.messages(1.0) == []


def test_a_forged_object_tells_nothing(store: Store) -> None:
    """A node writes what another one's command is said to have written; the bucket cannot tell it from the node's own."""
    victim, command_id = store.run("web-2", "sleep 3; true")
    below = f"{OTHER}/us-east-1/{command_id}/{victim.node_id}/awsrunShellScript"
    s3 = store.lab.client("s3", account=OTHER, region=HOME)
    s3.put_object(Bucket=BUCKET, Key=f"{below}/0.awsrunShellScript/stdout", Body=b"forged")
    s3.put_object(Bucket=BUCKET, Key=f"{below}/other/stdout", Body=b"forged")
    s3.put_object(Bucket=BUCKET, Key=f"{below.replace(command_id[:8], '00000000')}/other/stdout", Body=b"forged")
    eventually(lambda: len({line["key"] for line in store.log() if line["outcome"].startswith("forged")}) == 2)
    assert any(line["outcome"].startswith("NotYet") for line in store.log())
    (message,) = store.messages(20)  # when it has really ended, and what it has really given
    assert (message["command_id"], message["status"], message["stdout_uri"]) == (command_id, "success", None)


def test_what_never_becomes_true_is_kept_as_a_failure(store: Store) -> None:
    victim, command_id = store.run("web-2", "sleep 30")
    below = f"{OTHER}/us-east-1/{command_id}/{victim.node_id}/awsrunShellScript/0.awsrunShellScript/stdout"
    store.lab.client("s3", account=OTHER, region=HOME).put_object(Bucket=BUCKET, Key=below, Body=b"forged")
    (failure, *_more) = eventually(lambda: store.messages(queue=f"{NAME}-failures"))
    assert failure["responsePayload"]["errorType"] == "NotYet" and failure["requestPayload"]["Records"]
    store.lab.client("ssm", account=OTHER, region="us-east-1").cancel_command(CommandId=command_id)
    (message,) = store.messages(20)
    assert message["status"] == "cancelled"


def test_what_was_changed_by_hand_is_put_right(store: Store) -> None:
    s3, events = store.lab.client("s3", region=HOME), store.lab.client("events", account=OTHER, region="us-east-1")
    s3.delete_public_access_block(Bucket=BUCKET)
    events.disable_rule(Name=NAME)
    run = store.role("--diff", output_store_expire_days=60, output_store_encryption="kms", output_store_readers=[f"arn:aws:iam::{OTHER}:role/FleetOperator"])
    changed = [action for action in store.actions(run) if not action.startswith("none")]
    assert changed == [
        f"create key {NAME} {HUB}", f"change queue {NAME}-completions {HUB}", f"change bucket {BUCKET} {HUB}", f"change role {NAME}-function {HUB}",
        f"change event_rule {NAME} {OTHER}",
    ]  # fmt: skip
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    rule = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].startswith(f"arn:aws:kms:{HOME}:{HUB}:key/")


def test_absent_keeps_outputs_unless_told_otherwise_and_leaves_nothing_else(store: Store) -> None:
    planned = store.actions(store.role("--check", output_store_state="absent"))
    run = store.role(output_store_state="absent")
    assert store.actions(run) == planned
    assert [action for action in planned if not action.startswith("remove")] == [f"keep bucket {BUCKET} {HUB}"]
    assert store.objects()
    assert "was left" in json.dumps(run.report)
    purged = store.actions(store.role(output_store_state="absent", output_store_purge=True))
    assert [action for action in purged if not action.startswith("none")] == [f"remove bucket {BUCKET} {HUB}"]
    for account in (HUB, OTHER):
        names = [role["RoleName"] for role in store.lab.client("iam", account=account).list_roles()["Roles"]]
        assert not [name for name in names if name.startswith(NAME)]
        for region in (HOME, "us-east-1"):
            events = store.lab.client("events", account=account, region=region)
            assert events.list_rules()["Rules"] == [] and [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]
    assert store.lab.client("lambda", region=HOME).list_functions()["Functions"] == []
    assert not store.lab.client("sqs", region=HOME).list_queues().get("QueueUrls")
    assert not store.lab.client("s3", region=HOME).list_buckets()["Buckets"]
    assert store.role(output_store_state="absent").check().stats["localhost"]["changed"] == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"output_store_account_ids": []}, "Set one of output_store_organization_id and output_store_account_ids"),
        ({"output_store_relay": True}, "Set output_store_relay_bucket"),
        ({"output_store_object_ownership": "ObjectWriter"}, "Set output_store_relay, or leave BucketOwnerEnforced"),
        ({"output_store_queue": False}, "Nobody would be told"),
    ],
)
@pytest.mark.slow
def test_variables_that_do_not_go_together_are_refused(store: Store, variables: dict[str, Any], said: str) -> None:
    run = store.role(**variables)
    assert run.returncode != 0 and said in json.dumps(run.report)
