# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role, in two accounts and two regions with nodes that really run commands: from nothing to messages and back to nothing.

The tests of this file go on from one another, in their order.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ansible_collections.fleet.ssm.plugins.module_utils.resources.kind import unpaired
from tests.integration.output_store.deployment import AWAY, BUCKET, HOME, HUB, NAME, OTHER, Deployment, actions
from tests.integration.test_policies import of_key, policy, without
from tests.integration.waiting import eventually


def test_check_mode_says_what_would_be_made_and_makes_nothing_and_a_second_run_changes_nothing(deployment: Deployment) -> None:
    deployment.lab.reset_requests()
    planned = deployment.apply(check=True, diff=True)
    assert {action.partition(" ")[0] for action in actions(planned)} == {"create"}
    assert sum("event_rule" in action for action in actions(planned)) == 5 and sum(f"role {NAME}-look" in action for action in actions(planned)) == 2
    reads = ("Get", "Head", "List", "Describe", "AssumeRole")
    assert [action for action in deployment.lab.requests().counts if not action.partition(":")[2].startswith(reads)] == []
    shown = [difference["after_header"] for result in planned for difference in result["diff"]]
    assert len(shown) == len(actions(planned))
    assert actions(deployment.apply()) == actions(planned)
    again = deployment.apply()
    assert {action.partition(" ")[0] for action in actions(again)} == {"none"} and not any(result["changed"] for result in again)


def test_the_bucket_is_private_encrypted_and_forgets(deployment: Deployment) -> None:
    s3 = deployment.lab.client("s3", region=HOME)
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


def test_an_account_writes_below_its_own_prefix_and_reads_nothing(deployment: Deployment) -> None:
    s3 = deployment.lab.client("s3", account=OTHER, region=HOME)
    s3.put_object(Bucket=BUCKET, Key=f"{OTHER}/note", Body=b"x")
    for key in (f"{HUB}/note", ".completed/note", "note"):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    for refused in (lambda: s3.get_object(Bucket=BUCKET, Key=f"{OTHER}/note"), lambda: s3.list_objects_v2(Bucket=BUCKET)):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()
    own = deployment.lab.client("s3", region=HOME)
    with pytest.raises(ClientError, match="AccessDenied"):  # whoever may do everything in the store's account, as its nodes perhaps may
        own.put_object(Bucket=BUCKET, Key=f".completed/{HUB}/note", Body=b"x")


def test_each_node_is_told_of_once_with_where_its_outputs_are(deployment: Deployment) -> None:
    sent = {
        deployment.run("web-1", "echo out; echo err >&2"): (0, True, True),
        deployment.run("web-2", "exit 3"): (3, False, True),
        deployment.run("win-1", "Get-HotFix"): (0, True, False),
        deployment.run("web-1", "true"): (0, False, False),
    }
    messages = deployment.messages(30, len(sent))
    eventually(lambda: len([line for line in deployment.log() if line["outcome"] == "told before"]) >= 3)
    messages += deployment.messages()
    assert len(messages) == len(sent)
    for (node, command_id), (rc, out, err) in sent.items():
        (message,) = (message for message in messages if message["command_id"] == command_id)
        assert (message["instance_id"], message["account_id"], message["region"]) == (node.node_id, node.account, node.region)
        assert (message["rc"], message["status"], message["verified"]) == (rc, "failed" if rc else "success", True)
        plugin = "awsrunPowerShellScript" if node.kind == "windows" else "awsrunShellScript"
        where = f"{node.account}/{node.region}/{command_id}/{node.node_id}/{plugin}/0.{plugin}"
        for stream, expected in (("stdout", out), ("stderr", err)):
            uri = f"https://s3.{HOME}.amazonaws.com/{BUCKET}/{where}/{stream}" if expected else None
            assert message[f"{stream}_uri"] == uri and (f"{where}/{stream}" in deployment.objects()) is expected


def test_nodes_write_with_the_nodes_policies_and_not_without(deployment: Deployment) -> None:
    node = deployment.lab.node("web-1")
    try:
        for less in ("", "s3:PutObject", "s3:PutObjectAcl"):
            deployment.lab.clear_permissions()
            for name in ("node", "output-store-node"):
                deployment.lab.policy(without(policy(name), less), principal=f"*/FleetNode/{node.node_id}")
            _node, command_id = deployment.run("web-1", "echo hello")
            (message,) = deployment.messages(20)
            assert (message["command_id"], message["rc"]) == (command_id, 0)
            assert any(command_id in key and key.endswith("/stdout") for key in deployment.objects()) is (not less)
    finally:
        deployment.lab.clear_permissions()


