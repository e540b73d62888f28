# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks do with a connection: reset, reboot, async, time-outs, strategies, delegation, loops, the console."""

from __future__ import annotations

import getpass
import itertools
import os
import re
import subprocess
import sys

import pytest

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller, Run
from tests.integration.routes import by_both, by_both_later
from tests.integration.waiting import eventually
from tests.lab import Lab

FLEET = ("web-1", "web-2", "web-3", "web-4", "db-1", "db-2")


@pytest.fixture
def fleet(lab: Lab, route: str, controller: Controller) -> Controller:
    """The controller with all six nodes of both accounts in its inventory."""
    controller.hosts({name: connection_variables(lab, name, route) for name in FLEET}, ansible_python_interpreter="/usr/bin/python3")
    return controller


@by_both_later
def test_facts_and_interpreter_discovery(lab: Lab, route: str, controller: Controller) -> None:
    controller.hosts({"web-1": connection_variables(lab, "web-1", route)})
    facts = controller.tasks({"name": "facts", "ansible.builtin.setup": {"gather_subset": "min"}}).check().result("facts")["ansible_facts"]
    assert facts["ansible_hostname"] == "web-1"
    assert facts["ansible_system"] == "Linux"


@by_both_later
def test_modules_of_every_day(controller: Controller) -> None:
    (controller.folder / "hello.j2").write_text("Hello {{ inventory_hostname }}\n")
    tasks = [
        {"name": "folder", "ansible.builtin.file": {"path": "/tmp/every-day", "state": "directory", "mode": "0750"}},
        {"name": "copy", "ansible.builtin.copy": {"content": "no newline", "dest": "/tmp/every-day/copy", "mode": "0640"}},
        {"name": "template", "ansible.builtin.template": {"src": "hello.j2", "dest": "/tmp/every-day/template", "mode": "0644"}},
        {"name": "line", "ansible.builtin.lineinfile": {"path": "/tmp/every-day/template", "line": "more"}},
        {"name": "stat", "ansible.builtin.stat": {"path": "/tmp/every-day/copy"}},
        {"name": "fetch", "ansible.builtin.fetch": {"src": "/tmp/every-day/template", "dest": "fetched", "flat": True}},
        {"name": "gone", "ansible.builtin.file": {"path": "/tmp/every-day", "state": "absent"}},
    ]
    run = controller.tasks(*tasks).check()
    assert run.result("stat")["stat"]["size"] == len("no newline")
    assert run.result("stat")["stat"]["mode"] == "0640"
    assert (controller.folder / "fetched").read_text() == "Hello web-1\nmore\n"


def test_a_temporary_directory_that_stays_is_warned_of(lab: Lab, controller: Controller) -> None:
    """A script with become leaves there what its user may not remove. No task waits for its removal: the next one's tells it."""
    (controller.folder / "leave.sh").write_text('#!/bin/sh\nmkdir "${0%/*}/of-root"\ntouch "${0%/*}/of-root/file"\n')
    copy = {"ansible.builtin.copy": {"content": "", "dest": "/tmp/any", "mode": "0644"}}
    run = controller.tasks(copy, {"name": "leave", "ansible.builtin.script": "leave.sh", "become": True}, copy, copy).check()
    (warning,) = [warning for _name, _host, result in run.tasks() for warning in result.get("warnings", ())]
    (path,) = re.findall(r"Error deleting remote temporary files .* a task before has left (\S+)/: the command ended with 1", warning)
    node = lab.node("web-1")
    assert node.run(f"find {path} -type f; rm -r {path}").stdout == f"{path}/of-root/file\n"


@by_both_later
def test_check_and_diff(controller: Controller) -> None:
    task = {"name": "copy", "ansible.builtin.copy": {"content": "new\n", "dest": "/tmp/checked", "mode": "0644"}, "diff": True}
    run = controller.tasks(task, {"name": "stat", "ansible.builtin.stat": {"path": "/tmp/checked"}}, arguments=("--check",)).check()
    assert run.result("copy")["diff"][0]["after"] == "new\n"
    assert run.result("stat")["stat"]["exists"] is False


