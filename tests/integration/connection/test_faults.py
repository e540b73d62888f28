# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between controller and node: the run goes on, or says what is unknown; nothing runs twice or stays."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerSettings
from tests.endpoints import black_hole, refusing_endpoint, silent_endpoint
from tests.integration.conftest import connection_variables, running_nodes
from tests.integration.controller import Controller, Run, mux_processes
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_both_later
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

Connect = Callable[..., DirectConnection]


@pytest.fixture(autouse=True)
def no_fault_is_left(lab: Lab) -> Iterator[None]:
    yield
    lab.clear_faults()
    lab.clear_permissions()


@pytest.fixture
def node(lab: Lab) -> LabNode:
    """The node that is harmed; another one than most tests use. Nothing was counted on it."""
    harmed = lab.node("web-2")
    harmed.run("rm -f /tmp/count-*")
    return harmed


def later(seconds: float, action: Callable[[], Any]) -> threading.Timer:
    """Do something in the middle of a command."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def counting(mark: str, seconds: float = 4) -> str:
    """A command that writes a line to a file, takes its time, and says so; the line shows how often it ran."""
    return f"echo run >> /tmp/count-{mark}; for i in 1 2 3 4 5 6 7 8; do echo $i; sleep {seconds / 8}; done; echo done"


def runs(node: LabNode, mark: str) -> int:
    return len(node.run(f"cat /tmp/count-{mark} 2>/dev/null || true").stdout.splitlines())


WHOLE = (0, b"1\n2\n3\n4\n5\n6\n7\n8\ndone\n", b"")


# The run goes on


@pytest.mark.parametrize("side", [pytest.param("client", marks=pytest.mark.slow), "agent"])
def test_websocket_cut(lab: Lab, connect: Connect, node: LabNode, side: str) -> None:
    mark = f"cut-{side}"
    connection = connect(node.name)
    connection.execute("true")
    timers = [later(delay, lambda: lab.cut(side, node=node.node_id)) for delay in (0.5, 1.5, 3)]
    assert connection.execute(counting(mark)) == WHOLE
    for timer in timers:
        timer.join()
    assert runs(node, mark) == 1


@pytest.mark.parametrize("side", [pytest.param("client", marks=pytest.mark.slow), "agent"])
def test_websocket_cut_in_much_output(lab: Lab, connect: Connect, node: LabNode, side: str) -> None:
    """What was under way comes by another session: an agent sends it again itself, but at 10 KB/s."""
    digest = node.run("[ -e /tmp/much ] || head -c 20000000 /dev/urandom > /tmp/much; chmod 644 /tmp/much; sha256sum < /tmp/much").stdout.split()[0]
    connection = connect(node.name)
    connection.execute("true")
    timers = [later(delay, lambda: lab.cut(side, node=node.node_id)) for delay in (0.4, 0.8)]
    started = time.monotonic()
    status, output, _unused = connection.execute("cat /tmp/much")
    took = time.monotonic() - started
    for timer in timers:
        timer.join()
    assert (status, hashlib.sha256(output).hexdigest()) == (0, digest)
    assert took < 30, "by the session with the terminal alone it would be more"


@by_both_later
def test_agent_restart_in_mid_command(connect: Connect, node: LabNode) -> None:
    connection = connect(node.name)
    connection.execute("true")
    timer = later(1, node.restart_agent)
    assert connection.execute(counting("restart", 6)) == WHOLE
    timer.join()
    assert runs(node, "restart") == 1


@pytest.mark.slow
def test_controllers_network_away_for_thirty_seconds(lab: Lab, connect: Connect, node: LabNode) -> None:
    connection = connect(node.name)
    connection.execute("true")
    timer = later(1, lambda: lab.network_away(30, "client"))
    assert connection.execute(counting("away", 8)) == WHOLE
    timer.join()
    assert runs(node, "away") == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hang", "cut"])
def test_a_command_given_while_the_network_is_away(lab: Lab, own_connect: Connect, node: LabNode, mode: str) -> None:
    """Half a minute without network ends no run, whatever was or was not under way when it began."""
    mark = f"given-{mode}"
    connections = [own_connect(name) for name in (node.name, "web-1")]
    for connection in connections:
        connection.execute("true")
    time.sleep(7)  # so that the node must be asked for a sign of life
    began = time.monotonic()
    lab.network_away(30, "client", mode=mode)
    time.sleep(4)
    assert connections[0].execute(counting(mark, 1)) == WHOLE
    assert 29 < time.monotonic() - began < 50
    assert runs(node, mark) == 1
    assert connections[1].execute("echo there") == (0, b"there\n", b"")


@pytest.mark.slow
@by_both_later
def test_commands_longer_than_the_timeout(connect: Connect, node: LabNode) -> None:
    """The time-out is for silence of the channel, not for how long a command takes or is silent."""
    connection = connect(node.name, ansible_ssm_timeout=5)
    assert connection.execute("echo run >> /tmp/count-long; sleep 12; echo done") == (0, b"done\n", b"")
    assert runs(node, "long") == 1


@pytest.mark.slow
def test_throttled_and_failing_api(lab: Lab, own_controller: Controller) -> None:
    lab.throttle("ssm:StartSession", rate=1, burst=1)
    lab.fault_calls("ssm:*", status=500, ratio=0.3)
    names = [node.name for node in running_nodes(lab)]
    own_controller.hosts({name: connection_variables(lab, name) for name in names}, ansible_python_interpreter="/usr/bin/python3")
    run = own_controller.tasks({"name": "command", "ansible.builtin.command": "hostname"}, arguments=("--forks", "6")).check()
    assert {host: result["stdout"] for _unused, host, result in run.tasks()} == {name: name for name in names}


@pytest.mark.slow
@by_both_later
def test_credentials_that_expire_in_a_run(lab: Lab, own_controller: Controller, route: str) -> None:
    there = next(node for node in running_nodes(lab) if node.account != lab.account)
    own_controller.hosts({there.name: connection_variables(lab, there.name, route)}, ansible_python_interpreter="/usr/bin/python3")
    own_controller.tasks({"name": "before", "ansible.builtin.command": "true"}).check()
    assert lab.expire_credentials(role="FleetOperator") > 0
    tasks = [{"name": "same session", "ansible.builtin.command": "true"}, {"ansible.builtin.meta": "reset_connection"},
             {"name": "new session", "ansible.builtin.command": "hostname"}]  # fmt: skip
    assert own_controller.tasks(*tasks).check().result("new session")["stdout"] == there.name


# The outcome is unknown, and said so


@pytest.mark.slow
def test_node_that_crashes_in_mid_command(connect: Connect, node: LabNode) -> None:
    connection = connect(node.name, ansible_ssm_timeout=10)
    connection.execute("true")
    timer = later(1, node.crash)
    try:
        with pytest.raises(AnsibleConnectionFailure, match=r"(?is)unknown.*not (run|started) again|not (run|started) again.*unknown"):
            connection.execute("echo run >> /var/tmp/count-crash; sleep 20; echo done")
    finally:
        timer.join()
        node.start()
    assert len(node.run("cat /var/tmp/count-crash").stdout.splitlines()) == 1
    assert connection.execute("echo back") == (0, b"back\n", b"")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "away", "seconds"), [("killed", 20, 30), ("killed", 90, 100), ("cut-off", 90, 100)])
def test_agent_away(lab: Lab, connect: Connect, node: LabNode, how: str, away: float, seconds: float) -> None:
    """As long as systemd may wait before it starts an agent again. The run goes on, or its outcome is unknown: running twice or waiting for ever is wrong."""
    mark = f"{how}-{away}"
    connection = connect(node.name)
    connection.execute("true")
    go, back = (node.kill_agent, node.start) if how == "killed" else (lambda: lab.network_away(away, "agent", node=node.node_id), node.wait_online)
    timers = [later(1, go), later(1 + away, back)]
    began = time.monotonic()
    try:
        assert connection.execute(counting(mark, seconds)) == WHOLE
    except AnsibleConnectionFailure as error:
        assert "unknown" in str(error)
    assert time.monotonic() - began < seconds + 30
    for timer in timers:
        timer.join()
    assert connection.execute("echo back") == (0, b"back\n", b"")
    assert runs(node, mark) == 1


# Unreachable, at once and with the reason


def unreachable(controller: Controller, variables: dict[str, Any], *more: dict[str, Any]) -> str:
    """The message of a host that cannot be reached; in time, seen from the task. Of ``more`` hosts the same is true at the same time."""
    hosts = {"lost": variables, **{f"lost-{number}": of_host for number, of_host in enumerate(more)}}
    controller.hosts(hosts)
    run: Run = controller.tasks({"name": "ping", "ansible.builtin.ping": {}}, arguments=("--forks", str(len(hosts))), timeout=60)
    results = {host: result for _unused, host, result in run.tasks()}
    assert set(results) == set(hosts), run.stderr
    assert all(result.get("unreachable") is True for result in results.values()), results
    (task,) = (task["task"] for play in run.report["plays"] for task in play["tasks"])
    start, end = (datetime.datetime.fromisoformat(task["duration"][moment]) for moment in ("start", "end"))
    assert (end - start).total_seconds() < 10, task
    return str(results["lost"]["msg"])


@pytest.mark.parametrize(
    ("state", "words"),
    [("stopped", "stopped"), ("terminated", "terminated"), ("never registered", "never"), ("agent gone", "lost|not connected|ConnectionLost|offline")],
)
def test_nodes_that_cannot_be_reached(lab: Lab, controller: Controller, state: str, words: str) -> None:
    kind = {"never registered": "none"}.get(state, "process")
    (node,) = lab.add({"name": f"lost-{state.replace(' ', '-')}", "kind": kind})
    try:
        {"stopped": node.stop, "terminated": node.terminate, "agent gone": node.kill_agent}.get(state, lambda: None)()
        message = unreachable(controller, connection_variables(lab, node.node_id))
        assert node.node_id in message
        assert any(word.lower() in message.lower() for word in words.split("|")), message
    finally:
        if state != "terminated":
            node.terminate()


@pytest.mark.slow
def test_many_dead_hosts_at_once(lab: Lab, own_controller: Controller) -> None:
    nodes = lab.add(*({"name": f"dead-{number}", "kind": "process", "state": "stopped"} for number in range(8)))
    try:
        message = unreachable(own_controller, *(connection_variables(lab, node.node_id) for node in nodes))
        assert f"the instance {nodes[0].node_id} is stopped" in message
    finally:
        for node in nodes:
            node.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [refusing_endpoint, black_hole, silent_endpoint])
def test_an_endpoint_that_is_out_of_reach(lab: Lab, own_controller: Controller, kind: Callable[[], AbstractContextManager[str]]) -> None:
    with kind() as url:
        variables = [{**connection_variables(lab, name), "ansible_ssm_endpoint_url": url} for name in ("web-1", "web-2", "db-1")]
        assert url in unreachable(own_controller, *variables)


@by_both_later
def test_an_instance_that_does_not_exist(lab: Lab, controller: Controller, route: str) -> None:
    variables = {**connection_variables(lab, "web-1", route), "ansible_ssm_instance_id": "i-0123456789abcdef0"}
    assert "i-0123456789abcdef0" in unreachable(controller, variables)


def test_a_name_that_is_not_unique_lists_the_candidates(lab: Lab, controller: Controller) -> None:
    node = lab.node("web-1")
    (twin,) = lab.add({"name": "twin", "kind": "simulated", "tags": {"Name": "web-1"}, "account": node.account, "region": node.region})
    try:
        variables = {**connection_variables(lab, "web-1"), "ansible_ssm_instance_id": "web-1"}
        message = unreachable(controller, variables)
        assert node.node_id in message
        assert twin.node_id in message
    finally:
        twin.terminate()


def test_a_missing_permission_is_named(lab: Lab, own_controller: Controller) -> None:
    lab.deny("ssm:StartSession")
    assert "ssm:StartSession" in unreachable(own_controller, connection_variables(lab, "web-1"))


def test_unknown_credentials(lab: Lab, own_controller: Controller) -> None:
    variables = {**connection_variables(lab, "web-1"), "ansible_ssm_access_key": "AKIAUNKNOWN000000000", "ansible_ssm_secret_key": "x" * 40}
    message = unreachable(own_controller, variables)
    assert "xxxxxxxx" not in message


# Nothing is left open


def open_ids(lab: Lab) -> set[str]:
    return {session["session_id"] for session in lab.sessions(active=True)}


@pytest.mark.slow
def test_control_persist_ends_mux_and_sessions(lab: Lab, own_controller: Controller) -> None:
    before = open_ids(lab)
    own_controller.hosts({"web-1": connection_variables(lab, "web-1")}, ansible_ssm_control_persist=2)
    own_controller.tasks({"name": "command", "ansible.builtin.command": "true"}).check()
    opened = open_ids(lab) - before
    assert opened
    eventually(lambda: not opened & open_ids(lab), 15, "sessions stay open after control_persist")


def test_openings_that_fail_leave_no_session(lab: Lab, own_controller: Controller) -> None:
    before = open_ids(lab)
    variables = connection_variables(lab, "web-1")
    assert "runs as ssm-user, not as root" in unreachable(own_controller, {**variables, "ansible_ssm_run_as": "root"})
    eventually(lambda: open_ids(lab) <= before, 10, "the session of another user than wanted stays open")


@pytest.mark.slow
def test_a_mux_that_is_stopped_while_it_opens_leaves_no_session(lab: Lab, own_controller: Controller) -> None:
    """What AWS was just starting is terminated; the run goes on by another mux."""
    before, ended = open_ids(lab), len(lab.sessions(active=False))
    names = ["web-1", "web-2", "db-1"]
    own_controller.hosts({name: connection_variables(lab, name) for name in names}, ansible_ssm_document="AWS-StartInteractiveCommand")

    def asked() -> bool:
        if not mux_processes(own_controller.home):
            return False
        asking = json.loads(own_controller.mux("status", "--json").stdout)["identities"]
        return sum(who["api_calls"].get("StartSession", 0) for who in asking) == len(names)

    with lab.fault_calls("ssm:StartSession", delay=4.0, count=len(names)):
        path = own_controller.write_playbook("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: hostname\n")
        running = own_controller.start("ansible-playbook", "-i", str(own_controller.inventory), str(path))
        eventually(asked, 20, "AWS is not asked for sessions")
        assert own_controller.mux("stop").returncode == 0
        assert len(lab.sessions(active=False)) == ended + len(names), "AWS started each, and each was terminated"
        said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert own_controller.mux("stop").returncode == 0
    eventually(lambda: open_ids(lab) <= before, 5, "a session stays open")


@by_both_later
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_controller_that_is_ended_leaves_no_command(lab: Lab, own_controller: Controller, how: signal.Signals) -> None:
    node = lab.node("web-1")
    seconds = 3000 + how
    path = own_controller.write_playbook(f"- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: sleep {seconds}\n")
    process = own_controller.start("ansible-playbook", "-i", str(own_controller.inventory), str(path))
    find = f"pgrep -f '[s]leep {seconds}' || true"
    eventually(lambda: node.run(find).stdout != "", 30, "the command does not start")
    os.killpg(process.pid, how)
    process.communicate(timeout=30)
    eventually(lambda: node.run(find).stdout == "", 15, "the command goes on")


def kill_mux(controller: Controller) -> None:
    """What becomes of it when its container ends."""
    (pid,) = mux_processes(controller.home)
    os.kill(pid, signal.SIGKILL)


def test_a_killed_mux_is_replaced(own_controller: Controller) -> None:
    for _turn in range(2):
        own_controller.tasks({"name": "command", "ansible.builtin.command": "true"}).check()
        kill_mux(own_controller)


@pytest.mark.slow
def test_a_killed_mux_leaves_nothing_on_the_node(lab: Lab, own_controller: Controller) -> None:
    """It can end nothing: the runner does, after its dead-man time.

    An agent whose client is gone does not look at a terminal: the session that has one waits for the service's idle time-out.
    """
    node, before = lab.node("web-1"), open_ids(lab)
    path = own_controller.write_playbook("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: sleep 3333\n")
    process = own_controller.start("ansible-playbook", "-i", str(own_controller.inventory), str(path))

    def there() -> str:
        return node.run("pgrep -af '[s]leep 3333|[.]fleet-ssm-' || true").stdout

    def left() -> list[str]:
        return [session["document"] for session in lab.sessions(active=True) if session["session_id"] not in before]

    eventually(lambda: "sleep 3333" in there(), 30, "the command does not start")
    assert ".fleet-ssm-" in there()
    eventually(lambda: len(left()) == 2, 10, "there is no session for output")
    kill_mux(own_controller)
    said, _unused = process.communicate(timeout=30)
    assert "unknown" in said
    time.sleep(RunnerSettings().dead_man)
    eventually(lambda: not there(), 30, "the command goes on, or the runner")
    eventually(lambda: left() == ["AWS-StartInteractiveCommand"], 10, "the session for output stays open")


@by_both_later
def test_output_without_end_can_be_cancelled(lab: Lab, controller: Controller) -> None:
    node = lab.node("web-1")
    run = controller.tasks({"name": "yes", "ansible.builtin.raw": "yes fleet-endless", "timeout": 4, "ignore_errors": True}, timeout=60)
    assert "timed out" in str(run.result("yes")).lower()
    eventually(lambda: node.run("pgrep -f '[f]leet-endless' || true").stdout == "", 15, "the command goes on")


@pytest.mark.slow
def test_reset_does_not_kill_another_workers_command(lab: Lab, controller: Controller) -> None:
    variables = connection_variables(lab, "web-1")
    controller.hosts({"one": variables, "two": variables}, ansible_python_interpreter="/usr/bin/python3")
    plays = [{"hosts": "all", "gather_facts": False, "strategy": "free", "tasks": [
        {"name": "long", "ansible.builtin.raw": "sleep 5; echo whole", "when": "inventory_hostname == 'one'"},
        {"name": "short", "ansible.builtin.raw": "sleep 1", "when": "inventory_hostname == 'two'"},
        {"ansible.builtin.meta": "reset_connection", "when": "inventory_hostname == 'two'"},
        {"name": "after", "ansible.builtin.raw": "echo after", "when": "inventory_hostname == 'two'"},
    ]}]  # fmt: skip
    run = controller.playbook(plays).check()
    assert run.result("long", "one")["stdout"] == "whole\n"
    assert run.result("after", "two")["stdout"] == "after\n"


# Under lasting harm


@pytest.mark.parametrize("tasks", [pytest.param(12, id="12-tasks"), pytest.param(2000, id="2000-tasks", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_tasks_under_loss_cuts_and_throttling(lab: Lab, own_controller: Controller, tasks: int) -> None:
    """Two in a hundred frames are lost each way, websockets are cut, the API is throttled: each task runs once, and says the truth."""
    names = [node.name for node in running_nodes(lab)]
    own_controller.hosts({name: connection_variables(lab, name) for name in names}, ansible_python_interpreter="/usr/bin/python3")
    rounds = -(-tasks // len(names))
    mark = f"/tmp/endurance-{tasks}"
    lab.fault(loss=0.02)
    lab.throttle("ssm:ResumeSession", rate=2, burst=2)
    lab.throttle("ssm:StartSession", rate=2, burst=2)
    ending = threading.Event()

    def cut() -> None:
        while not ending.wait(3):
            lab.cut("client")
            if not ending.wait(3):
                lab.cut("agent")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        loop = {"name": "append", "ansible.builtin.shell": f"echo {{{{ item }}}} >> {mark}; echo {{{{ item }}}}-{{{{ inventory_hostname }}}}", "loop":
                list(range(rounds))}  # fmt: skip
        run = own_controller.tasks(loop, arguments=("--forks", str(len(names))), timeout=1700).check()
    finally:
        ending.set()
        cutter.join()
        lab.clear_faults()
    for _unused, host, result in run.tasks():
        assert [item["stdout"] for item in result["results"]] == [f"{number}-{host}" for number in range(rounds)]
        assert lab.node(host).run(f"cat {mark}; rm {mark}").stdout.split() == [str(number) for number in range(rounds)]
