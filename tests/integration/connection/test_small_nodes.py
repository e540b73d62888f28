# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without Python: raw, script and files work as exactly as elsewhere; everything else says what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.errors import AnsibleError, AnsibleFileNotFound

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_both, by_both_later
from tests.lab import Lab, LabNode

Connect = Callable[[], DirectConnection]

EVERY_BYTE = bytes(range(256)) * 3 + b"\xef\xbf\xbd \xe6\xb1 \x00 \r\n \xff \xf0\x9f\x92"


@pytest.fixture(scope="module")
def small(lab: Lab) -> Iterator[LabNode]:
    (node,) = lab.add({"name": "small", "python": False})
    yield node
    node.terminate()


@pytest.fixture
def on_small(connect: Callable[..., DirectConnection], small: LabNode) -> Connect:
    return lambda: connect(small.node_id)


@pytest.fixture
def playing(lab: Lab, route: str, controller: Controller, small: LabNode) -> Controller:
    """A controller whose inventory holds the small node."""
    controller.hosts({"small": connection_variables(lab, small.node_id, route)})
    return controller


@pytest.mark.parametrize(
    ("command", "stdout", "stderr", "status"),
    [
        pytest.param("printf 'a\\nb'", b"a\nb", b"", 0, id="no-final-newline"),
        pytest.param("printf '\\357\\277\\275\\r\\n\\346\\261'", b"\xef\xbf\xbd\r\n\xe6\xb1", b"", 0, id="not-utf-8"),
        pytest.param("printf out; printf err >&2; exit 3", b"out", b"err", 3, id="separate-streams"),
        pytest.param("kill -TERM $$", b"", b"", 143, id="signal"),
        pytest.param("cat", b"", b"", 0, id="no-input"),
        pytest.param("command -v python3 || id -un", b"ssm-user\n", b"", 0, id="there-is-no-python"),
    ],
)
def test_streams_and_status(on_small: Connect, command: str, stdout: bytes, stderr: bytes, status: int) -> None:
    assert on_small().execute(command) == (status, stdout, stderr)


@by_both
def test_binary_input(on_small: Connect) -> None:
    connection = on_small()
    assert connection.execute("cat", EVERY_BYTE) == (0, EVERY_BYTE, b"")
    assert connection.execute("cat >&2; exit 7", EVERY_BYTE) == (7, b"", EVERY_BYTE)


@by_both_later
def test_long_lines_both_ways(on_small: Connect) -> None:
    line = b"x" * 70_000
    connection = on_small()
    assert connection.execute("cat", line) == (0, line, b"")
    assert connection.execute(f"printf %s {'y' * 20_000} | wc -c") == (0, b"20000\n", b"")


@by_both_later
@pytest.mark.parametrize("name", ["plain", "it's \"one\"", "new\nline", " blank ", "汉语", "$HOME", "-rf", "back\\slash"])
def test_files_there_and_back(on_small: Connect, tmp_path: Path, name: str) -> None:
    connection = on_small()
    folder = f"/tmp/small-{os.urandom(4).hex()}"
    assert connection.execute(f"mkdir {folder}")[0] == 0
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(EVERY_BYTE)
    connection.plugin.put_file(str(here), f"{folder}/{name}")
    connection.plugin.fetch_file(f"{folder}/{name}", str(back))
    assert back.read_bytes() == EVERY_BYTE
    assert connection.execute(f"ls -A {folder} | grep -c fleet") == (1, b"0\n", b"")


def test_files_that_cannot_be(on_small: Connect, tmp_path: Path) -> None:
    connection = on_small()
    with pytest.raises(AnsibleFileNotFound, match="/nowhere/file"):
        connection.plugin.fetch_file("/nowhere/file", str(tmp_path / "never"))
    (tmp_path / "source").write_bytes(b"content")
    for path in ("/nowhere/file", "/etc/fleet", "/tmp"):
        with pytest.raises(AnsibleError, match=path):
            connection.plugin.put_file(str(tmp_path / "source"), path)


@by_both_later
def test_raw_and_script(playing: Controller) -> None:
    (playing.folder / "script.sh").write_bytes(b"#!/bin/sh\nprintf 'one\\r\\ntwo\\n\\n'\nprintf 'problem' >&2\nprintf %s \"$1\"\nexit 4\n")
    run = playing.tasks(
        {"name": "raw", "ansible.builtin.raw": "printf 'a\\nb'; printf c >&2; exit 3", "ignore_errors": True},
        {"name": "script", "ansible.builtin.script": "script.sh 'an argument'", "ignore_errors": True},
        {"name": "root", "ansible.builtin.raw": "id -un", "become": True},
    ).check()
    raw, script = run.result("raw"), run.result("script")
    assert (raw["rc"], raw["stdout"], raw["stderr"]) == (3, "a\nb", "c")
    assert (script["rc"], script["stdout"], script["stderr"]) == (4, "one\r\ntwo\n\nan argument", "problem")
    assert run.result("root")["stdout"] == "root\n"


@by_both_later
@pytest.mark.parametrize("interpreter", [None, "/usr/bin/python3"])
def test_modules_are_a_clear_error(lab: Lab, route: str, playing: Controller, small: LabNode, interpreter: str | None) -> None:
    if interpreter:
        playing.hosts({"small": {**connection_variables(lab, small.node_id, route), "ansible_python_interpreter": interpreter}})
    run = playing.tasks({"name": "ping", "ansible.builtin.ping": {}, "ignore_errors": True}, {"name": "after", "ansible.builtin.raw": "echo goes on"}).check()
    assert run.result("ping")["failed"] is True
    assert run.result("ping").get("unreachable") is not True
    assert "python" in str(run.result("ping")).lower()
    assert run.result("after")["stdout"] == "goes on\n"


@by_both_later
def test_copy_is_an_error_and_changes_nothing(playing: Controller) -> None:
    run = playing.tasks({"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "/tmp/never", "mode": "0644"}, "ignore_errors": True},
                        {"name": "look", "ansible.builtin.raw": "ls /tmp/never || true"}).check()  # fmt: skip
    assert run.result("copy")["failed"] is True
    assert run.result("look")["stdout"] == ""
