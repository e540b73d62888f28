# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an interpreter is kept, replaced, refused, or lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Exited, Failed
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm import payload
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm.requests import NOT_STARTED, UNKNOWN, WarmRequests
from tests.unit.processes import gone, wait_gone

from ..local_node import Result
from . import core
from .node import WarmNode
from .test_ends import plain
from .test_probe import compare


def zygotes(node: WarmNode) -> list[int]:
    """The interpreters that are kept: descendants of the node's session which read their program from a socket. A child just made looks like its parent."""
    found: dict[int, int] = {}
    for process in psutil.Process(node.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError, IndexError):
            if Path(process.cmdline()[0]).name.startswith("python") and process_is_kept(process.pid):
                found[process.pid] = process.ppid()
    return [pid for pid, parent in found.items() if parent not in found]


def process_is_kept(process: int) -> bool:
    links = [os.readlink(f"/proc/{process}/fd/{fd}") for fd in os.listdir(f"/proc/{process}/fd")]
    return links.count("/dev/null") >= 3 and any(link.startswith("socket:") for link in links)


def ping(node: WarmNode, become: str | None = None, interpreter: str = core.INTERPRETER, **options: str) -> Result:
    return node.warm(core.command(become, interpreter=interpreter, **options), core.payload("ping", interpreter=interpreter))


def code(result: Result) -> str | None:
    return result.end.code if isinstance(result.end, Failed) else None


@pytest.fixture
def node() -> Iterator[WarmNode]:
    with WarmNode() as node:
        yield node


def test_one_interpreter_for_all(node: WarmNode) -> None:
    for _task in range(3):
        assert ping(node).rc == 0
    (kept,) = zygotes(node)
    assert ping(node).rc == 0
    assert zygotes(node) == [kept]


def test_two_at_once_start_one(node: WarmNode) -> None:
    ids = [node.submit(core.command(), core.payload("ping")) for _task in range(3)]
    for id_ in ids:
        node.client.stdin_eof(id_)
    assert [node.wait(id_).rc for id_ in ids] == [0, 0, 0]
    assert len(zygotes(node)) == 1


def test_secrets_keep_apart(node: WarmNode) -> None:
    for secret in (b"one", b"other"):
        id_ = node.submit(core.command(), core.payload("ping"), secret=secret)
        node.client.stdin_eof(id_)
        assert node.wait(id_).rc == 0
    assert len(zygotes(node)) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_third_users_is_gone_before_a_module_of_others_begins(node: WarmNode) -> None:
    """A user who has a process cannot be removed."""
    assert ping(node).rc == 0
    mine = zygotes(node)
    assert ping(node, "sudo", become_user="nobody").rc == 0
    (theirs,) = set(zygotes(node)) - set(mine)
    looked = node.warm(core.command(), core.payload("stat", {"path": f"/proc/{theirs}"}))
    assert json.loads(looked.stdout)["stat"] == {"exists": False}
    assert zygotes(node) == mine


def test_ended_with_the_runner() -> None:
    with WarmNode() as node:
        assert ping(node).rc == 0
        (kept,) = zygotes(node)
        node.client.shutdown()
        with pytest.raises(EOFError):
            node.until(lambda: False)
    assert wait_gone(kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("method", "options"), [("sudo", {}), ("su", {"become_flags": "-s /bin/sh"})])
def test_kept_with_its_terminal(node: WarmNode, method: str, options: dict[str, str]) -> None:
    """What begins with a terminal is kept with it: it is not hung up after its first module."""
    def run() -> Result:
        return node.warm(core.command(method, become_user="nobody", **options), core.payload("ping"), tty=True)

    assert run().rc == 0
    kept = zygotes(node)
    assert [run().rc for _turn in range(5)] == [0] * 5
    assert zygotes(node) == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_refused_while_the_terminal_is_in_use(node: WarmNode) -> None:
    """Only for the moment: its parts are not lost, it can be cancelled, and afterwards the interpreter serves as before."""
    def submit(module: str, arguments: dict[str, str]) -> int:
        id_ = node.submit(core.command("sudo", become_user="nobody"), core.payload(module, arguments), tty=True)
        node.client.stdin_eof(id_)
        return id_

    assert node.wait(submit("ping", {})).rc == 0
    running = submit("ends", {"how": "subprocess", "argument": "sleep 3"})
    for _turn in range(4):
        node.step(0.05)
    refused = submit("stat", {"path": "/etc/passwd"})
    cancelled = submit("ping", {})
    node.client.cancel(cancelled)
    assert code(node.wait(refused)) == "EBUSY"
    assert code(node.wait(cancelled)) == "ECANCELED"
    assert isinstance(node.wait(running).end, Exited)
    assert node.wait(submit("stat", {"path": "/etc/passwd"})).rc == 0
    assert node.wait(submit("ping", {})).rc == 0


