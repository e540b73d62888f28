# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same playbooks with and without the warm interpreter: the same results, and proof that it was used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.controller import Controller, Run, stop_mux
from tests.lab import Lab

from .test_become import ASKS, PASSWORD, SETUP, under, whoami

VARYING = ("_original_basename", "start", "end", "delta", "ansible_job_id", "results_file", "ctime", "mtime", "atime", "inode", "uptime")
"""What differs between two runs of the same, whatever runs it."""

MODULES = {
    # Prints before and after its answer, on both streams.
    "fleet_junk": (
        "#!/usr/bin/python\nimport sys\nfrom ansible.module_utils.basic import AnsibleModule\nprint('before')\nsys.stderr.write('aside\\n')\n"
        "AnsibleModule(argument_spec={}).exit_json(changed=False, value='\\u00e4')\nprint('never')\n"
    ),
    "fleet_killed": (
        "#!/usr/bin/python\nimport os\nfrom ansible.module_utils.basic import AnsibleModule\nAnsibleModule(argument_spec={})\nos.kill(os.getpid(), 9)\n"
    ),
    "fleet_raises": (
        "#!/usr/bin/python\nfrom ansible.module_utils.basic import AnsibleModule\n\n\ndef main():\n    AnsibleModule(argument_spec={})\n"
        "    raise ValueError('by intention')\n\n\nif __name__ == '__main__':\n    main()\n"
    ),
    "fleet_long": (
        "#!/usr/bin/python\nimport hashlib\nfrom ansible.module_utils.basic import AnsibleModule\n"
        "module = AnsibleModule(argument_spec={'text': {'type': 'str'}})\n"
        "module.exit_json(digest=hashlib.sha256(module.params['text'].encode()).hexdigest(), back=module.params['text'][:300000])\n"
    ),
}

MEMORY = (
    "all=$(pgrep -f '[f]leet-ssm-NAME'); todo=$all; while [ -n \"$todo\" ]; do todo=$(for p in $todo; do pgrep -P $p; done); all=\"$all $todo\"; done;"
    " for p in $(printf '%s\\n' $all | sort -u); do awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup; done"
)
"""kB of each process of a session: those whose command holds the runner's name, and what they have started. Pages that several share are shared out."""

LARGE = "0123456789 \u00e4\u00f6\u00fc \U0001f600 '\"\\ " * 40_000
"""More than a million bytes."""

EVERY_DAY: list[dict[str, Any]] = [
    {"name": "command", "ansible.builtin.command": "printf '%s' 'a b'", "loop": [1, 2, 3]},
    {"name": "shell", "ansible.builtin.shell": "echo out; echo err >&2; exit 3", "ignore_errors": True},
    {"name": "unicode", "ansible.builtin.command": {"argv": ["printf", "%s\n", "\u00e4\u20ac\U0001f600 '\"\\ $HOME `id`"]}},
    {"name": "missing", "ansible.builtin.command": "no-such-program", "ignore_errors": True},
    {"name": "environment", "ansible.builtin.shell": "echo \"$FLEET\"", "environment": {"FLEET": "it's $HOME"}, "loop": [1, 2]},
    {"name": "hidden", "ansible.builtin.command": "echo hidden", "no_log": True},
    {"name": "stat", "ansible.builtin.stat": {"path": "/etc/passwd"}},
    {"name": "file", "ansible.builtin.file": {"path": "/tmp/warm", "state": "directory", "mode": "0751"}},
    {"name": "copy", "ansible.builtin.copy": {"content": "\u00e4\nb", "dest": "/tmp/warm/copy", "mode": "0640"}, "diff": True},
    {"name": "copy again", "ansible.builtin.copy": {"content": "\u00e4\nb", "dest": "/tmp/warm/copy", "mode": "0640"}, "diff": True},
    {"name": "checked", "ansible.builtin.copy": {"content": "other\n", "dest": "/tmp/warm/copy", "mode": "0600"}, "diff": True, "check_mode": True},
    {"name": "line", "ansible.builtin.lineinfile": {"path": "/tmp/warm/copy", "line": "c"}, "diff": True},
    {"name": "refused", "ansible.builtin.file": {"path": "/proc/warm", "state": "touch"}, "ignore_errors": True},
    {"name": "wrong argument", "ansible.builtin.stat": {"pat": "x"}, "ignore_errors": True},
    {"name": "slurp", "ansible.builtin.slurp": {"src": "/tmp/warm/copy"}},
    {"name": "async", "ansible.builtin.shell": "echo late", "async": 30, "poll": 1},
    {"name": "as root", "ansible.builtin.command": "id -un", "become": True, "loop": [1, 2]},
    {"name": "fails as root", "ansible.builtin.shell": "echo no; exit 4", "become": True, "ignore_errors": True},
    {"name": "group of root", "ansible.builtin.getent": {"database": "group", "key": "root"}, "become": True},
    {"name": "away", "ansible.builtin.file": {"path": "/tmp/warm", "state": "absent"}},
    {"name": "junk", "fleet_junk": {}, "loop": [1, 2]},
    {"name": "killed", "fleet_killed": {}, "ignore_errors": True},
    {"name": "killed as root", "fleet_killed": {}, "ignore_errors": True, "become": True},
    {"name": "raises", "fleet_raises": {}, "ignore_errors": True},
    {"name": "after", "ansible.builtin.command": "echo after"},
    {"name": "large", "fleet_long": {"text": LARGE}},
]


