# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people ask the mux: status, stop, and doctor with its verdict on each layer that can fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller, mux_processes
from tests.lab import Lab


@pytest.fixture(autouse=True)
def everything_is_allowed_afterwards(lab: Lab) -> Iterator[None]:
    yield
    lab.clear_permissions()


# Status and stop


def test_without_a_mux_status_and_stop_say_so(own_controller: Controller) -> None:
    for command in ("status", "stop"):
        done = own_controller.mux(command)
        assert (done.returncode, done.stdout) == (0, "the mux is not running\n")
    assert json.loads(own_controller.mux("status", "--json").stdout) == {"running": False}
    assert mux_processes(own_controller.home) == []


def test_status_shows_what_is_open(lab: Lab, own_controller: Controller) -> None:
    own_controller.tasks({"name": "who", "ansible.builtin.raw": "hostname"}).check()
    status = json.loads(own_controller.mux("status", "--json").stdout)
    (node,) = status["nodes"]
    assert status["running"] is True
    assert (node["node"], node["region"], node["user"], node["running"]) == (lab.node("web-1").node_id, "eu-central-1", "ssm-user", 0)
    text = own_controller.mux("status").stdout
    for part in (lab.node("web-1").node_id, node["session"], "ssm-user", "StartSession"):
        assert part in text


def test_stop_ends_the_mux_its_sessions_and_commands(lab: Lab, own_controller: Controller) -> None:
    node = lab.node("web-1")
    path = own_controller.write_playbook("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: echo ready > /tmp/stop-me; sleep 4711\n")
    running = own_controller.start("ansible-playbook", "-i", str(own_controller.inventory), str(path))
    node.run("for i in $(seq 100); do [ -e /tmp/stop-me ] && exit; sleep 0.1; done; exit 1")
    sessions = {session["session_id"] for session in lab.sessions(active=True)}
    (mux,) = json.loads(own_controller.mux("status", "--json").stdout)["nodes"]
    assert mux["session"] in sessions
    done = own_controller.mux("stop")
    assert done.returncode == 0
    assert "has ended" in done.stdout
    assert mux_processes(own_controller.home) == []
    assert mux["session"] not in {session["session_id"] for session in lab.sessions(active=True)}
    node.run("for i in $(seq 50); do pgrep -f '[s]leep 4711' >/dev/null || exit 0; sleep 0.1; done; exit 1")
    stdout, _unused = running.communicate(timeout=30)
    assert "unreachable" in stdout
    assert "unknown" in stdout


# Doctor


def doctor(controller: Controller, host: str, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status and what it said."""
    if environment is not None:
        controller.environment = {**controller.environment, **environment}
    done: subprocess.CompletedProcess[str] = controller.mux("doctor", host, *arguments)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_doctor_of_a_healthy_node(lab: Lab, own_controller: Controller) -> None:
    for host, arguments in (("tag:Name=web-1", ()), ("web-1", ("-i", str(own_controller.inventory)))):
        status, text = doctor(own_controller, host, *arguments)
        layers = [line.partition(":")[0] for line in text.splitlines()]
        assert (status, layers) == (0, ["libraries", "credentials", "target", "registration", "session", "python", "command"])
        assert lab.node("web-1").node_id in text
    assert mux_processes(own_controller.home) == [], "it needs no mux and starts none"


def test_doctor_by_a_role(lab: Lab, own_controller: Controller) -> None:
    node = lab.node("web-3")
    role = f"arn:aws:iam::{node.account}:role/FleetOperator"
    status, text = doctor(own_controller, node.node_id, "--role-arn", role)
    assert status == 0
    assert "assumed-role/FleetOperator/fleet-ssm-" in text


def verdict(text: str) -> str:
    """The last line, which must be the failure."""
    last = text.splitlines()[-1]
    assert last.startswith("FAILED:"), text
    return last


def test_doctor_on_credentials(lab: Lab, own_controller: Controller) -> None:
    unknown = {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN000000000", "AWS_SECRET_ACCESS_KEY": "x" * 40}
    status, text = doctor(own_controller, "web-1", environment=unknown)
    assert status == 1
    assert "credentials: AWS does not accept the credentials of the access key AKIA…0000" in verdict(text)
    assert "xxxx" not in text
    status, text = doctor(own_controller, "web-1", "--profile", "nope")
    assert status == 1
    assert "nope" in verdict(text)


@pytest.mark.parametrize("action", ["ssm:StartSession", "ssm:DescribeInstanceInformation"])
def test_doctor_on_a_missing_permission(lab: Lab, own_controller: Controller, action: str) -> None:
    lab.deny(action)
    status, text = doctor(own_controller, "web-1")
    assert status == 1
    assert f"allow the action {action}" in verdict(text)


@pytest.mark.slow
def test_doctor_on_a_node_whose_agent_is_gone(lab: Lab, own_controller: Controller) -> None:
    (node,) = lab.add({"name": "gone", "kind": "process"})
    try:
        node.kill_agent()
        status, text = doctor(own_controller, node.node_id)
        assert status == 1
        assert node.node_id in verdict(text)
        assert "agent" in verdict(text)
    finally:
        node.terminate()


def test_doctor_on_a_stopped_instance(lab: Lab, own_controller: Controller) -> None:
    (node,) = lab.add({"name": "halted", "kind": "process", "state": "stopped"})
    try:
        status, text = doctor(own_controller, node.node_id)
        assert status == 1
        assert f"the instance {node.node_id} is stopped" in verdict(text)
    finally:
        node.terminate()


def test_doctor_on_a_name_that_nobody_has(own_controller: Controller) -> None:
    status, text = doctor(own_controller, "no-such-node")
    assert status == 1
    assert "target: no managed node has the tag Name=no-such-node" in verdict(text)


def test_doctor_on_a_missing_document(own_controller: Controller) -> None:
    status, text = doctor(own_controller, "web-1", "--document", "Nope")
    assert status == 1
    assert "session: no session document can be used" in verdict(text)
    assert "the session document Nope does not exist" in verdict(text)


def test_doctor_on_a_node_without_python(lab: Lab, own_controller: Controller) -> None:
    (node,) = lab.add({"name": "bare", "python": False})
    try:
        status, text = doctor(own_controller, node.node_id)
        assert status == 0
        assert "only raw and script work" in text
    finally:
        node.terminate()


def test_doctor_without_a_region(lab: Lab, own_controller: Controller) -> None:
    own_controller.environment = {name: value for name, value in own_controller.environment.items() if "REGION" not in name}
    status, text = doctor(own_controller, "web-1")
    assert status == 1
    assert "region: none is known" in verdict(text)


@pytest.mark.slow
def test_doctor_reads_an_inventory(lab: Lab, own_controller: Controller) -> None:
    own_controller.hosts({"alias": {**connection_variables(lab, "web-3"), "ansible_ssm_document": "Nope"}})
    status, text = doctor(own_controller, "alias", "-i", str(own_controller.inventory))
    assert status == 1
    assert "assumed-role/FleetOperator" in text
    assert "Nope does not exist" in verdict(text)