def test_cancelled_and_refused_at_once_is_not_started_anew(node: WarmNode, tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.mkdir()
    command = core.command(environment={"PYTHONPATH": str(path)})
    assert node.warm(command, core.payload("ping")).rc == 0
    (path / "appeared.py").touch()  # a new interpreter will be needed
    id_ = node.submit(command, core.payload("ends", {"how": "subprocess", "argument": f"touch {tmp_path}/ran"}))
    node.client.stdin_eof(id_)
    node.queue()
    node.client.cancel(id_)
    result = node.wait(id_)
    assert code(result) == "ECANCELED" or result.rc == 143, "cancelled before, or while, the new interpreter started"
    assert not (tmp_path / "ran").exists()


def test_death_while_a_module_runs(node: WarmNode) -> None:
    assert ping(node).rc == 0
    (kept,) = zygotes(node)
    id_ = node.submit(core.command(), core.payload("ends", {"how": "subprocess", "argument": "sleep 5"}))
    node.client.stdin_eof(id_)
    node.until(lambda: bool(psutil.Process(kept).children()))
    os.kill(kept, signal.SIGKILL)
    assert code(node.wait(id_)) == UNKNOWN
    assert ping(node).rc == 0
    assert zygotes(node) != [kept]


def test_death_between_modules(node: WarmNode) -> None:
    assert ping(node).rc == 0
    (kept,) = zygotes(node)
    os.kill(kept, signal.SIGKILL)
    node.until(lambda: gone(kept))
    assert ping(node).rc == 0


def test_change_of_what_is_read_at_start(node: WarmNode, tmp_path: Path) -> None:
    """A library appears on the path: as for an interpreter started afterwards, it is there at once."""
    environment = {"PYTHONPATH": str(tmp_path)}
    run = {"how": "exit", "argument": "__import__('appeared').status"}
    for expected in (1, 5, 5):
        result = node.warm(core.command(environment=environment), core.payload("ends", run))
        assert result.rc == expected
        (tmp_path / "appeared.py").write_text("status = 5\n")


def test_change_of_the_interpreter_that_is_meant(node: WarmNode, tmp_path: Path) -> None:
    """As by alternatives, or an upgrade to the next version: the old one is still there, and is not what is asked for."""
    link, other = tmp_path / "python3", tmp_path / "other"
    link.symlink_to(os.path.realpath(core.INTERPRETER))
    shutil.copy2(link, other)
    run = {"how": "exit", "argument": f"__import__('os').path.samefile('/proc/self/exe', {str(other)!r})"}
    for expected in (0, 1, 1):
        result = node.warm(core.command(interpreter=str(link)), core.payload("ends", run, interpreter=str(link)))
        assert result.rc == expected
        link.unlink()
        link.symlink_to(other)


def test_change_of_openssls_configuration(node: WarmNode, tmp_path: Path) -> None:
    """It is read before the first module."""
    configuration = tmp_path / "openssl.cnf"
    environment = {"OPENSSL_CONF": str(configuration)}
    ciphers = "sum(cipher['name'].startswith('TLS_') for cipher in __import__('ssl').create_default_context().get_ciphers())"
    for expected in (3, 1, 1):
        result = node.warm(core.command(environment=environment), core.payload("ends", {"how": "exit", "argument": ciphers}))
        assert result.rc == expected
        configuration.write_text("openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nCiphersuites=TLS_AES_128_GCM_SHA256\n")


def test_old_ones_go(node: WarmNode, tmp_path: Path) -> None:
    """An interpreter that takes no more jobs ends when its last one has."""
    environment = {"PYTHONPATH": str(tmp_path)}
    wait = f"until [ -e {tmp_path}/enough ]; do sleep 0.05; done"
    id_ = node.submit(core.command(environment=environment), core.payload("ends", {"how": "subprocess", "argument": wait}))
    node.client.stdin_eof(id_)
    node.until(lambda: len(zygotes(node)) == 1)
    (old,) = zygotes(node)
    (tmp_path / "new.py").touch()
    assert node.warm(core.command(environment=environment), core.payload("ping")).rc == 0
    assert old in zygotes(node)
    (tmp_path / "enough").touch()
    assert node.wait(id_).rc == 0
    node.until(lambda: old not in zygotes(node))


@pytest.mark.parametrize("name", ["datetime.py", "resource"])
def test_files_that_the_wrapper_would_import(node: WarmNode, tmp_path: Path, name: str) -> None:
    cwd = str(tmp_path)
    for expected in (True, False):
        id_ = node.submit(core.command(), core.payload("ping"), cwd=cwd)
        node.client.stdin_eof(id_)
        result = node.wait(id_)
        assert isinstance(result.end, Exited if expected else Failed)
        (tmp_path / name).mkdir(exist_ok=True)
    assert code(result) in NOT_STARTED


def test_directory_was_replaced(node: WarmNode, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    for expected in (False, True):
        id_ = node.submit(core.command(), core.payload("ping"), cwd=str(folder))
        node.client.stdin_eof(id_)
        assert (code(node.wait(id_)) in NOT_STARTED) is expected
        folder.rename(tmp_path / "old")
        folder.mkdir()


def test_environment_of_a_task_must_come_twice() -> None:
    requests, recipes = WarmRequests(RunnerClient()), payload.Recipes()
    for environment, expected in [({}, True), ({"A": "1"}, False), ({"A": "2"}, False), ({"A": "1"}, True), ({}, True)]:
        job = payload.split(core.command(environment=environment), core.payload("ping"), recipes)
        assert job is not None
        assert requests.worthwhile(job) is expected


def test_missing_interpreter_is_as_ever(node: WarmNode) -> None:
    command, data = core.command(interpreter="/nowhere/python3"), core.payload("ping", interpreter="/nowhere/python3")
    cold, warm = node.cold(command, data), node.warm(command, data)
    assert (warm.rc, warm.stdout, warm.stderr) == (cold.rc, cold.stdout, cold.stderr) != (0, b"", b"")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_refused_by_sudo_is_as_ever(node: WarmNode) -> None:
    command, data = core.command("sudo", become_user="no-such-user"), core.payload("ping")
    cold, warm = node.cold(command, data), node.warm(command, data)
    assert (warm.rc, warm.stdout, warm.stderr) == (cold.rc, cold.stdout, cold.stderr) != (0, b"", b"")


def test_what_the_node_forgot_is_sent_again(node: WarmNode) -> None:
    assert ping(node).rc == 0
    other = WarmNode()
    with other:
        other.requests._known.update(node.requests._known)  # what a runner that was full would not have any more
        result = ping(other)
        assert code(result) in NOT_STARTED
        assert isinstance(result.end, Failed)
        other.requests.failed(result.end)
        assert ping(other).rc == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_the_program_is_not_said_before_become_has_accepted(node: WarmNode, tmp_path: Path, password: str) -> None:
    """What a program that asks for a password reads is the password alone, be it right or wrong."""
    log, asking = tmp_path / "log", tmp_path / "sudo"
    asking.write_text(
        f"#!/bin/sh\nshift $(($# - 3))\nprintf 'password: ' >&2\n"
        f'while read -r line; do printf "%s\\n" "$line" >> {log}; [ "$line" = right ] && exec "$@"; printf \'again: \' >&2; done\nexit 1\n'
    )
    asking.chmod(0o755)
    command = core.command("sudo", become_exe=str(asking), become_pass="right")
    id_ = node.submit(command, core.payload("ping"), secret=b"1")
    node.client.stdin(id_, password.encode() + b"\n")
    if password == "wrong":
        node.until(lambda: id_ in node.results and b"again: " in node.results[id_].stderr)
        node.step(0.3)
        node.client.stdin_eof(id_)
        node.client.cancel(id_)
    result = node.wait(id_)
    assert isinstance(result.end, Exited)
    assert (result.rc == 0) is (password == "right")
    assert log.read_text() == password + "\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_input_and_output_that_sudo_logs_stay_logged(node: WarmNode, tmp_path: Path) -> None:
    # Of a user whom no test beside this one becomes.
    rules = Path("/etc/sudoers.d/fleet-ssm-test")
    rules.write_text(f'Defaults>daemon log_output, iolog_dir="{tmp_path}"\n')
    try:
        for _turn in range(2):
            result = ping(node, "sudo", become_user="daemon")
            assert code(result) in NOT_STARTED
        assert isinstance(result.end, Failed)
        assert result.end.message.endswith("its output passes through another program")
        node.requests.failed(result.end)
        job = payload.split(core.command("sudo", become_user="daemon"), core.payload("ping"), node.recipes)
        assert job is not None
        assert not node.requests.worthwhile(job)
        assert node.requests.worthwhile(job, b"another password")
    finally:
        rules.unlink()
    assert zygotes(node) == []


def test_the_reason_why_one_cannot_be_kept_is_said(node: WarmNode, tmp_path: Path) -> None:
    interpreter = tmp_path / "python3"
    interpreter.write_text(f"#!{sys.executable}\nimport os, sys\nos.setpgid(0, 0)\nos.execv({core.INTERPRETER!r}, sys.argv)\n")
    interpreter.chmod(0o755)
    result = ping(node, interpreter=str(interpreter))
    assert code(result) in NOT_STARTED
    assert isinstance(result.end, Failed)
    assert result.end.message.endswith("cannot be kept: SystemError: a process group that a job's cannot be made like")


def _pythons() -> list[str]:
    found = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"), key=str)
    return [str(path) for path in found] or [sys.executable]


@pytest.mark.slow
@pytest.mark.parametrize("interpreter", _pythons())
def test_interpreters(node: WarmNode, interpreter: str) -> None:
    """Those are kept which can run what this ansible-core sends; others are refused, whatever they would say of it."""
    version = tuple(map(int, Path(interpreter).resolve().name.removeprefix("python").split(".")))
    for module in ("ends", "probe", "ends"):
        command, data = core.command(interpreter=interpreter), core.payload(module, {"how": "exit", "argument": "3"}, interpreter=interpreter)
        cold, warm = node.cold(command, data), node.warm(command, data)
        if version < (3, 9):
            assert code(warm) in NOT_STARTED
        elif module == "probe" and cold.rc == 0:
            compare(cold, warm)
        else:
            assert plain(warm) == plain(cold)
