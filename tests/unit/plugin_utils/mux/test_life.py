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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import MUX
from tests.unit.processes import wait_gone

WORKER = """
import sys, json
sys.path.insert(0, sys.argv[1])
from plugin_utils.mux.client import MuxClient
from plugin_utils.mux.protocol import FrameType
client = MuxClient.connect(sys.argv[2], patience=30)
print(json.dumps(client.ask(FrameType.STATUS)))
if len(sys.argv) > 3:
    sys.stdin.read()
"""


class Installation:
    """A copy of the collection's code, to be changed, and a folder for its socket."""

    def __init__(self, folder: Path) -> None:
        self.plugins = folder / "plugins"
        shutil.copytree(MUX.parent, self.plugins / "plugin_utils", ignore=shutil.ignore_patterns("__pycache__"))
        self.directory = folder / "cp"

    def worker(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.plugins), str(self.directory), *arguments],
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


@pytest.mark.slow
def test_a_mux_that_hangs_is_replaced(installation: Installation) -> None:
    first = installation.status()["pid"]
    os.kill(first, signal.SIGSTOP)
    assert installation.status()["pid"] != first
    assert wait_gone(first)
