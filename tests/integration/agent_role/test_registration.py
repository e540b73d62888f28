# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine outside EC2 registers with an activation of another account, and is deregistered with the agent's end.

The controller asks that account by the role that the inventory names. The tests go on from one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.agent_role.conftest import OLD, REGION, Machine, Mirror, changed, refusal
from tests.lab import Lab

pytestmark = pytest.mark.slow

ACCOUNT = "222222222222"


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    role = lab.create_role(ACCOUNT, "Guarded", external_id="sesame")
    identity = {"ansible_ssm_role_arn": role, "ansible_ssm_external_id": "sesame", "ansible_ssm_role_session_name": "edge"}
    made = Machine(lab, "outside", mirror, tmp_path_factory.mktemp("outside"), identity, account=ACCOUNT)
    yield made
    made.close()


@pytest.fixture(scope="module")
def activation(lab: Lab) -> dict[str, Any]:
    made = ssm(lab).create_activation(IamRole="FleetNode", DefaultInstanceName="outside", RegistrationLimit=1)
    return {"agent_activation_id": made["ActivationId"], "agent_activation_code": made["ActivationCode"], "agent_version": OLD}


def ssm(lab: Lab) -> Any:
    return lab.client("ssm", region=REGION, account=ACCOUNT)


def nodes(lab: Lab) -> list[str]:
    found = ssm(lab).describe_instance_information(Filters=[{"Key": "ResourceType", "Values": ["ManagedInstance"]}])
    return [entry["InstanceId"] for entry in found["InstanceInformationList"]]


def test_a_code_that_is_wrong_is_told_and_shown_to_nobody(machine: Machine, activation: dict[str, Any]) -> None:
    run = machine.role("-vvv", **{**activation, "agent_activation_code": "wrong-code-0123456789"})

    assert run.returncode != 0 and "could not be registered" in run.stdout
    assert "wrong-code" not in run.stdout + run.stderr
    assert nodes(machine.lab) == []


def test_a_run_that_is_not_over_is_waited_for(machine: Machine, activation: dict[str, Any]) -> None:
    machine.shell("systemd-run --quiet --collect --unit=fleet-ssm-agent sleep 20")
    run = machine.role(**{**activation, "agent_activation_code": "wrong-code-0123456789"})

    attempts = [result["attempts"] for task, _host, result in run.tasks() if task == "fleet.ssm.agent : Begin"]
    assert attempts[0] > 1 and "could not be registered" in run.stdout


def test_it_registers_once_and_the_code_is_in_no_log(machine: Machine, activation: dict[str, Any]) -> None:
    assert changed(machine.role("--check", **activation)) > 0
    assert nodes(machine.lab) == []

    run = machine.role("-vvv", **activation, agent_online_timeout=60).check()

    (node,) = nodes(machine.lab)
    assert activation["agent_activation_code"] not in run.stdout + run.stderr
    assert machine.shell(f"grep -rlF {activation['agent_activation_code']} /etc /run /var 2>/dev/null || true") == ""
    assert changed(machine.role(**activation)) == 0
    assert changed(machine.role(by="session", node_id=node, **activation)) == 0


def test_absent_deregisters_it(machine: Machine) -> None:
    (node,) = nodes(machine.lab)
    assert changed(machine.role("--check", by="session", node_id=node, agent_state="absent")) == 2
    assert nodes(machine.lab) == [node]

    refused = machine.role(agent_state="absent", ansible_ssm_external_id="guessed")
    assert "sts:AssumeRole is not allowed" in refusal(refused)
    assert machine.version() == f"ii {OLD}-1"

    assert changed(machine.role(by="session", node_id=node, agent_state="absent")) > 0

    assert nodes(machine.lab) == []
    assert machine.version() == ""
