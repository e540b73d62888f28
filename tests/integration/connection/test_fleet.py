# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many nodes at once: one mux for all forks, sessions that make room for others, and what it all costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import connection_variables, running_nodes
from tests.integration.controller import Controller, Run, mux_processes, peak_memory, stop_mux
from tests.integration.waiting import eventually
from tests.lab import Lab

MB = 1 << 20


def outputs(run: Run, task: str) -> dict[str, str]:
    return {host: result["stdout"] for name, host, result in run.check().tasks() if name == task}


def connected(controller: Controller, ids: dict[str, str]) -> set[str]:
    """The names of those nodes that the mux holds a session to."""
    found = {node["node"] for node in json.loads(controller.mux("status", "--json").stdout)["nodes"]}
    return {name for name, node_id in ids.items() if node_id in found}


@pytest.fixture
def ids(lab: Lab) -> dict[str, str]:
    """Three nodes by name."""
    return {name: lab.node(name).node_id for name in ("web-1", "web-2", "db-1")}


def test_many_forks_that_start_at_once_share_one_mux(lab: Lab, own_controller: Controller) -> None:
    nodes = [node.name for node in running_nodes(lab)]
    hosts = {f"host-{number}": nodes[number % len(nodes)] for number in range(20)}
    own_controller.hosts({host: connection_variables(lab, name) for host, name in hosts.items()})
    before = len(lab.sessions(active=True))
    run = own_controller.tasks({"name": "who", "ansible.builtin.raw": "hostname"}, arguments=("--forks", "20"))
    assert outputs(run, "who") == {host: name + "\n" for host, name in hosts.items()}
    assert len(mux_processes(own_controller.home)) == 1
    assert len(lab.sessions(active=True)) - before <= 2 * len(nodes), "names of one node share its sessions"


@pytest.mark.slow
def test_idle_sessions_used_least_recently_make_room(lab: Lab, own_controller: Controller, ids: dict[str, str]) -> None:
    own_controller.hosts({name: connection_variables(lab, name) for name in ids}, ansible_ssm_max_sessions=2, ansible_ssm_control_persist=600)

    def visit(*names: str) -> None:
        for name in names:
            run = own_controller.tasks({"name": "who", "ansible.builtin.raw": "hostname"}, hosts=name)
            assert outputs(run, "who") == {name: name + "\n"}

    visit("web-1", "web-2")
    assert connected(own_controller, ids) == {"web-1", "web-2"}
    visit("web-1", "db-1")
    assert connected(own_controller, ids) == {"web-1", "db-1"}
    visit("web-2")
    assert connected(own_controller, ids) == {"web-2", "db-1"}


@pytest.mark.slow
def test_nodes_in_use_are_not_left_for_a_limit(lab: Lab, own_controller: Controller, ids: dict[str, str]) -> None:
    own_controller.hosts({name: connection_variables(lab, name) for name in ids}, ansible_ssm_max_sessions=1)
    run = own_controller.tasks({"name": "who", "ansible.builtin.raw": "sleep 3; hostname"}, arguments=("--forks", "3"))
    assert outputs(run, "who") == {name: name + "\n" for name in ids}
    eventually(lambda: len(connected(own_controller, ids)) <= 1, 10, "sessions stay open though there are too many")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_nodes(tmp_path: Path) -> None:
    count = 50
    with Lab(count) as big:
        controller = Controller(tmp_path / "controller", big.env())
        try:
            names = [node.name for node in big.nodes()]
            controller.hosts({name: connection_variables(big, name) for name in names}, ansible_python_interpreter="/usr/bin/python3")
            tasks = [{"name": f"who-{number}", "ansible.builtin.command": "hostname"} for number in range(3)]
            run = controller.tasks(*tasks, arguments=("--forks", str(count)), timeout=600)
            for number in range(3):
                assert outputs(run, f"who-{number}") == {name: name for name in names}
            before = big.requests().total
            run = controller.tasks({"name": "again", "ansible.builtin.command": "hostname"}, arguments=("--forks", str(count)), timeout=600)
            assert outputs(run, "again") == {name: name for name in names}
            assert big.requests().total == before
            (mux,) = mux_processes(controller.home)
            assert peak_memory(mux) <= (90 + 2 + 0.3 * count) * MB, "two identities"
        finally:
            stop_mux(controller.home, big.env())
