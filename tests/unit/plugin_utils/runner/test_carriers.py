# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output over more than one way, any of which may fail at any time."""

from __future__ import annotations

import os
import random
import shlex
import stat
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import PTY, RunnerClient, RunnerSettings
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Estranged, Exited, GotFile, PutFile

from .local_node import LocalNode

DATA = random.Random(3).randbytes(3_000_000)


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "data").write_bytes(DATA)
    return str(tmp_path / "data")


def test_ready_by_the_fifo_alone(tmp_path: Path) -> None:
    """Nothing waits for the agent's first second of silence on a PTY."""
    client = RunnerClient()
    with LocalNode(client, carrier=True, env={"TMPDIR": str(tmp_path)}) as node:
        node.deaf = {PTY}
        assert node.run("echo hi").stdout == b"hi\n"
        assert list(tmp_path.iterdir()) == []  # names are needed no more


@pytest.mark.parametrize("head_start", [-0.3, 0.3])
def test_either_session_may_be_first(head_start: float) -> None:
    client = RunnerClient()
    with LocalNode(client, start=False) as node:
        steps = [node.open_carrier, node.start]
        for step in steps if head_start < 0 else reversed(steps):
            step()
            time.sleep(abs(head_start))
        node.until(lambda: node.ready is not None)
        node.deaf = {PTY}
        node.run("true")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_reader_of_another_user_says_so(tmp_path: Path) -> None:
    client = RunnerClient()
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[: len(tmp_path.parts) - 3]:
        folder.chmod(0o755)
    (tmp_path / f".fleet-ssm-{client.nonce}").mkdir(mode=0o700)
    number, command = client.open_carrier()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    said = subprocess.run(shlex.split(command), env=environment, user="nobody", cwd="/", capture_output=True, timeout=20, check=False)
    assert said.returncode == 4
    assert client.receive(said.stdout, number) == [Estranged()]


def test_the_fifo_is_ours_alone(tmp_path: Path) -> None:
    client = RunnerClient(nonce="abc")
    with LocalNode(client, env={"TMPDIR": str(tmp_path)}) as node:
        node.run("true")
        directory = tmp_path / ".fleet-ssm-abc"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_ISFIFO((directory / "1").stat().st_mode)
        assert (directory / "1").stat().st_mode & 0o077 == 0
    deadline = time.monotonic() + 10
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()


def test_a_directory_that_another_made_is_not_used(tmp_path: Path) -> None:
    """Someone who saw the name first gets nothing, and the work goes on over the PTY."""
    trap = tmp_path / ".fleet-ssm-abc"
    trap.mkdir(mode=0o777)
    os.mkfifo(trap / "1")
    fd = os.open(trap / "1", os.O_RDWR | os.O_NONBLOCK)
    with LocalNode(RunnerClient(nonce="abc"), carrier=True, env={"TMPDIR": str(tmp_path)}) as node:
        assert node.run("echo secret").stdout == b"secret\n"
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
    os.close(fd)


def test_a_forged_announcement_gives_no_power(tmp_path: Path) -> None:
    """Frames of somebody without the key are noise."""
    client = RunnerClient(nonce="abc", key=1)
    forger = RunnerClient(nonce="abc", key=2)
    assert client.receive(b"\nfleet-ssm:abc:ready:python:3.9.9\n") == []
    sent = client.data_to_send()
    assert client.receive(b"anything\n00000000\n" + forger.data_to_send()) == []
    assert sent


def test_the_carrier_dies_in_the_middle(file: str) -> None:
    with LocalNode(RunnerClient(), carrier=True) as node:
        id_ = node.client.get(file)
        node.until(lambda: len(node.result(id_).stdout) > 1_000_000)
        node.kill_carrier(1)
        assert isinstance(node.wait(id_).end, GotFile)
        assert node.result(id_).stdout == DATA
        assert node.run("echo on").stdout == b"on\n"


def test_the_runner_notices_by_itself(file: str) -> None:
    """The reader is gone, and the client does not know yet."""
    with LocalNode(RunnerClient(), carrier=True) as node:
        id_ = node.client.get(file)
        node.until(lambda: len(node.result(id_).stdout) > 1_000_000)
        node.kill_carrier(1, tell=False)
        assert isinstance(node.wait(id_).end, GotFile)
        assert node.result(id_).stdout == DATA


def test_another_carrier_after_the_first(file: str) -> None:
    with LocalNode(RunnerClient(), carrier=True) as node:
        for number in (2, 3):
            node.run("true")
            node.kill_carrier(number - 1)
            assert node.run("echo on").stdout == b"on\n"
            assert node.open_carrier() == number
            node.until(lambda number=number: number in node.client._announced)  # type: ignore[misc]
            node.run("true")
            node.deaf = {PTY}
            assert node.get(file).stdout == DATA
            node.deaf = set()


def test_a_carrier_that_was_not_planned(file: str) -> None:
    with LocalNode(RunnerClient(RunnerSettings(fifo=False))) as node:
        node.run("true")
        node.open_carrier()
        node.until(lambda: 1 in node.client._announced)
        node.run("true")
        node.deaf = {PTY}
        assert node.get(file).stdout == DATA


def test_a_carrier_falls_silent(file: str) -> None:
    """Its session hangs: the second ping without an answer goes back to the PTY."""
    with LocalNode(RunnerClient(), carrier=True) as node:
        node.run("true")
        id_ = node.client.get(file)
        node.until(lambda: len(node.result(id_).stdout) > 500_000)
        node.deaf = {1}
        node.client.ping()
        for _turn in range(5):
            node.step(0.1)
        node.client.ping()
        assert isinstance(node.wait(id_).end, GotFile)
        assert node.result(id_).stdout == DATA


@pytest.mark.parametrize("loss", [0.002, 0.05])
def test_a_carrier_that_loses_pieces(loss: float, file: str) -> None:
    """Whatever the agent drops is sent again, and nothing comes twice."""
    with LocalNode(RunnerClient(), carrier=True, loss=loss) as node:
        for i in range(60):
            result = node.run(f"cat; echo {i} >&2; exit {i}", b"%d" % i, patience=0.3)
            assert (result.stdout, result.stderr, result.rc) == (b"%d" % i, b"%d\n" % i, i)
        id_ = node.client.exec(f"head -c 1000000 {file}")
        assert isinstance(node.wait(id_, patience=0.3).end, Exited)
        assert node.result(id_).stdout == DATA[:1_000_000]


def test_an_agent_that_takes_no_output_for_a_while(tmp_path: Path) -> None:
    """Nobody reads the PTY: the runner still reads its input, so that the agent can acknowledge it."""
    with LocalNode(RunnerClient()) as node:
        node.run("true")
        loud = node.client.exec("yes")
        node.paused = True
        id_ = node.client.put(str(tmp_path / "f"), size=900_000)
        node.client.stdin(id_, bytes(900_000))
        node.client.stdin_eof(id_)
        deadline = time.monotonic() + 20
        while not (tmp_path / "f").exists() and time.monotonic() < deadline:
            node.step(0.05)
        assert (tmp_path / "f").stat().st_size == 900_000
        node.paused = False
        assert isinstance(node.wait(id_).end, PutFile)
        node.client.cancel(loud)
        node.wait(loud)