@pytest.fixture
def both(lab: Lab, own_controller: Controller) -> Iterator[Controller]:
    """A controller with a mux of its own, and with modules that misbehave."""
    library = own_controller.folder / "library"
    library.mkdir()
    for name, text in MODULES.items():
        (library / f"{name}.py").write_text(text)
    yield own_controller
    stop_mux(own_controller.home, lab.env())


def counts(controller: Controller) -> dict[str, int]:
    """How commands were carried out so far, by the only session."""
    (node,) = json.loads(controller.mux("status", "--json").stdout)["nodes"]
    return dict(node["commands"])


def wire_bytes(controller: Controller) -> int:
    (node,) = json.loads(controller.mux("status", "--json").stdout)["nodes"]
    return int(node["bytes_sent"]) + int(node["bytes_received"])


def plain(value: Any) -> Any:
    """A result without what differs from run to run."""
    if isinstance(value, dict):
        return {name: plain(of_it) for name, of_it in value.items() if name not in VARYING}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"ansible-tmp-[\d.]+-\d+-\d+|ansible_[\w.]+_payload_\w{8}|ansible-moduletmp-[\d.]+-\w{8}", "<temporary>", value)
        value = re.sub(r"BECOME-SUCCESS-[a-z]{32}", "<success>", value)
        return re.sub(r"ansible-local-\w+|\b\d{6,}\.\d+\b", "<local>", value)
    return value


def results(run: Run) -> list[tuple[str, Any]]:
    return [(name, plain(result)) for name, _host, result in run.tasks()]


def assert_same(controller: Controller, *tasks: dict[str, Any], **play: Any) -> Run:
    """Both ways give the same."""
    cold = controller.tasks(*tasks, **play, vars={"ansible_ssm_warm": False}).check()
    assert counts(controller)["warm"] == counts(controller)["errand"] == 0
    warm = controller.tasks(*tasks, **play).check()
    for (name, expected), (_same, found) in zip(results(cold), results(warm), strict=True):
        assert found == expected, name
    return warm


@pytest.mark.slow
def test_everyday_tasks_give_the_same(both: Controller) -> None:
    run = assert_same(both, *EVERY_DAY)
    assert "hidden" not in str(run.result("hidden").get("stdout", ""))
    assert run.result("async")["stdout"] == "late"
    seen = counts(both)
    assert seen["warm"] >= 30
    assert seen["errand"] >= 4
    assert "cold" in both.mux("status").stdout


@pytest.mark.slow
def test_facts_are_the_same(both: Controller) -> None:
    tasks = [{"name": "facts", "ansible.builtin.setup": {"gather_subset": ["!all", "min"]}}, {"name": "services", "ansible.builtin.service_facts": {}}]
    cold = both.tasks(*tasks, vars={"ansible_ssm_warm": False}).check()
    warm = both.tasks(*tasks).check()
    for name in ("facts", "services"):
        ours, theirs = (run.result(name)["ansible_facts"] for run in (cold, warm))
        assert {key for key in ours if plain(ours[key]) != plain(theirs[key])} <= {"ansible_date_time"}
    assert counts(both)["warm"] == 2


