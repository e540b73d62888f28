# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on the way of a command by Run Command: it is run once or not at all, it is said which, and nothing is left running."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity, IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.sender import Order, Sender
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions, credential_environment
from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller, Run, mux_processes, run_mux, stop_mux
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_run_command, without_bucket
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

Connect = Callable[..., DirectConnection]


def runs(node: LabNode, words: str) -> bool:
    """Whether a process with these words runs on a node."""
    return node.run(f"pgrep -f '[{words[0]}]{words[1:]}' || true").stdout != ""


def at_once(connections: list[DirectConnection], command: str) -> list[Any]:
    """The same command by all of them at the same time; errors in the place of results."""

    def run(connection: DirectConnection) -> Any:
        try:
            return connection.execute(command)
        except AnsibleError as error:
            return error

    with ThreadPoolExecutor(len(connections)) as pool:
        return list(pool.map(run, connections))


# Who sends, and who is gone


@without_bucket
def test_a_node_that_aws_refuses_keeps_no_other_one_from_the_command(lab: Lab, connect: Connect) -> None:
    (doomed,) = lab.add({"name": "doomed", "kind": "process"})
    connections = [connect(name) for name in ("web-1", "web-2", "db-1", doomed.node_id)]
    at_once(connections, "true")
    doomed.terminate()  # the mux knows it as there
    lab.reset_requests()
    *others, refused = at_once(connections, "echo whole")
    assert others == [(0, b"whole\n", b"")] * 3
    assert isinstance(refused, AnsibleConnectionFailure) and doomed.node_id in str(refused) and "nothing was run" in str(refused)
    assert lab.requests().counts["ssm:SendCommand"] <= 4, "it was tried again"


@pytest.mark.parametrize("why", ["gone", "denied"])
def test_one_bad_id_of_fifty_refuses_forty_nine_to_nobody(faults: Lab, why: str) -> None:
    nodes = faults.simulate(50, prefix="batch", hybrid=True, account=faults.account, region=faults.region)
    bad = nodes[17]
    if why == "gone":
        bad.terminate()
    else:
        faults.deny("ssm:SendCommand", resource=f"*/{bad.node_id}")
    identity = Identity(IdentityKey.of(ConnectionOptions("any", region=faults.region), credential_environment(faults.env())), {})
    faults.reset_requests()
    sent = asyncio.run(Sender(identity, logging.getLogger("test")).send(Order("AWS-RunShellScript", "true", 30, 60, "test"), [node.node_id for node in nodes]))
    for node in nodes:
        node.terminate()
    assert list(sent.refused) == [bad.node_id] and not sent.unknown
    assert [len(command.node_ids) for command in sent.commands] == [49]
    assert faults.requests().counts["ssm:SendCommand"] == 2


@by_run_command
def test_commands_of_a_mux_that_was_killed_are_cancelled_by_the_next(lab: Lab, own_connect: Connect) -> None:
    connection = own_connect()
    node, home = lab.node("web-1"), Path(os.environ["HOME"])
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(connection.execute, "sleep 3210")
        eventually(lambda: runs(node, "sleep 3210"), 20, "the command does not start")
        assert "by Run Command with AWS-RunShellScript: 1 running" in run_mux({**lab.env(), "HOME": str(home)}, "status").stdout
        (mux,) = mux_processes(home)
        os.kill(mux, signal.SIGKILL)
        with pytest.raises(AnsibleConnectionFailure, match="unknown"):
            running.result(timeout=30)
    assert connection.execute("echo next") == (0, b"next\n", b"")
    eventually(lambda: not runs(node, "sleep 3210"), 15, "the command goes on")
    stop_mux(home, lab.env())
    assert list((home / ".ansible" / "cp").rglob("*.commands-*")) == [], "a journal is left"


@pytest.mark.slow
@by_run_command
@pytest.mark.parametrize("how", ["SIGTERM", "stop"])
def test_a_mux_that_is_ended_cancels_its_commands(lab: Lab, own_connect: Connect, how: str) -> None:
    connections = [own_connect(name) for name in ("web-1", "web-2", "db-1")]
    home, nodes = Path(os.environ["HOME"]), [lab.node(name) for name in ("web-1", "web-2", "db-1")]
    at_once(connections, "true")
    lab.reset_requests()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(at_once, connections, "sleep 3211")
        eventually(lambda: all(runs(node, "sleep 3211") for node in nodes), 20, "the commands do not start")
        (mux,) = mux_processes(home)
        if how == "stop":
            stop_mux(home, lab.env())
        else:
            os.kill(mux, signal.SIGTERM)
        assert all(isinstance(result, AnsibleConnectionFailure) for result in running.result(timeout=30))
    for node in nodes:
        eventually(lambda node=node: not runs(node, "sleep 3211"), 15, "a command goes on")
    counts = lab.requests().counts
    assert counts["ssm:CancelCommand"] == counts["ssm:SendCommand"], "one call is for all nodes of a command"
    eventually(lambda: not mux_processes(home), 10, "the mux does not end")
    assert list((home / ".ansible" / "cp").rglob("*.commands-*")) == []