def test_reset_connection_gives_new_group_membership(controller: Controller) -> None:
    tasks = [
        {"name": "before", "ansible.builtin.raw": "echo $PPID"},
        {"ansible.builtin.meta": "reset_connection"},
        {"name": "after", "ansible.builtin.raw": "echo $PPID"},
        {"name": "again", "ansible.builtin.raw": "echo $PPID"},
    ]
    run = controller.tasks(*tasks).check()
    assert run.result("before")["stdout"] != run.result("after")["stdout"] == run.result("again")["stdout"]


@pytest.mark.slow
def test_wait_for_connection(lab: Lab, controller: Controller) -> None:
    (node,) = lab.add({"name": "sleeper"})
    try:
        controller.hosts({"sleeper": connection_variables(lab, node.name)}, ansible_python_interpreter="/usr/bin/python3")
        tasks = [
            {"name": "before", "ansible.builtin.raw": "touch /tmp/connected"},
            {"name": "stopped", "ansible.builtin.wait_for": {"path": str(controller.folder / "stopped")}, "delegate_to": "localhost",
             "vars": {"ansible_python_interpreter": sys.executable}},
            {"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 90, "sleep": 1}},
            {"name": "after", "ansible.builtin.command": "hostname"},
        ]  # fmt: skip
        controller.write_playbook([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
        running = controller.start("ansible-playbook", "-i", str(controller.inventory), "playbook.yml")
        eventually(lambda: node.run("test -e /tmp/connected", check=False).returncode == 0)
        node.stop()
        tried = lab.requests().counts["ssm:StartSession"]
        (controller.folder / "stopped").touch()
        eventually(lambda: lab.requests().counts["ssm:StartSession"] > tried)  # it waits, in vain so far
        assert running.poll() is None
        node.start()
        run = Run.of(running, timeout=120).check()
        assert run.result("after")["stdout"] == "sleeper"
    finally:
        node.terminate()


@by_both_later
def test_async_and_poll(controller: Controller) -> None:
    tasks = [
        {"name": "polled", "ansible.builtin.shell": "sleep 2; echo polled", "async": 60, "poll": 1},
        {"name": "started", "ansible.builtin.shell": "sleep 2; echo later", "async": 60, "poll": 0, "register": "job"},
        {"ansible.builtin.meta": "reset_connection"},
        {"name": "status", "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"}, "register": "status", "until": "status is finished",
         "retries": 20, "delay": 1},
    ]  # fmt: skip
    run = controller.tasks(*tasks).check()
    assert run.result("polled")["stdout"] == "polled"
    assert run.result("status")["stdout"] == "later"


@by_both_later
def test_background_process_outlives_its_task(controller: Controller) -> None:
    tasks = [
        {"name": "start", "ansible.builtin.shell": "nohup sh -c 'sleep 3; echo alive > /tmp/outlived' >/dev/null 2>&1 &"},
        {"name": "wait", "ansible.builtin.wait_for": {"path": "/tmp/outlived", "timeout": 20}},
        {"name": "gone", "ansible.builtin.file": {"path": "/tmp/outlived", "state": "absent"}},
    ]
    controller.tasks(*tasks).check()


def test_a_process_that_is_left_with_the_output_is_warned_of(controller: Controller) -> None:
    run = controller.tasks({"name": "left", "ansible.builtin.raw": "setsid sleep 30 & echo begun"}).check()
    result = run.result("left")
    assert result["stdout"] == "begun\n"
    assert "A process that the command has left in the background holds its output open" in result["warnings"][0]


@by_both_later
def test_task_timeout_ends_the_command(controller: Controller) -> None:
    mark = f"fleet-timeout-{os.getpid()}"
    gone = f"for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f '[s]leep 300; echo {mark}' >/dev/null || exit 0; sleep 1; done; exit 1"
    tasks = [
        {"name": "long", "ansible.builtin.command": f"sh -c 'sleep 300; echo {mark}'", "timeout": 3, "ignore_errors": True},
        {"name": "left", "ansible.builtin.raw": gone},
    ]
    run = controller.tasks(*tasks).check()
    assert "Timed out" in str(run.result("long")) or "timed out" in str(run.result("long"))


@by_both_later
def test_loops(controller: Controller) -> None:
    run = controller.tasks({"name": "loop", "ansible.builtin.command": "echo {{ item }}", "loop": [1, 2, 3]}).check()
    assert [item["stdout"] for item in run.result("loop")["results"]] == ["1", "2", "3"]


SPAN = "date +%s%N; sleep 0.3; date +%s%N"
"""Says when it ran; the nodes' clocks are one, that of this machine."""


def spans(run: Run, task: str) -> dict[str, tuple[int, int]]:
    """When the task ran, by host."""
    found = {host: tuple(map(int, result["stdout"].split())) for name, host, result in run.check().tasks() if name == task}
    return {host: (began, ended) for host, (began, ended) in found.items()}


@pytest.mark.slow
def test_serial(fleet: Controller) -> None:
    tasks = [{"name": name, "ansible.builtin.raw": SPAN} for name in ("first", "second")]
    run = fleet.tasks(*tasks, serial=2)
    first, second = spans(run, "first"), spans(run, "second")
    hosts = sorted(FLEET)  # as in the inventory
    batches = [hosts[start : start + 2] for start in range(0, len(hosts), 2)]
    for batch, following in itertools.pairwise(batches):
        assert max(second[host][1] for host in batch) < min(first[host][0] for host in following)


def test_throttle(fleet: Controller) -> None:
    run = fleet.tasks({"name": "few", "ansible.builtin.raw": SPAN, "throttle": 2}, arguments=("--forks", str(len(FLEET))))
    found = spans(run, "few")
    assert set(found) == set(FLEET)
    at_once = [sum(began <= moment < ended for began, ended in found.values()) for moment, _unused in found.values()]
    assert max(at_once) <= 2


@by_both_later
def test_strategy_free(lab: Lab, fleet: Controller) -> None:
    slow, *others = FLEET
    wait = f"[ {{{{ inventory_hostname }}}} != {slow} ] || for turn in $(seq 600); do [ -e /tmp/free-go ] && exit; sleep 0.1; done; [ ! -e /tmp/free-go ]"
    tasks = [{"name": "wait", "ansible.builtin.raw": wait}, {"name": "second", "ansible.builtin.raw": "touch /tmp/free-second"}]
    fleet.write_playbook([{"hosts": "all", "gather_facts": False, "strategy": "free", "tasks": tasks}])
    for name in FLEET:
        lab.node(name).run("rm -f /tmp/free-*")
    running = fleet.start("ansible-playbook", "-i", str(fleet.inventory), "playbook.yml", "--forks", str(len(FLEET)))
    eventually(lambda: all(lab.node(name).run("test -e /tmp/free-second", check=False).returncode == 0 for name in others))
    assert lab.node(slow).run("test -e /tmp/free-second", check=False).returncode == 1
    lab.node(slow).run("touch /tmp/free-go")
    Run.of(running, timeout=60).check()
    lab.node(slow).run("test -e /tmp/free-second")


def test_the_audit_trail_says_who_runs_what(lab: Lab, own_controller: Controller) -> None:
    known = {session["session_id"] for session in lab.sessions()}
    task = {"name": "Say who is there", "ansible.builtin.raw": "hostname"}
    own_controller.tasks(task, {"name": "Once more", "ansible.builtin.raw": "hostname"}, name="Web servers").check()
    user = getpass.getuser()
    expected = f"fleet.ssm: {user} runs playbook.yml, play 'Web servers', task 'Say who is there'"
    assert {session["reason"] for session in lab.sessions() if session["session_id"] not in known} == {expected}


@pytest.mark.slow
def test_a_hybrid_node(lab: Lab, controller: Controller) -> None:
    (node,) = lab.add({"name": "on-premises", "hybrid": True, "tags": {"Place": "cellar"}})
    try:
        assert re.fullmatch(r"mi-[0-9a-f]{17}", node.node_id)
        variables = {"ansible_connection": "fleet.ssm.ssm", "ansible_ssm_region": node.region}
        names = {"by-id": {"ansible_host": node.node_id}, "by-tag": {"ansible_host": "tag:Place=cellar"}, node.name: {}}
        controller.hosts({host: {**variables, **of_host} for host, of_host in names.items()}, ansible_python_interpreter="/usr/bin/python3")
        tasks = [{"name": "who", "ansible.builtin.command": "hostname"}, {"name": "root", "ansible.builtin.command": "id -un", "become": True}]
        run = controller.tasks(*tasks).check()
        for host in names:
            assert (run.result("who", host)["stdout"], run.result("root", host)["stdout"]) == ("on-premises", "root")
    finally:
        node.terminate()


@by_both_later
def test_delegation_across_accounts(lab: Lab, fleet: Controller) -> None:
    accounts = {lab.node(name).account for name in FLEET}
    assert len(accounts) == 2
    here = next(name for name in FLEET if lab.node(name).account == lab.account)
    there = next(name for name in FLEET if lab.node(name).account != lab.account)
    run = fleet.tasks({"name": "delegated", "ansible.builtin.command": "hostname", "delegate_to": there}, hosts=here).check()
    assert run.result("delegated")["stdout"] == there


@by_both_later
def test_environment_and_working_folder(controller: Controller) -> None:
    tasks = [
        {"name": "environment", "ansible.builtin.shell": "printf %s \"$FLEET\"", "environment": {"FLEET": "it's \"quoted\" $HOME"}},
        {"name": "folder", "ansible.builtin.command": "pwd", "args": {"chdir": "/usr/share"}},
        {"name": "home", "ansible.builtin.raw": "pwd; echo $HOME; id -un; echo $USER"},
    ]
    run = controller.tasks(*tasks).check()
    assert run.result("environment")["stdout"] == "it's \"quoted\" $HOME"
    assert run.result("folder")["stdout"] == "/usr/share"
    home, variable, user, name = run.result("home")["stdout"].split()
    assert home == variable
    assert user == name


def test_synchronize_is_refused_with_an_alternative(controller: Controller) -> None:
    run = controller.tasks({"name": "sync", "ansible.posix.synchronize": {"src": "./", "dest": "/tmp/x"}, "ignore_errors": True, "ignore_unreachable": True})
    message = str(run.result("sync"))
    assert "synchronize" in message
    assert "ansible.builtin.copy" in message


def test_windows_nodes_are_refused_with_an_alternative(controller: Controller) -> None:
    task = {"name": "raw", "ansible.builtin.raw": "hostname", "vars": {"ansible_shell_type": "powershell"}, "ignore_errors": True}
    message = str(controller.tasks(task).result("raw"))
    assert "Windows" in message
    assert "Run Command" in message


@pytest.mark.slow
def test_console(controller: Controller) -> None:
    process = subprocess.Popen(
        ["ansible-console", "-i", str(controller.inventory), "all"], cwd=controller.folder, text=True,
        env={**controller.environment, "ANSIBLE_STDOUT_CALLBACK": "default"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _unused = process.communicate("command echo one\ncommand hostname\nraw echo three; exit 3\nexit\n", timeout=120)
    answers = re.findall(r"web-1 \| (\w+) \| rc=(\d+) >>\n(.*)\n", output)
    assert answers == [("CHANGED", "0", "one"), ("CHANGED", "0", "web-1"), ("FAILED", "3", "three")], output


def test_output_can_be_piped_while_the_mux_goes_on(controller: Controller) -> None:
    path = controller.write_playbook("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.command: hostname\n")
    done = subprocess.run(f"ansible-playbook -i {controller.inventory} {path} | tee log", shell=True, cwd=controller.folder, env=controller.environment,
                          capture_output=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0
    assert b'"stdout": "web-1"' in done.stdout


def test_steady_tasks_cost_no_api_call(lab: Lab, controller: Controller) -> None:
    controller.tasks({"name": "first", "ansible.builtin.command": "true"}).check()
    before = lab.requests().total
    controller.tasks({"name": "steady", "ansible.builtin.command": "echo {{ item }}", "loop": list(range(10))}).check()
    assert lab.requests().total == before


@pytest.mark.slow
@by_both
def test_reboot(controller: Controller) -> None:
    tasks = [
        {"name": "before", "ansible.builtin.raw": "cat /proc/sys/kernel/random/boot_id"},
        {"name": "reboot", "become": True, "ansible.builtin.reboot": {"reboot_timeout": 120}},
        {"name": "after", "ansible.builtin.raw": "cat /proc/sys/kernel/random/boot_id"},
    ]
    run = controller.tasks(*tasks, timeout=300).check()
    assert run.result("reboot")["rebooted"] is True
    assert run.result("before")["stdout"] != run.result("after")["stdout"]
