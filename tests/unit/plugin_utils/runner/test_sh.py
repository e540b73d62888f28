# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without Python: the real shell runner in a real PTY."""

from __future__ import annotations

import hashlib
import os
import random
import select
import shlex
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner import bootstrap
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient, RunnerSettings
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Exited, Failed, GotFile, PutFile
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.sh_link import encode
from tests.unit.processes import wait_gone

from .local_node import LocalNode
from .test_files import NAMES, code
from .test_node import EVERY_BYTE


def test_raw(sh_node: LocalNode) -> None:
    """Exact bytes, separate streams, exit status; PEERS.md's cases."""
    assert sh_node.ready is not None
    assert (sh_node.ready.kind, sh_node.ready.uid) == ("sh", os.geteuid())
    assert sh_node.ready.home == str(Path.home())
    for command, stdout, stderr, rc in (
        ("printf 'a\\nb'", b"a\nb", b"", 0),
        ("printf 'a\\r\\n\\377\\000\\357\\277\\275'; echo e >&2; exit 3", b"a\r\n\xff\0\xef\xbf\xbd", b"e\n", 3),
        ("kill -9 $$", b"", b"", 137),
        ("exit 255", b"", b"", 255),
        ("pwd", str(Path.home()).encode() + b"\n", b"", 0),
        ("/bin/sh -c 'echo '\"'\"'quoted  twice'\"'\"''", b"quoted  twice\n", b"", 0),
        ("echo \udcff; printf '%s' 'a\nb'", b"\xff\na\nb", b"", 0),
        ("nonsense-command 2>/dev/null", b"", b"", 127),
    ):
        result = sh_node.run(command)
        assert (result.stdout, result.stderr, result.rc) == (stdout, stderr, rc), command


def test_script(sh_node: LocalNode, tmp_path: Path) -> None:
    """What the script action does: put, chmod, run, remove."""
    script = b"#!/bin/sh\nprintf 'args: %s\\n' \"$@\"\ncat\nexit 4\n"
    path = str(tmp_path / "script 1.sh")
    assert isinstance(sh_node.put(path, script, mode=0o600).end, PutFile)
    assert sh_node.run(["chmod", "u+x", path]).rc == 0
    result = sh_node.run(f"{shlex.quote(path)} 'a b' c", EVERY_BYTE)
    assert (result.stdout, result.rc) == (b"args: a b\nargs: c\n" + EVERY_BYTE, 4)


def test_a_long_command_and_much_output(sh_node: LocalNode) -> None:
    text = "x y'" * 25_000
    assert sh_node.run(f'printf %s "{text}"').stdout == text.encode()
    result = sh_node.run("i=0; while [ $i -lt 20 ]; do head -c 50000 /dev/zero | tr '\\0' y; echo $i >&2; i=$((i+1)); done")
    assert result.stdout == b"y" * 1_000_000
    assert result.stderr == b"".join(b"%d\n" % i for i in range(20))


def test_environment_and_directory(sh_node: LocalNode, tmp_path: Path) -> None:
    assert sh_node.run('echo "$A"; pwd', env={"A": "b c\nd"}, cwd=str(tmp_path)).stdout == f"b c\nd\n{tmp_path}\n".encode()


def test_requests_in_sequence_and_at_once(sh_node: LocalNode) -> None:
    slow = sh_node.client.exec("sleep 0.4; echo slow")
    sh_node.client.stdin_eof(slow)
    assert sh_node.run("echo quick").stdout == b"quick\n"
    assert sh_node.result(slow).end is None
    assert sh_node.wait(slow).stdout == b"slow\n"