@pytest.mark.slow
@without_bucket
def test_two_controllers_at_once_each_get_their_own_ends(lab: Lab, own_controller: Controller, tmp_path: Path, topic: str) -> None:
    """Two jobs, two muxes, two queues on one topic."""
    other = Controller(tmp_path / "other", lab.env())
    tasks = [{"name": f"task {number}", "ansible.builtin.raw": "echo {{ who }} {{ inventory_hostname }} " + str(number)} for number in range(4)]
    names = [name for name in ("web-1", "web-2", "db-1") if (lab.node(name).account, lab.node(name).region) == (lab.account, lab.region)]
    assert len(names) > 1, "the topic tells of this account and region alone"
    running = []
    lab.reset_requests()
    began = time.monotonic()
    try:
        for who, controller in (("one", own_controller), ("other", other)):
            variables = {"ansible_ssm_events_topic": topic}
            controller.hosts({name: {**connection_variables(lab, name, "run_command-without-bucket"), **variables} for name in names})
            play = {"hosts": "all", "gather_facts": False, "strategy": "free", "vars": {"who": who}, "tasks": tasks}
            running.append((who, controller.start("ansible-playbook", "-i", str(controller.inventory), str(controller.write_playbook([play])))))
        for who, process in running:
            run = Run.of(process, timeout=120).check()
            for number in range(4):
                assert [run.result(f"task {number}", name)["stdout"] for name in names] == [f"{who} {name} {number}\n" for name in names]
        took = time.monotonic() - began
        assert took < 4 * 15, "it was not the backstop that found the ends"
        counts = lab.requests().counts
        assert counts["sqs:CreateQueue"] == 2
        looks = 2 * took / 15  # of the two muxes, in case an event is lost
        assert counts["ssm:ListCommandInvocations"] <= 1.5 * counts["ssm:SendCommand"] + looks
    finally:
        stop_mux(other.home, lab.env())


@pytest.mark.slow
@without_bucket
@pytest.mark.parametrize(
    ("action", "effect"),
    [("ssm:SendCommand", "nothing was run"), ("ssm:ListCommandInvocations", "what became of the command cannot be known"),
     ("ssm:GetCommandInvocation", "what it did cannot be known")],
)  # fmt: skip
def test_a_missing_action_is_named_and_what_that_means(faults: Lab, own_connect: Connect, action: str, effect: str) -> None:
    connection = own_connect()
    connection.plugin._connect()
    faults.deny(action)
    with pytest.raises(AnsibleConnectionFailure, match=f"allow the action {action}") as caught:
        connection.execute("head -c 4000 /dev/urandom")
    assert effect in str(caught.value)


# Busy, away, gone


@pytest.mark.slow
@without_bucket
def test_an_agent_that_is_full_gets_its_commands_later(connect: Connect) -> None:
    """Five run, five wait in the agent; AWS brings the others again."""
    began = time.monotonic()
    results = at_once([connect("web-2") for _turn in range(13)], "sleep 2; echo done")
    assert results == [(0, b"done\n", b"")] * 13
    assert time.monotonic() - began > 5


@pytest.mark.slow
@without_bucket
def test_an_agent_that_stays_away_is_not_waited_for_beyond_the_time_for_delivery(faults: Lab, connect: Connect) -> None:
    node = faults.node("web-2")
    connection = connect(node.name, ansible_ssm_delivery_timeout=30)
    connection.execute("true")
    faults.settings(delivery_second=0.1)
    node.kill_agent()
    faults.reset_requests()
    try:
        with pytest.raises(AnsibleConnectionFailure, match=r"option delivery_timeout.*nothing was run"):
            connection.execute("echo run >>/tmp/away")
    finally:
        node.start()
    assert faults.requests().counts["ssm:SendCommand"] == 1
    assert connection.execute("cat /tmp/away")[0] == 1, "nor later"


@pytest.mark.slow
@without_bucket
def test_a_node_that_is_back_in_time_runs_what_was_sent(faults: Lab, connect: Connect) -> None:
    node = faults.node("web-2")
    connection = connect(node.name)
    connection.execute("true")
    node.kill_agent()
    timer = threading.Timer(2.0, node.start)
    timer.start()
    assert connection.execute("echo back") == (0, b"back\n", b"")
    timer.join()


@pytest.fixture
def odd(lab: Lab, request: pytest.FixtureRequest) -> Any:
    """A node with options of its own."""
    (node,) = lab.add({"name": "odd", "kind": "process", "options": request.param})
    yield node
    node.terminate()


@pytest.mark.slow
@without_bucket
@pytest.mark.skipif(bool(os.environ.get("FLEET_SSM_AGENT")), reason="about our own nodes alone: an option of theirs")
@pytest.mark.parametrize("odd", [{"replies_reversed": True}], indirect=True)
def test_what_is_told_after_the_end_changes_nothing(connect: Connect, odd: LabNode) -> None:
    connection = connect(odd.node_id)
    for number in range(3):
        assert connection.execute(f"echo {number}; exit {number}") == (number, f"{number}\n".encode(), b"")


