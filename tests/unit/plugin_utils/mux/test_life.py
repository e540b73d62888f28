# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of the mux's process: started once, replaced when it must be, gone when it should be, and it inherits nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.client import MuxClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import ANY_CODE, FrameType
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.start import _Stale, greet
from tests.integration.controller import MUX
from tests.unit.processes import wait_gone

WORKER = """
import sys, json
sys.path.insert(0, sys.argv[1])
from plugins.plugin_utils.mux.client import MuxClient
from plugins.plugin_utils.mux.protocol import FrameType
client = MuxClient.connect(sys.argv[2], patience=30)
print(json.dumps(client.ask(FrameType.STATUS)))
if len(sys.argv) > 3:
    sys.stdin.read()
"""

BUSY = """
def _busy(self, *arguments, greet=WorkerConnection._greet):
    import time
    until = time.monotonic() + 22
    while time.monotonic() < until:
        pass
    greet(self, *arguments)


WorkerConnection._greet = _busy
"""


class Installation:
    """A copy of the collection's code, to be changed, and a folder for its socket."""

    def __init__(self, folder: Path) -> None:
        self.plugins = folder / "plugins"
        for name in ("plugin_utils", "module_utils"):
            shutil.copytree(MUX.parents[1] / name, self.plugins / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.directory = folder / "cp"

    def worker(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.plugins.parent), str(self.directory), *arguments],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """Start the mux if need be, and ask it."""
        stdout, stderr = self.worker().communicate(timeout=60)
        assert stdout, stderr
        found: dict[str, Any] = json.loads(stdout)
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, str(self.plugins / "plugin_utils" / "mux"), "--control-path-dir", str(self.directory), *arguments]
        return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    def processes(self) -> set[int]:
        mark = os.fsencode(str(self.plugins / "plugin_utils" / "mux")) + b"\0serve"
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "cmdline").read_bytes():
                        found.add(int(entry.name))
                except OSError:
                    continue
        return found


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    for pid in made.processes():
        os.kill(pid, signal.SIGKILL)


def test_twenty_workers_start_one_mux(installation: Installation) -> None:
    workers = [installation.worker() for _turn in range(20)]
    answers = [worker.communicate(timeout=90) for worker in workers]
    assert all(stdout for stdout, _unused in answers), answers
    assert len({json.loads(stdout)["pid"] for stdout, _unused in answers}) == 1
    assert len(installation.processes()) == 1


def test_a_crashed_mux_is_replaced(installation: Installation) -> None:
    first = installation.status()["pid"]
    os.kill(first, signal.SIGKILL)
    assert wait_gone(first)
    assert installation.status()["pid"] != first


def test_a_stale_socket_is_replaced(installation: Installation) -> None:
    status = installation.status()
    os.kill(status["pid"], signal.SIGKILL)
    assert wait_gone(status["pid"])
    os.unlink(status["socket"])
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(status["socket"])
    assert installation.status()["socket"] == status["socket"]


def test_a_mux_of_other_code_is_replaced_and_ends(installation: Installation) -> None:
    first = installation.status()["pid"]
    with (installation.plugins / "plugin_utils" / "mux" / "errors.py").open("a") as source:
        source.write("# an upgrade\n")
    second = installation.status()["pid"]
    assert second != first
    assert wait_gone(first)
    assert installation.status()["pid"] == second, "the old one did not take the new one's socket away"


def greeted(status: dict[str, Any], digest: str = ANY_CODE) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(20)
    peer.connect(status["socket"])
    greet(peer, digest)
    return peer


def test_a_mux_that_is_replaced_still_serves_whom_it_has_welcomed(installation: Installation) -> None:
    status = installation.status()
    worker = MuxClient(greeted(status), patience=20)
    with pytest.raises(_Stale):
        greeted(status, "other code")
    deadline = time.monotonic() + 20
    while os.path.exists(status["socket"]):
        assert time.monotonic() < deadline, "it goes on as if nothing had happened"
        time.sleep(0.01)
    assert worker.ask(FrameType.STATUS)["pid"] == status["pid"], "its first request was still on its way"
    worker.close()
    assert wait_gone(status["pid"])


