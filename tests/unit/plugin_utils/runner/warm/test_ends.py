# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""However a module ends, status and output are those of an interpreter of its own."""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from pathlib import Path

import pytest

from ..local_node import Result
from . import core
from .node import WarmNode

ENDS = {
    "exit": ["0", "3", "256", "-1", "None", "'text to stderr'", "b'bytes'", "(1, 2)", "True", "2**70", "object"],
    "raise": ["ValueError('x')", "KeyboardInterrupt()", "SystemExit()", "GeneratorExit()", "BaseException('b')", "ExceptionGroup('g', [OSError(2, 'two')])"],
    "os._exit": ["0", "7"],
    "signal": ["9", "11", "15", "1", "2", "13"],
    "atexit": [None],
    "thread": [None],
    "fork": [None],
    "subprocess": ["echo out; echo err >&2; exit 4", "cat; ls /proc/self/fd; ulimit -a; umask; cd; pwd"],
    "closed": [None],
    "finaliser": [None],
    "finaliser elsewhere": [None],
    "finaliser in a cycle": [None],
    "finaliser of a small one": [None],
    "generator": [None],
    "file": [None],
    "told": ["__main__"],
    "stream": [None],
    "closed stream": [None],
    "daemon thread": [None],
    "hook": [None],
    "alarm": [None],
}


def plain(result: Result) -> tuple[int, bytes, bytes]:
    out, err = (re.sub(rb"_payload_[a-z0-9_]{8}/", b"_payload/", text) for text in (result.stdout, result.stderr))
    return result.rc, re.sub(rb"0x[0-9a-f]+", b"0x", out), re.sub(rb"0x[0-9a-f]+", b"0x", err)


@pytest.mark.parametrize(("how", "argument"), [(how, argument) for how, arguments in ENDS.items() for argument in arguments])
def test_end(node: WarmNode, how: str, argument: str | None) -> None:
    cold, warm = node.both("ends", {"how": how, "argument": argument})
    assert plain(warm) == plain(cold)


def test_extension_that_leaves_something(node: WarmNode, tmp_path: Path) -> None:
    """SQLite puts its log into the database, and removes it, when the connection goes."""
    for run in (node.cold, node.warm):
        folder = tmp_path / run.__name__
        folder.mkdir()
        result = run(core.command(), core.payload("ends", {"how": "database", "argument": str(folder / "data")}))
        assert (result.rc, os.listdir(folder)) == (0, ["data"])


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))])
def test_not_taken_apart(node: WarmNode, user: str | None) -> None:
    """Where nothing asks for it, modules are not cleared. A callback that passes for a harmless one can tell."""
    options = {"become": "sudo", "become_user": user} if user else {}
    for _task in range(2):
        cold, warm = node.both("ends", {"how": "told", "argument": "logging"}, **options)
        assert (cold.rc, warm.rc) == (0, 0)
        assert cold.stdout.endswith(b"told\n")
        assert b"told" not in warm.stdout


def test_respawn(node: WarmNode) -> None:
    cold, warm = node.both("respawns", {"interpreter": sys.executable})
    assert plain(warm) == plain(cold)
    assert json.dumps({"executable": sys.executable, "found": sys.executable})[1:-1].encode() in warm.stdout


def test_daemon_outlives(node: WarmNode, tmp_path: Path) -> None:
    for run in (node.cold, node.warm):
        file = tmp_path / run.__name__
        result = run(core.command(), core.payload("ends", {"how": "daemon", "argument": str(file)}))
        assert result.rc == 0
        file.with_name(f"{file.name}.seen").touch()
        node.until(file.exists)


def test_modules_do_not_see_one_another(node: WarmNode) -> None:
    """In random order, several at once, some of which leave traces in their process."""
    order = random.Random(7)
    jobs = [order.choice(["leave", "look", "look", "exit"]) for _job in range(24)]
    expected = {"leave": b"left\n", "exit": b"", "look": node.cold(core.command(), core.payload("ends", {"how": "look"})).stdout}
    for at in range(0, len(jobs), 4):
        ids = {node.submit(core.command(), core.payload("ends", {"how": how, "argument": "0"})): how for how in jobs[at : at + 4]}
        for id_ in ids:
            node.client.stdin_eof(id_)
        for id_, how in ids.items():
            result = node.wait(id_)
            assert (result.rc, result.stdout, result.stderr) == (0, expected[how], b"")


def test_cancelled(node: WarmNode) -> None:
    id_ = node.submit(core.command(), core.payload("ends", {"how": "subprocess", "argument": "sleep 60"}))
    node.client.stdin_eof(id_)
    node.until(lambda: _sleeping(60))
    node.client.cancel(id_)
    assert node.wait(id_).rc == 128 + 15
    node.until(lambda: not _sleeping(60))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_cancelled_of_another_user(node: WarmNode) -> None:
    id_ = node.submit(core.command("sudo", become_user="nobody"), core.payload("ends", {"how": "subprocess", "argument": "trap '' TERM; sleep 61"}))
    node.client.stdin_eof(id_)
    node.until(lambda: _sleeping(61))
    node.client.cancel(id_)
    assert node.wait(id_).rc in (128 + 9, 128 + 15)
    node.until(lambda: not _sleeping(61))


def _sleeping(seconds: int) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if process.read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
        except OSError:
            continue
    time.sleep(0.01)
    return False