@pytest.mark.slow
def test_become_with_password(both: Controller) -> None:
    variables = {"ansible_become_password": PASSWORD}
    fails = {"name": "fails", "ansible.builtin.shell": "exit 5", "become": True, "vars": variables, "ignore_errors": True}
    tasks = [{**whoami(vars=variables), "loop": [1, 2]}, fails]
    run = assert_same(both, *SETUP, under(ASKS, *tasks))
    assert [item["stdout"] for item in run.result("who")["results"]] == ["root", "root"]
    assert counts(both)["warm"] == 4
    assert counts(both)["refused"] == 0


@pytest.mark.parametrize(
    ("method", "password"),
    [("sudo", "wrong"), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("su", None), ("sudo", None), ("su", "wrong")))],
)
def test_a_warm_interpreter_does_not_answer_for_a_wrong_password(both: Controller, method: str, password: str | None) -> None:
    right = whoami(become_method=method, vars={"ansible_become_password": PASSWORD})
    wrong = {"name": "wrong", "ansible.builtin.command": "id -un", "become": True, "become_method": method, "ignore_errors": True, "ignore_unreachable": True}
    if password:
        wrong["vars"] = {"ansible_become_password": password}
    again = {**right, "name": "again"}
    run = both.tasks(*SETUP, under(ASKS, right, {"name": "ends time stamps", "ansible.builtin.raw": "sudo -k"}, wrong, again), timeout=120).check()
    assert run.result("who")["stdout"] == run.result("again")["stdout"] == "root"
    message = str(run.result("wrong"))
    assert ("Incorrect" if password else "Missing" if method == "sudo" else "msg") in message
    assert "'stdout': 'root'" not in message
    assert PASSWORD not in run.stdout
    # Core does not send modules by standard input where become demands a terminal, as with su.
    assert counts(both)["warm"] >= (3 if method == "sudo" else 1)


@pytest.mark.slow
def test_sudo_that_demands_a_terminal(both: Controller) -> None:
    rule = f"Defaults:ssm-user requiretty\\n{ASKS}"
    run = both.tasks(*SETUP, under(rule, {**whoami(vars={"ansible_become_password": PASSWORD}), "loop": [1, 2]})).check()
    assert [item["stdout"] for item in run.result("who")["results"]] == ["root", "root"]


@pytest.mark.slow
def test_an_interpreter_that_cannot_be_kept_is_met_by_cold_runs(both: Controller) -> None:
    """sudo logs what passes: with a password the worker has to begin anew, and is not sent the same way twice."""
    rule = f"Defaults:ssm-user log_output\\n{ASKS}"
    run = both.tasks(*SETUP, under(rule, {**whoami(vars={"ansible_become_password": PASSWORD}), "loop": [1, 2, 3]})).check()
    assert [item["stdout"] for item in run.result("who")["results"]] == ["root"] * 3
    assert counts(both)["refused"] == 1
    assert "REPEAT" not in run.stdout


@pytest.mark.slow
def test_a_timeout_ends_what_a_warm_module_started(both: Controller) -> None:
    mark = "fleet-warm-timeout"
    gone = f"for i in 1 2 3 4 5 6 7 8 9 10; do pgrep -f '[s]leep 300; echo {mark}' >/dev/null || exit 0; sleep 1; done; exit 1"
    for become in (False, True):
        long = {"name": "long", "ansible.builtin.command": f"sh -c 'sleep 300; echo {mark}'", "timeout": 4, "ignore_errors": True, "become": become}
        tasks = [{"name": "first", "ansible.builtin.command": "true", "become": become}, long, {"name": "left", "ansible.builtin.raw": gone}]
        tasks.append({"name": "next", "ansible.builtin.command": "echo next", "become": become})
        run = both.tasks(*tasks, timeout=90).check()
        assert "imed out" in str(run.result("long"))
        assert run.result("next")["stdout"] == "next"
    assert counts(both)["cold"] == 2