def test_a_lost_event_is_made_good_by_the_object(deployment: Deployment) -> None:
    with deployment.lab.fault_events(loss=1.0):
        _node, command_id = deployment.run("web-2", "echo out")
        (message,) = deployment.messages(30)
    assert (message["command_id"], message["rc"]) == (command_id, 0) and message["stdout_uri"]


def test_an_event_that_is_lost_without_an_output_is_for_the_poll(deployment: Deployment) -> None:
    with deployment.lab.fault_events(loss=1.0):
        node, command_id = deployment.run("web-2", "true")
        ssm = deployment.lab.client("ssm", account=node.account, region=node.region)
        eventually(lambda: ssm.list_commands(CommandId=command_id)["Commands"][0]["Status"] == "Success")
        assert deployment.messages(1.0) == []


def test_a_forged_object_tells_nothing(deployment: Deployment) -> None:
    """A node writes what another one's command is said to have written; the bucket cannot tell it from the node's own."""
    victim, command_id = deployment.run("web-2", "sleep 3; true")
    below = f"{OTHER}/{AWAY}/{command_id}/{victim.node_id}/awsrunShellScript"
    s3 = deployment.lab.client("s3", account=OTHER, region=HOME)
    s3.put_object(Bucket=BUCKET, Key=f"{below}/0.awsrunShellScript/stdout", Body=b"forged")
    s3.put_object(Bucket=BUCKET, Key=f"{below}/other/stdout", Body=b"forged")
    s3.put_object(Bucket=BUCKET, Key=f"{below.replace(command_id[:8], '00000000')}/other/stdout", Body=b"forged")
    eventually(lambda: len({line["key"] for line in deployment.log() if line["outcome"].startswith("forged")}) == 2)
    assert any(line["outcome"].startswith("NotYet") for line in deployment.log())
    (message,) = deployment.messages(20)  # when it has really ended, and what it has really given
    assert (message["command_id"], message["status"], message["stdout_uri"]) == (command_id, "success", None)


def test_what_never_becomes_true_is_kept_as_a_failure(deployment: Deployment) -> None:
    victim, command_id = deployment.run("web-2", "sleep 30")
    below = f"{OTHER}/{AWAY}/{command_id}/{victim.node_id}/awsrunShellScript/0.awsrunShellScript/stdout"
    deployment.lab.client("s3", account=OTHER, region=HOME).put_object(Bucket=BUCKET, Key=below, Body=b"forged")
    (failure, *_more) = eventually(lambda: deployment.messages(queue=f"{NAME}-failures"))
    assert failure["responsePayload"]["errorType"] == "NotYet" and failure["requestPayload"]["Records"]
    deployment.lab.client("ssm", account=OTHER, region=AWAY).cancel_command(CommandId=command_id)
    (message,) = deployment.messages(20)
    assert message["status"] == "cancelled"


def test_tags_are_on_everything_and_those_of_others_stay(deployment: Deployment) -> None:
    lab, tags = deployment.lab, {"Team": "fleet"}
    s3, events = lab.client("s3", region=HOME), lab.client("events", account=OTHER, region=AWAY)
    s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [{"Key": "Cost", "Value": "1"}]})
    made = actions(deployment.apply(output_store_tags=tags))
    assert {action.split()[1] for action in made if not action.startswith("change")} == {"bucket_notifications"}
    assert not any(result["changed"] for result in deployment.apply(output_store_tags=tags))
    assert unpaired(s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"]) == {"Cost": "1", **tags}
    assert unpaired(events.list_tags_for_resource(ResourceARN=events.describe_rule(Name=NAME)["Arn"])["Tags"]) == tags
    assert unpaired(lab.client("iam", account=OTHER).list_role_tags(RoleName=f"{NAME}-look")["Tags"]) == tags
    function = lab.client("lambda", region=HOME)
    assert function.list_tags(Resource=function.get_function(FunctionName=NAME)["Configuration"]["FunctionArn"])["Tags"] == tags


def test_what_was_changed_by_hand_is_put_right(deployment: Deployment) -> None:
    s3, events = deployment.lab.client("s3", region=HOME), deployment.lab.client("events", account=OTHER, region=AWAY)
    s3.delete_public_access_block(Bucket=BUCKET)
    events.disable_rule(Name=NAME)
    results = deployment.apply(
        diff=True, output_store_expire_days=60, output_store_encryption="kms", output_store_readers=[f"arn:aws:iam::{OTHER}:role/FleetOperator"]
    )
    assert [action for action in actions(results) if not action.startswith("none")] == [
        f"create key {NAME} {HUB}", f"change queue {NAME}-completions {HUB}", f"change bucket {BUCKET} {HUB}", f"change role {NAME}-function {HUB}",
        f"change event_rule {NAME} {OTHER}",
    ]  # fmt: skip
    assert set(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values()) == {True}
    rule = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].startswith(f"arn:aws:kms:{HOME}:{HUB}:key/")


