# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policies of docs/policies are enough for what docs/iam.md says of them, and not more than is needed.

The lab matches actions and resources of a policy; its conditions it does not look at.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller
from tests.lab import Lab

REPOSITORY = Path(__file__).resolve().parents[2]
POLICIES = REPOSITORY / "docs" / "policies"
DOCUMENTS = REPOSITORY / "plugins" / "plugin_utils" / "mux" / "session_documents"
HUB, OTHER = "111111111111", "222222222222"
OPERATOR = f"arn:aws:iam::{HUB}:user/operator"


def policy(name: str, account: str = HUB) -> dict[str, Any]:
    """A policy as it stands in the documentation, for an account."""
    found: dict[str, Any] = json.loads((POLICIES / f"{name}.json").read_text(encoding="utf-8").replace(HUB, account))
    return found


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


def run_command(controller: Controller) -> Any:
    """A play of one command on the controller's only host."""
    return controller.tasks({"name": "say", "ansible.builtin.command": "echo hello"})


def by_name(lab: Lab, controller: Controller) -> None:
    """Name the node by its tag, so that it must be looked up."""
    controller.hosts({"web-1": {**connection_variables(lab, "web-1"), "ansible_ssm_instance_id": "web-1"}}, ansible_python_interpreter="/usr/bin/python3")


def test_an_operator_runs_a_play_on_a_node_named_by_its_tag(guarded, own_controller):
    guarded.policy(policy("operator"), principal=OPERATOR)
    by_name(guarded, own_controller)
    assert run_command(own_controller).check().result("say")["stdout"] == "hello"


@pytest.mark.parametrize("action", ["ssm:StartSession", "ssm:DescribeInstanceInformation", "ssmmessages:OpenDataChannel"])
def test_an_operator_who_lacks_an_action_is_told_which(guarded, own_controller, action):
    guarded.policy(without(policy("operator"), action), principal=OPERATOR)
    by_name(guarded, own_controller)
    run = run_command(own_controller)
    assert run.stats["web-1"]["unreachable"] == 1
    assert action in run.result("say")["msg"]


def test_an_operator_has_no_other_node_and_no_other_document(guarded):
    guarded.policy(policy("operator"), principal=OPERATOR)
    client, node = guarded.client("ssm"), guarded.node("web-1")
    for refused in ({"DocumentName": "AWS-StartPortForwardingSession", "Parameters": {"portNumber": ["22"]}}, {"DocumentName": "FleetSSM-RootInput"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            client.start_session(Target=node.node_id, **refused)


def test_an_operator_resumes_after_a_cut(guarded, own_controller):
    guarded.policy(policy("operator"), principal=OPERATOR)
    run_command(own_controller).check()
    assert guarded.cut(node="web-1")
    assert run_command(own_controller).check().result("say")["stdout"] == "hello"


def test_a_hub_becomes_operator_in_another_account(guarded, own_controller):
    guarded.policy(policy("hub"), principal=OPERATOR)
    guarded.policy(policy("operator", OTHER), principal="FleetOperator")
    own_controller.hosts({"db-2": connection_variables(guarded, "db-2")}, ansible_python_interpreter="/usr/bin/python3")
    assert run_command(own_controller).check().result("say")["stdout"] == "hello"


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
    document = policy("documents")
    # The lab does not know which document a call is about that moto answers.
    document["Statement"][0]["Resource"] = "*"
    guarded.policy(document, principal=OPERATOR)
    client = guarded.client("ssm")
    content = (DOCUMENTS / "FleetSSM-Input.json").read_text(encoding="utf-8")
    client.create_document(Name="FleetSSM-Trial", DocumentType="Session", Content=content)
    assert client.describe_document(Name="FleetSSM-Trial")["Document"]["DocumentType"] == "Session"
    client.delete_document(Name="FleetSSM-Trial")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.start_session(Target=guarded.node("web-1").node_id)