@pytest.mark.parametrize("name", NAMES)
def test_names(sh_node: LocalNode, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir()
    path = os.fsencode(tmp_path) + b"/d/" + name.encode("utf-8", "surrogateescape")
    assert isinstance(sh_node.put(path, b"x\r\n\0").end, PutFile)
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    assert sh_node.get(path).stdout == b"x\r\n\0"


def test_files(sh_node: LocalNode, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(50_000) + EVERY_BYTE
    path = tmp_path / "f"
    put = sh_node.put(str(path), data, mode=0o640).end
    assert isinstance(put, PutFile)
    assert (put.size, put.sha256) == (len(data), hashlib.sha256(data).digest())
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (data, 0o640)
    result = sh_node.get(str(path))
    assert result.stdout == data
    assert isinstance(result.end, GotFile)
    assert (result.end.size, result.end.mode, result.end.sha256) == (len(data), 0o640, hashlib.sha256(data).digest())
    for empty in (sh_node.put(str(path), b""), sh_node.get(str(path))):
        assert not isinstance(empty.end, Failed)
    assert path.read_bytes() == b""


def test_what_fails(sh_node: LocalNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "dir").mkdir()
    assert code(sh_node.put(str(tmp_path / "no/such"), b"x").end) == "ENOENT"
    assert code(sh_node.put(str(tmp_path / "dir"), b"x").end) == "EISDIR"
    assert code(sh_node.put(str(tmp_path / "file"), b"new", size=4).end) == "EBADMSG"
    assert code(sh_node.put(str(tmp_path / "file"), b"new", sha256=bytes(32)).end) == "EBADMSG"
    assert code(sh_node.get(str(tmp_path / "no")).end) == "ENOENT"
    assert code(sh_node.get(str(tmp_path)).end) == "EISDIR"
    assert code(sh_node.get("/dev/null").end) == "EINVAL"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "bin") == ["dir", "file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_file_that_cannot_be_read_to_its_end_is_no_short_file(sh_node: LocalNode) -> None:
    assert code(sh_node.get("/proc/self/mem").end) == "EIO"


def test_what_needs_python_says_so(sh_node: LocalNode) -> None:
    end = sh_node.run("true", tty=True).end
    assert isinstance(end, Failed)
    assert (end.code, "Python" in end.message) == ("ENOTSUP", True)
    id_ = sh_node.client.extension(0x40, b"x")
    assert code(sh_node.wait(id_).end) == "ENOTSUP"


def test_cancel(sh_node: LocalNode, tmp_path: Path) -> None:
    id_ = sh_node.client.exec(f"echo $$ >{tmp_path}/pid; sleep 64 & wait")
    sh_node.client.stdin_eof(id_)
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        sh_node.step(0.05)
    sh_node.client.cancel(id_)
    end = sh_node.wait(id_).end
    assert isinstance(end, Exited)
    assert end.returncode in (143, 137)
    starting = sh_node.client.exec("exec sleep 66")
    sh_node.client.stdin_eof(starting)
    sh_node.queue()
    sh_node.client.cancel(starting)
    end = sh_node.wait(starting, 10).end
    assert isinstance(end, Exited)
    assert end.returncode in (143, 137)
    waiting = sh_node.client.exec("true")
    sh_node.client.cancel(waiting)
    assert code(sh_node.wait(waiting).end) == "ECANCELED"
    half = sh_node.client.put(str(tmp_path / "f"), size=5)
    sh_node.client.stdin(half, b"1")
    sh_node.client.cancel(half)
    assert code(sh_node.wait(half).end) == "ECANCELED"
    assert not list(tmp_path.glob(".fleet*"))


def test_a_session_whose_program_never_comes(sh_node: LocalNode) -> None:
    """Its terminal's own time-out ends it, and nothing is run of a part of the program."""
    client = RunnerClient(RunnerSettings(dead_man=0.5))
    with LocalNode(client, env=sh_node.env, shell=sh_node.shell) as node:
        select.select([node.master], [], [], 30)
        os.write(node.master, bootstrap.shell_program()[:-8])
        assert wait_gone(node.pid)
    assert not list(Path("/tmp").glob(f".fleet-ssm-{client.nonce}*"))


def test_ping(sh_node: LocalNode) -> None:
    id_ = sh_node.client.exec("sleep 0.5")
    sh_node.client.stdin_eof(id_)
    sh_node.client.ping()
    sh_node.until(lambda: sh_node.pongs == 1)
    assert sh_node.result(id_).end is None


def test_the_end_of_the_session_ends_all(sh_node: LocalNode, tmp_path: Path) -> None:
    id_ = sh_node.client.exec(f"echo $$ >{tmp_path}/pid; exec sleep 65")
    sh_node.client.stdin_eof(id_)
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        sh_node.step(0.05)
    directory = Path(f"/tmp/.fleet-ssm-{sh_node.client.nonce}.sh")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    sh_node.close()
    assert wait_gone(int((tmp_path / "pid").read_text()))
    assert sh_node.ready is not None
    assert wait_gone(sh_node.ready.pid)
    assert not directory.exists()


@given(st.binary(max_size=300))
def test_encoding(data: bytes) -> None:
    """For printf %b: no blank, no newline, and no escape but \\0ooo."""
    text = encode(data)
    assert text.isascii()
    assert not set(text) & set(" \t\n\r")
    pieces = text.split("\\")
    decoded = pieces[0].encode() + b"".join(bytes([int(piece[1:4], 8)]) + piece[4:].encode() for piece in pieces[1:])
    assert decoded == data