@pytest.mark.slow
@without_bucket
@pytest.mark.parametrize("odd", [{"zombie_timeout": 3.0}], indirect=True)
def test_a_command_that_reboots_its_node_is_not_run_again(connect: Connect, odd: LabNode) -> None:
    connection = connect(odd.node_id)
    connection.execute("true")
    with pytest.raises(AnsibleConnectionFailure, match=r"unknown.*not run again|not run again.*unknown"):
        connection.execute("echo run >>/var/tmp/rebooting; reboot; sleep 300")
    odd.wait_online()
    assert connection.execute("cat /var/tmp/rebooting") == (0, b"run\n", b"")


@pytest.mark.slow
@without_bucket
@pytest.mark.skipif(bool(os.environ.get("FLEET_SSM_AGENT")), reason="a machine of our own agent")
def test_a_machine_that_reboots(lab: Lab, connect: Connect) -> None:
    """With systemd: in the middle of a command, and by a status that would mean a reboot to the agent."""
    (machine,) = lab.add({"name": "rebooting", "kind": "machine", "options": {"zombie_timeout": 3.0}})
    try:
        machine.wait_online(180)
        connection = connect(machine.node_id)
        boot = connection.execute("cat /proc/sys/kernel/random/boot_id; cat /run/boot 2>/dev/null; echo here >/run/boot")
        assert connection.execute("echo once; exit 194") == (194, b"once\n", b"")
        assert connection.execute("cat /run/boot") == (0, b"here\n", b""), boot
        with pytest.raises(AnsibleConnectionFailure, match="unknown"):
            connection.execute("echo run >>/var/tmp/rebooting; systemctl reboot; sleep 300")
        machine.wait_online(180)
        assert connection.execute("cat /var/tmp/rebooting; ls /run/boot 2>&1 | wc -l") == (0, b"run\n1\n", b"")
    finally:
        machine.terminate()


# Events


@pytest.mark.slow
@without_bucket
def test_lost_and_late_events_cost_the_backstops_interval_at_most(faults: Lab, own_connect: Connect, topic: str) -> None:
    connection = own_connect(ansible_ssm_events_topic=topic)
    connection.execute("true")
    with faults.fault_events(loss=1.0):
        began = time.monotonic()
        assert connection.execute("echo lost") == (0, b"lost\n", b"")
        assert time.monotonic() - began < 20
    with faults.fault_events(delay=5.0):
        began = time.monotonic()
        assert connection.execute("echo late") == (0, b"late\n", b"")
        assert 4 < time.monotonic() - began < 10
    with faults.fault_events(delay=20.0, count=2):
        began = time.monotonic()
        assert connection.execute("echo later") == (0, b"later\n", b"")
        assert time.monotonic() - began < 20
    for number in range(3):  # while events of earlier commands still come
        time.sleep(2)
        assert connection.execute(f"echo {number}") == (0, f"{number}\n".encode(), b"")


# Become


@pytest.fixture
def doas(lab: Lab) -> Callable[[str], None]:
    """Writes doas.conf on web-2."""

    def configure(rule: str) -> None:
        lab.node("web-2").run(f"echo '{rule}' >/etc/doas.conf; chmod 600 /etc/doas.conf; id nobody")

    return configure


@pytest.mark.slow
@without_bucket
def test_become_by_a_program_that_asks_root_is_refused_in_one_sentence(connect: Connect, doas: Callable[[str], None]) -> None:
    variables = {"ansible_become_method": "community.general.doas", "ansible_become_user": "daemon"}
    doas("permit nopass root as daemon")
    for password in ({}, {"ansible_become_password": "useless", "ansible_ssm_expose_secrets": True}):
        assert connect("web-2", **variables, **password).become("id -un") == (0, b"daemon\n", b"")
    doas("permit root as daemon")
    began = time.monotonic()
    connection = connect("web-2", **variables, ansible_become_password="secret", ansible_ssm_expose_secrets=True)
    with pytest.raises(AnsibleError, match=r"doas did not let root become daemon.*nothing was run.*without a password.*route: session"):
        connection.become("echo run >>/tmp/become")
    assert time.monotonic() - began < 10
    assert connect("web-2").execute("test -e /tmp/become")[0] == 1


@pytest.mark.slow
@without_bucket
def test_sudo_that_demands_a_terminal_of_root_is_refused_in_one_sentence(lab: Lab, connect: Connect) -> None:
    lab.node("web-2").run("echo 'Defaults:root requiretty' >/etc/sudoers.d/zz-tty; chmod 440 /etc/sudoers.d/zz-tty")
    try:
        connection = connect("web-2", ansible_become_method="ansible.builtin.sudo", ansible_become_user="daemon")
        with pytest.raises(AnsibleError, match=r"sudo did not let root become daemon.*requiretty.*route: session"):
            connection.become("id -un")
    finally:
        lab.node("web-2").run("rm /etc/sudoers.d/zz-tty")