def test_interrupt_ends_what_a_warm_module_started(both: Controller) -> None:
    mark = "fleet-warm-interrupt"
    look = {"name": "look", "ansible.builtin.raw": f"pgrep -f '[s]leep 300; echo {mark}'", "ignore_errors": True}
    both.tasks({"name": "first", "ansible.builtin.command": "true"}).check()
    path = both.write_playbook([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": f"sh -c 'sleep 300; echo {mark}'"}]}], "long.yml")
    process = both.start("ansible-playbook", "-i", str(both.inventory), str(path))
    try:
        seen = {**look, "register": "found", "until": "found.rc == 0", "retries": 30, "delay": 0.5}
        assert both.tasks(seen).check().result("look")["rc"] == 0
    finally:
        process.send_signal(2)
        process.communicate(timeout=30)
    gone = {**look, "register": "found", "until": "found.rc == 1", "retries": 20, "delay": 0.5, "failed_when": False}
    assert both.tasks(gone).check().result("look")["rc"] == 1


@pytest.mark.slow
def test_reset_connection_ends_the_interpreters(both: Controller) -> None:
    parent = {"ansible.builtin.shell": "ps -o ppid= -p $(ps -o ppid= -p $PPID) | tr -d ' '"}  # beyond what stands for the shell of a start
    tasks = [{"name": "before", **parent}, {"name": "same", **parent}, {"ansible.builtin.meta": "reset_connection"}, {"name": "after", **parent}]
    run = both.tasks(*tasks).check()
    before, same, after = (run.result(name)["stdout"] for name in ("before", "same", "after"))
    assert before == same != after
    ended = {"name": "ended", "ansible.builtin.raw": f"for i in 1 2 3 4 5; do kill -0 {before} 2>/dev/null || exit 0; sleep 1; done; exit 1"}
    both.tasks(ended).check()


@pytest.mark.slow
def test_a_group_given_by_one_task_is_there_in_the_next(both: Controller) -> None:
    """As with a sudo of its own for each task."""
    groups = {"ansible.builtin.command": "id -Gn", "become": True, "become_user": "fleet-a"}
    tasks = [
        {"name": "before", **groups},
        {"name": "group", "become": True, "ansible.builtin.shell": "groupadd -f fleet-warm && usermod -aG fleet-warm fleet-a"},
        {"name": "after", **groups},
        {"name": "undo", "become": True, "ansible.builtin.shell": "gpasswd -d fleet-a fleet-warm && groupdel fleet-warm"},
    ]
    run = both.tasks(*SETUP, *tasks).check()
    assert "fleet-warm" not in run.result("before")["stdout"].split()
    assert "fleet-warm" in run.result("after")["stdout"].split()


def test_a_death_of_the_interpreter_is_an_unknown_outcome(both: Controller) -> None:
    """Only when a module was running in it; else nobody notices."""
    kill = "kill -9 $(ps -o ppid= -p $(ps -o ppid= -p $PPID))"
    tasks = [
        {"name": "first", "ansible.builtin.command": "echo first"},
        {"name": "fatal", "ansible.builtin.shell": f"echo done >> /tmp/warm-fatal; {kill}; sleep 2", "ignore_unreachable": True},
        {"name": "next", "ansible.builtin.command": "cat /tmp/warm-fatal"},
        {"name": "away", "ansible.builtin.file": {"path": "/tmp/warm-fatal", "state": "absent"}},
    ]
    run = both.tasks(*tasks).check()
    assert run.result("fatal")["unreachable"] is True
    assert "not run again" in run.result("fatal")["msg"]
    assert run.result("next")["stdout"] == "done"


def test_repeated_tasks_are_short_on_the_wire(both: Controller) -> None:
    both.tasks({"name": "first", "ansible.builtin.command": "true"}).check()
    before = wire_bytes(both)
    both.tasks({"name": "again", "ansible.builtin.command": "echo {{ item }}", "loop": list(range(10))}).check()
    assert (wire_bytes(both) - before) / 10 < 4096
    assert counts(both)["warm"] == 11


@pytest.mark.slow
def test_memory_on_the_node(lab: Lab, both: Controller) -> None:
    """All processes of a session, in steady use with become: at most 25 MB of 1,024 kB, of which the runner and its interpreter have the most."""
    both.tasks(*EVERY_DAY[6:10], {"name": "many", "ansible.builtin.command": "true", "loop": list(range(5))}, become=True).check()
    raw = both.tasks({"name": "raw", "ansible.builtin.raw": "tr '\\0' ' ' < /proc/$PPID/cmdline"}).check().result("raw")["stdout"]
    name = re.search("fleet-ssm-([0-9a-f]{24})", raw)
    assert name, raw
    session = [int(size) for size in lab.node("web-1").run(MEMORY.replace("NAME", name[1])).stdout.split()]
    assert len(session) > 5
    assert 10_000 < sum(session) < 25 * 1024
