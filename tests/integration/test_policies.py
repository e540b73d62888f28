# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policies of docs/policies are enough for what docs/iam.md says of them, and not more than is needed.

The lab matches actions and resources of a policy; its conditions it does not look at.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from botocore.exceptions import ClientError

from tests.integration.conftest import BUCKET
from tests.integration.controller import Controller
from tests.integration.direct import DirectConnection
from tests.integration.inventory.conftest import Listed
from tests.integration.modules.inside import Inside
from tests.integration.modules.local import Local
from tests.integration.waiting import eventually
from tests.lab import Lab

REPOSITORY = Path(__file__).resolve().parents[2]
POLICIES = REPOSITORY / "docs" / "policies"
DOCUMENTS = REPOSITORY / "plugins" / "plugin_utils" / "mux" / "session_documents"
PREFERENCES = "SSM-SessionManagerRunShell"
HUB, OTHER = "111111111111", "222222222222"
OPERATOR = f"arn:aws:iam::{HUB}:user/operator"
TOLD = ["ssm:StartSession", "ssm:DescribeInstanceInformation", "ssmmessages:OpenDataChannel"]
"""Actions of the operator without which nothing runs; the error names them."""

Connect = Callable[..., DirectConnection]


def policy(name: str, account: str = HUB) -> dict[str, Any]:
    """A policy as it stands in the documentation, for an account."""
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8").replace(HUB, account))
    return found


def actions(document: dict[str, Any]) -> set[str]:
    """All that a policy allows."""
    listed = (statement["Action"] for statement in document["Statement"])
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


NODE_ACTIONS = actions(policy("node"))