def test_the_function_uses_no_key_but_that_of_the_store(deployment: Deployment) -> None:
    def uses_key() -> list[tuple[str, dict[str, Any] | None]]:
        found = deployment.lab.client("iam").get_role_policy(RoleName=f"{NAME}-function", PolicyName="fleet.ssm")["PolicyDocument"]
        return [(each["Resource"], each.get("Condition")) for each in found["Statement"] if "kms:Decrypt" in each["Action"]]

    deployment.apply(output_store_encryption="kms")
    assert uses_key() == [(f"arn:aws:kms:{HOME}:{HUB}:key/*", {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{NAME}"}})]
    key = f"arn:aws:kms:{HOME}:{HUB}:key/1"
    deployment.apply(output_store_encryption="kms", output_store_key_arn=key)
    assert uses_key() == [(key, None)]


def test_nodes_of_other_accounts_need_the_key_by_their_own_policies(deployment: Deployment) -> None:
    (key,) = (each["arn"] for result in deployment.apply(output_store_encryption="kms") for each in result["resources"] if each["arn"])
    assert key.startswith(f"arn:aws:kms:{HOME}:{HUB}:key/")
    node = deployment.lab.node("web-2")
    outputs = of_key(policy("output-store-node"), key.rpartition("/")[2])
    outputs["Statement"][0]["Resource"] = f"arn:aws:s3:::{BUCKET}/{OTHER}/*"
    try:
        for less in ("", "kms:GenerateDataKey"):
            deployment.lab.clear_permissions()
            for allowed in (policy("node"), without(outputs, less)):
                deployment.lab.policy(allowed, principal=f"*/FleetNode/{node.node_id}")
            _node, command_id = deployment.run("web-2", "echo hello")
            (message,) = deployment.messages(20)
            assert (message["command_id"], message["rc"]) == (command_id, 0)
            assert any(command_id in key and key.endswith("/stdout") for key in deployment.objects()) is (not less)
    finally:
        deployment.lab.clear_permissions()


def test_a_bucket_in_another_region_is_not_taken_for_ours(deployment: Deployment) -> None:
    with pytest.raises(AssertionError, match=f"bucket {BUCKET}: it is in the region {HOME}"):
        deployment.apply(check=True, output_store_region=AWAY)


@pytest.mark.slow
def test_absent_keeps_outputs_unless_told_otherwise_and_leaves_nothing_else(deployment: Deployment) -> None:
    deployment.apply()  # where the cases before this one are not run
    deployment.lab.client("s3", account=OTHER, region=HOME).put_object(Bucket=BUCKET, Key=f"{OTHER}/note", Body=b"x")
    planned = actions(deployment.apply(check=True, output_store_state="absent"))
    results = deployment.apply(output_store_state="absent")
    assert actions(results) == planned
    assert [action for action in planned if not action.startswith("remove")] == [f"keep bucket {BUCKET} {HUB}"]
    assert deployment.objects()
    assert "was left" in json.dumps(results)
    purged = actions(deployment.apply(output_store_state="absent", output_store_purge=True))
    assert [action for action in purged if not action.startswith("none")] == [f"remove bucket {BUCKET} {HUB}"]
    for account in (HUB, OTHER):
        names = [role["RoleName"] for role in deployment.lab.client("iam", account=account).list_roles()["Roles"]]
        assert not [name for name in names if name.startswith(NAME)]
        for region in (HOME, AWAY):
            events = deployment.lab.client("events", account=account, region=region)
            assert events.list_rules()["Rules"] == [] and [bus["Name"] for bus in events.list_event_buses()["EventBuses"]] == ["default"]
    assert deployment.lab.client("lambda", region=HOME).list_functions()["Functions"] == []
    assert not deployment.lab.client("sqs", region=HOME).list_queues().get("QueueUrls")
    assert not deployment.lab.client("s3", region=HOME).list_buckets()["Buckets"]
    assert not any(result["changed"] for result in deployment.apply(output_store_state="absent"))