def test_stop_and_sigterm_end_it_and_take_the_socket_away(installation: Installation) -> None:
    status = installation.status()
    assert str(status["pid"]) in installation.command("stop").stdout
    assert wait_gone(status["pid"])
    assert not os.path.exists(status["socket"])
    assert "not running" in installation.command("stop").stdout
    again = installation.status()
    os.kill(again["pid"], signal.SIGTERM)
    assert wait_gone(again["pid"])
    assert not os.path.exists(again["socket"])


def test_it_inherits_nothing(installation: Installation) -> None:
    reader, writer = os.pipe()
    secret = {"AWS_SECRET_ACCESS_KEY": "hidden", "HTTPS_PROXY": "http://u:hidden@p", "SOME_TOKEN": "hidden"}
    worker = installation.worker(pass_fds=(writer,), env={**os.environ, **secret}, start_new_session=True)
    os.close(writer)
    stdout, _unused = worker.communicate(timeout=60)
    pid = json.loads(stdout)["pid"]
    assert os.read(reader, 1) == b"", "the mux holds a descriptor of whoever started it"
    os.close(reader)
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {os.devnull}
    assert os.getsid(pid) not in (os.getsid(0), worker.pid)
    assert b"hidden" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert "Umask:\t0077\n" in Path(f"/proc/{pid}/status").read_text(), "its children can enter the folders that they make"


def test_only_its_user_can_use_it(installation: Installation) -> None:
    path = installation.status()["socket"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_a_stranger_who_gets_at_the_socket_is_refused(installation: Installation) -> None:
    status = installation.status()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(status["socket"])
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.settimeout(10)
        assert stranger.recv(100) == b""
    assert installation.status()["pid"] == status["pid"]


def test_status_and_stop_find_the_mux_of_another_copy(installation: Installation, tmp_path: Path) -> None:
    other = Installation(tmp_path / "other")
    installation.directory = other.directory = tmp_path.parent / "cp"  # no longer path than a socket's may be
    pid = other.status()["pid"]
    assert json.loads(installation.command("status", "--json").stdout)["pid"] == pid
    own = installation.status()["pid"]
    assert json.loads(installation.command("status", "--json").stdout)["pid"] == own != pid
    assert f"mux {own} has ended" in installation.command("stop").stdout
    assert f"mux {pid} has ended" in installation.command("stop").stdout
    assert "not running" in installation.command("stop").stdout


@pytest.mark.slow
def test_a_mux_that_hangs_is_replaced(installation: Installation) -> None:
    first = installation.status()["pid"]
    os.kill(first, signal.SIGSTOP)
    assert installation.status()["pid"] != first
    assert wait_gone(first)


@pytest.mark.slow
def test_of_a_mux_that_hangs_status_says_so_and_stop_ends_it(installation: Installation) -> None:
    pid = installation.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    done = installation.command("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pid {pid}) does not answer" in done.stderr
    done = installation.command("stop")
    assert (done.returncode, done.stdout) == (0, f"the mux {pid} did not answer, and was killed\n")
    assert wait_gone(pid)
    assert "not running" in installation.command("status").stdout


@pytest.mark.slow
def test_a_mux_that_is_slow_to_answer_but_works_is_not_killed(installation: Installation) -> None:
    with (installation.plugins / "plugin_utils" / "mux" / "worker.py").open("a") as source:
        source.write(BUSY)
    status = installation.status()
    assert status["uptime"] > 20 and installation.command("stop").returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be someone else")
def test_what_another_user_runs_at_its_place_is_sent_nothing(installation: Installation) -> None:
    path = installation.status()["socket"]
    assert "has ended" in installation.command("stop").stdout
    impostor = subprocess.Popen(
        [sys.executable, "-c", "import os, socket, sys\nmine = socket.socket(socket.AF_UNIX); mine.bind(sys.argv[1]); os.setuid(65534); mine.listen()\n"
         "print(flush=True); print(mine.accept()[0].recv(100))", path], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert impostor.stdout is not None
    impostor.stdout.readline()
    done = installation.command("status")
    assert "process of uid 65534, not yours" in done.stderr
    assert impostor.communicate(timeout=20)[0] == "b''\n"