def of_key(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The policy about KMS with a key in place of its placeholder."""
    filled: dict[str, Any] = json.loads(json.dumps(document).replace("KEY-ID", key))
    return filled


def denied(lab: Lab, *, by_node: bool = False) -> set[str]:
    """Actions that were refused for want of a permission."""
    entries = lab.requests(entries=True).entries
    return {entry["action"] for entry in entries if entry["by_node"] is by_node and entry["error"] in ("AccessDenied", "AccessDeniedException")}


def without(document: dict[str, Any], action: str) -> dict[str, Any]:
    """The same without one action."""
    less = copy.deepcopy(document)
    for statement in less["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        statement["Action"] = [one for one in actions if one != action]
    return less


@pytest.fixture
def guarded(lab: Lab) -> Iterator[Lab]:
    """The lab, open to all again afterwards."""
    yield lab
    lab.clear_permissions()


BY_TAG = {"ansible_ssm_instance_id": "web-1"}
"""A node named by its tag, so that it must be looked up."""


def test_an_operator_runs_commands_on_a_node_named_by_its_tag(guarded, own_connect):
    guarded.policy(policy("operator"), principal=OPERATOR)
    assert own_connect(**BY_TAG).execute("echo hello")[1] == b"hello\n"


@pytest.mark.parametrize("action", TOLD)
def test_an_operator_who_lacks_an_action_is_told_which(guarded, own_connect, action):
    guarded.policy(without(policy("operator"), action), principal=OPERATOR)
    with pytest.raises(AnsibleConnectionFailure, match=action):
        own_connect(**BY_TAG).execute("true")


def test_an_operator_has_no_other_node_and_no_other_document(guarded):
    guarded.policy(policy("operator"), principal=OPERATOR)
    client, node = guarded.client("ssm"), guarded.node("web-1")
    for refused in ({"DocumentName": "AWS-StartPortForwardingSession", "Parameters": {"portNumber": ["22"]}}, {"DocumentName": "FleetSSM-RootInput"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.start_session(Target=node.node_id, **refused)


# The other actions of the operator: each with what docs/iam.md says that it is for, which works with it alone


def resumes_without_loss(lab: Lab, connect: Connect) -> bool:
    connection = connect()
    connection.execute("true")
    lab.reset_requests()
    assert lab.cut(node="web-1")
    try:
        assert connection.execute("echo hello")[1] == b"hello\n"
    except AnsibleConnectionFailure as error:
        assert "may not ssm:ResumeSession" in str(error)
        return False
    counts = lab.requests().counts
    assert counts["ssm:ResumeSession"] and "ssm:StartSession" not in counts
    return True


def ends_its_session(lab: Lab, connect: Connect) -> bool:
    connection = connect()
    connection.execute("true")
    lab.reset_requests()
    connection.plugin.reset()
    # A session ends with its runner, too. The call is for one that does not; so it is seen that it is allowed.
    eventually(lambda: lab.requests().counts.get("ssm:TerminateSession"))
    return "ssm:TerminateSession" not in denied(lab)


def asks_whether_a_silent_node_is_connected(lab: Lab, connect: Connect) -> bool:
    lab.reset_requests()
    lab.fault(loss=1.0, node="web-1")
    heard = threading.Timer(7.5, lab.clear_faults)
    heard.start()
    assert connect().execute("echo hello")[1] == b"hello\n"  # not knowing it is no reason to give up
    heard.join()
    assert lab.requests().counts["ssm:GetConnectionStatus"]
    return "ssm:GetConnectionStatus" not in denied(lab)


def says_that_a_node_is_stopped(lab: Lab, connect: Connect) -> bool:
    (node,) = lab.add({"name": "off", "kind": "simulated", "state": "stopped"})
    try:
        with pytest.raises(AnsibleConnectionFailure) as caught:
            connect(ansible_ssm_instance_id=node.node_id).execute("true")
    finally:
        node.terminate()
    return "stopped" in str(caught.value)


EFFECTS = {
    "ssm:ResumeSession": resumes_without_loss,
    "ssm:TerminateSession": ends_its_session,
    "ssm:GetConnectionStatus": asks_whether_a_silent_node_is_connected,
    "ec2:DescribeInstances": says_that_a_node_is_stopped,
}
effects = pytest.mark.parametrize(
    "action", [pytest.param(name, marks=[pytest.mark.slow] if name == "ssm:GetConnectionStatus" else []) for name in EFFECTS]
)


@pytest.mark.slow
@effects
def test_an_action_of_the_operator_has_the_effect_that_it_is_for(guarded, own_connect, action):
    guarded.policy(policy("operator"), principal=OPERATOR)
    assert EFFECTS[action](guarded, own_connect)


@effects
def test_without_an_action_of_the_operator_its_effect_is_missing(guarded, own_connect, action):
    guarded.policy(without(policy("operator"), action), principal=OPERATOR)
    assert not EFFECTS[action](guarded, own_connect)


def test_the_table_of_the_operator_has_every_action_and_each_is_tried():
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("## Operator")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE))
    assert explained == actions(policy("operator")) == {*TOLD, *EFFECTS}


def test_a_hub_becomes_operator_in_another_account(guarded, own_connect):
    guarded.policy(policy("hub"), principal=OPERATOR)
    guarded.policy(policy("operator", OTHER), principal="FleetOperator")
    assert own_connect("db-2").execute("echo hello")[1] == b"hello\n"


def test_whoever_lists_nodes_sees_them_and_starts_nothing(guarded, own_controller):
    guarded.policy(policy("inventory"), principal=OPERATOR)
    source = own_controller.folder / "lab.managed_nodes.yml"
    source.write_text("plugin: fleet.ssm.managed_nodes\nstrict: true\nregions: [eu-central-1, us-east-1]\n", encoding="utf-8")
    done = own_controller.run("ansible-inventory", "-i", str(source), "--list")
    assert done.returncode == 0, done.stderr
    assert {"web-1", "web-2", "db-1"} <= set(json.loads(done.stdout)["_meta"]["hostvars"])
    with pytest.raises(ClientError, match="AccessDenied"):
        guarded.client("ssm").start_session(Target=guarded.node("web-1").node_id)


def test_the_platform_team_keeps_the_collections_documents_and_starts_nothing(guarded):
    guarded.policy(policy("documents"), principal=OPERATOR)
    client = guarded.client("ssm")
    content = (DOCUMENTS / "FleetSSM-Input.json").read_text(encoding="utf-8")
    client.create_document(Name="FleetSSM-Trial", DocumentType="Session", Content=content)
    assert client.describe_document(Name="FleetSSM-Trial")["Document"]["DocumentType"] == "Session"
    assert client.get_document(Name="FleetSSM-Trial")["Content"] == content
    client.update_document(Name="FleetSSM-Trial", Content=content.replace("fleet.ssm", "Fleet.SSM", 1), DocumentVersion="$LATEST")
    client.update_document_default_version(Name="FleetSSM-Trial", DocumentVersion="2")
    client.delete_document(Name="FleetSSM-Trial")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.create_document(Name="Of-Others", DocumentType="Session", Content=content)
    with pytest.raises(ClientError, match="AccessDenied"):
        client.start_session(Target=guarded.node("web-1").node_id)


@pytest.fixture
def encrypted(lab: Lab) -> Iterator[str]:
    """The id of the key with which the preferences say that sessions are encrypted."""
    key = lab.client("kms").create_key()["KeyMetadata"]
    content = {"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {"kmsKeyId": key["Arn"]}}
    lab.client("ssm").create_document(Name=PREFERENCES, DocumentType="Session", Content=json.dumps(content))
    yield str(key["KeyId"])
    lab.clear_permissions()
    lab.client("ssm").delete_document(Name=PREFERENCES)


def test_an_operator_with_the_policy_for_kms_has_encrypted_sessions(guarded, own_connect, encrypted):
    guarded.policy(policy("operator"), principal=OPERATOR)
    guarded.policy(of_key(policy("kms"), encrypted), principal=OPERATOR)
    decrypt = without(of_key(policy("kms"), encrypted), "kms:GenerateDataKey")
    decrypt["Statement"][0]["Action"] = "kms:Decrypt"
    guarded.policy(policy("node"), principal="FleetNode")
    guarded.policy(decrypt, principal="FleetNode")
    guarded.reset_requests()
    assert own_connect().execute("echo hello")[1] == b"hello\n"
    assert guarded.requests().counts["kms:GenerateDataKey"] and guarded.requests().node_counts["kms:Decrypt"]


@pytest.mark.parametrize("key", [None, pytest.param("of-others", marks=pytest.mark.slow)])
def test_an_operator_without_the_policy_for_this_key_is_told_the_action(guarded, own_connect, encrypted, key):
    guarded.policy(policy("operator"), principal=OPERATOR)
    if key:
        guarded.policy(of_key(policy("kms"), key), principal=OPERATOR)
    with pytest.raises(AnsibleConnectionFailure, match=rf"kms:GenerateDataKey on .*{encrypted}"):
        own_connect().execute("true")


def test_a_node_with_the_nodes_policy_takes_sessions(guarded, own_connect):
    guarded.policy(policy("node"), principal="FleetNode")
    guarded.reset_requests()
    (node,) = guarded.add({"name": "plain"})
    try:
        assert own_connect(ansible_ssm_instance_id=node.node_id).execute("echo hello")[1] == b"hello\n"
        assert actions(policy("node")) <= set(guarded.requests().node_counts)
        assert not actions(policy("node")) & denied(guarded, by_node=True)
    finally:
        node.terminate()


@pytest.mark.parametrize("action", sorted(NODE_ACTIONS))
def test_every_action_of_the_nodes_policy_is_needed(guarded, action):
    (node,) = guarded.add({"name": "lacking", "state": "stopped"})
    try:
        guarded.policy(without(policy("node"), action), principal=f"*/FleetNode/{node.node_id}")
        guarded.reset_requests()
        data = action.endswith("DataChannel")
        node.start(wait=data)
        if data:
            guarded.client("ssm").start_session(Target=node.node_id)
        eventually(lambda: action in denied(guarded, by_node=True))
        assert not [session for session in guarded.sessions() if session["node_id"] == node.node_id and session["agent_connected"]]
    finally:
        node.terminate()


MANY_ACCOUNTS = REPOSITORY / "playbooks" / "inventories" / "many_accounts.managed_nodes.yml"


@pytest.fixture(scope="module")
def company() -> Iterator[Lab]:
    """Nodes of both kinds in the hub's account and another, known to the API only."""
    places = [("web-1", HUB, False), ("edge-1", HUB, True), ("db-1", OTHER, False), ("edge-2", OTHER, True)]
    with Lab([{"name": name, "account": account, "region": "eu-central-1", "kind": "simulated", "hybrid": hybrid} for name, account, hybrid in places]) as lab:
        yield lab


def list_many_accounts(company: Lab, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the documented inventory of many accounts says to the hub, whose profile has this name. The lab has two of its accounts."""
    options = yaml.safe_load(MANY_ACCOUNTS.read_text(encoding="utf-8"))
    options.update(cache=False, accounts=[account for account in options["accounts"] if account["name"] != "factory"])
    assert [account.get("regions") for account in options["accounts"]] == ["all", None]
    controller = Controller(folder, company.env())
    keys = {name.lower(): controller.environment.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    config = folder / "config"
    config.write_text("[profile hub]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items()), encoding="utf-8")
    source = folder / "many_accounts.managed_nodes.yml"
    source.write_text(yaml.safe_dump(options), encoding="utf-8")
    return controller.run("ansible-inventory", "-i", str(source), "--list", AWS_CONFIG_FILE=str(config))


@pytest.mark.slow
def test_a_hub_lists_the_nodes_of_many_accounts_with_the_operators_and_the_inventorys_policy(company, tmp_path):
    company.clear_permissions()
    company.policy(policy("hub"), principal=OPERATOR)
    for name in ("operator", "inventory"):
        company.policy(policy(name), principal="FleetOperator")
    done = list_many_accounts(company, tmp_path)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    hosts = Listed(done.stdout, done.stderr).hosts
    assert hosts.keys() == {"production.web-1", "production.edge-1", "staging.db-1", "staging.edge-2"}
    assert hosts["staging.edge-2"]["ansible_ssm_role_arn"] == f"arn:aws:iam::{OTHER}:role/FleetOperator"


@pytest.mark.slow
def test_a_hub_whose_role_has_the_operators_policy_alone_is_told_what_its_inventory_lacks(company, tmp_path):
    company.clear_permissions()
    company.policy(policy("hub"), principal=OPERATOR)
    company.policy(policy("operator"), principal="FleetOperator")
    said = " ".join(list_many_accounts(company, tmp_path).stderr.split())
    assert "account production: ec2:DescribeRegions is not allowed" in said  # regions: all
    assert "account staging, region eu-central-1: tag:GetResources is not allowed" in said  # hybrid nodes


@pytest.mark.slow
def test_an_operator_lists_nodes_that_are_not_hybrid_in_named_regions(guarded, own_controller):
    guarded.policy(policy("operator"), principal=OPERATOR)
    source = own_controller.folder / "lab.managed_nodes.yml"
    source.write_text("plugin: fleet.ssm.managed_nodes\nstrict: true\nhybrid: false\nregions: [eu-central-1]\n", encoding="utf-8")
    done = own_controller.run("ansible-inventory", "-i", str(source), "--list")
    assert done.returncode == 0, done.stderr
    assert "web-1" in json.loads(done.stdout)["_meta"]["hostvars"]


# Run Command: each action with the use of a module that needs it, and what that says without it


def say(local: Local, nodes: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A run whose output is longer than the listing gives."""
    return local.result("run_command", **nodes, commands=["yes hello | head -n 600"], run_id="policy", **options)


def without_waiting(local: Local, nodes: dict[str, Any]) -> dict[str, Any]:
    return say(local, nodes, wait=False, look_back=0)


def in_full(local: Local, nodes: dict[str, Any]) -> dict[str, Any]:
    return say(local, nodes, output="full", look_back=0)


def in_check_mode(local: Local, nodes: dict[str, Any]) -> dict[str, Any]:
    return local.result("run_command", "--check", region=nodes["region"], tags={"Name": "web-1"}, commands=["true"])


def cancelled(local: Local, nodes: dict[str, Any]) -> dict[str, Any]:
    client = local.lab.client("ssm", region=nodes["region"])
    local.lab.clear_permissions()
    sent = client.send_command(DocumentName="AWS-RunShellScript", InstanceIds=nodes["instance_ids"], Parameters={"commands": ["sleep 20"]})
    local.lab.policy(local.policy, principal=OPERATOR)
    return local.result("run_command", region=nodes["region"], state="cancelled", command_ids=[sent["Command"]["CommandId"]])


FLEET_EFFECTS = {
    "ssm:SendCommand": without_waiting,
    "ssm:ListCommandInvocations": in_full,
    "ssm:GetCommandInvocation": in_full,
    "ssm:ListCommands": without_waiting,
    "ssm:CancelCommand": cancelled,
    "ssm:DescribeInstanceInformation": in_check_mode,
}


@pytest.fixture
def fleet(guarded: Lab, tmp_path: Path) -> tuple[Local, dict[str, Any]]:
    node = guarded.node("web-1")
    return Inside(tmp_path / "local", guarded), {"region": node.region, "instance_ids": [node.node_id]}


def test_an_operator_of_a_fleet_runs_follows_and_cancels_commands(fleet):
    local, nodes = fleet
    local.policy = policy("run_command")
    local.lab.policy(local.policy, principal=OPERATOR)
    local.lab.reset_requests()
    for use in dict.fromkeys(FLEET_EFFECTS.values()):
        result = use(local, nodes)
        assert not result.get("failed"), result
    assert not denied(local.lab) and FLEET_EFFECTS.keys() <= set(local.lab.requests().counts)
    with pytest.raises(ClientError, match="AccessDenied"):
        local.lab.client("ssm", region=nodes["region"]).send_command(DocumentName="AWS-UpdateSSMAgent", InstanceIds=nodes["instance_ids"])


@pytest.mark.parametrize("action", FLEET_EFFECTS)
def test_an_operator_of_a_fleet_who_lacks_an_action_is_told_which(fleet, action):
    local, nodes = fleet
    local.policy = without(policy("run_command"), action)
    local.lab.policy(local.policy, principal=OPERATOR)
    result = FLEET_EFFECTS[action](local, nodes)
    told = [result.get("msg", ""), *(node.get("output_error", "") for node in result["nodes"])]
    assert any(f"{action} is not allowed for {OPERATOR}" in text for text in told), result


def test_the_table_of_the_operator_of_a_fleet_has_every_action_and_each_is_tried():
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("## Run Command")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE))
    assert explained == actions(policy("run_command")) == set(FLEET_EFFECTS)


ROUTE = {"ansible_ssm_route": "run_command", "ansible_ssm_bucket": BUCKET}


def long_output(connect: Connect) -> int:
    """The status of a command whose output takes a way of its own."""
    return connect(**ROUTE).execute("head -c 60000 /dev/urandom")[0]


def test_an_operator_by_run_command_and_a_bucket(guarded, bucket, own_connect):
    for name in ("run_command", "transfers"):
        guarded.policy(policy(name), principal=OPERATOR)
    guarded.reset_requests()
    assert long_output(own_connect) == 0
    assert not denied(guarded)


@pytest.mark.parametrize("action", ["s3:PutObject", "s3:GetObject"])
def test_an_operator_by_run_command_who_lacks_an_action_on_the_bucket_is_told_which(guarded, bucket, own_connect, action):
    guarded.policy(policy("run_command"), principal=OPERATOR)
    guarded.policy(without(policy("transfers"), action), principal=OPERATOR)
    with pytest.raises(AnsibleError, match=action):
        long_output(own_connect)


def test_the_platform_team_installs_and_removes_the_collections_documents_by_the_module(fleet):
    local, nodes = fleet
    local.lab.policy(policy("documents"), principal=OPERATOR)
    local.lab.reset_requests()
    assert local("document", region=nodes["region"], own=["session"])["changed"]
    assert local("document", region=nodes["region"], own=["session"], shared_with=[OTHER])["changed"]
    assert local("document", region=nodes["region"], own=["session"], state="absent")["changed"]
    assert not denied(local.lab)
