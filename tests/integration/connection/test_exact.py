# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command wrote arrives to the byte, on the right stream, with its own exit status; a file as well."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.errors import AnsibleError, AnsibleFileNotFound

from tests.integration.conftest import running_nodes
from tests.integration.controller import Controller, mux_processes, peak_memory
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_both, by_both_later
from tests.lab import Lab, LabNode

Connect = Callable[..., DirectConnection]

ALL_BYTES = bytes(range(256))
AWKWARD = b"\xef\xbf\xbd \xe6\xb1 \x00 \r\n \x1b[31m \xef\xbf\xbe \xff \xf0\x9f\x92"
NAMES = [
    "plain", "汉语-['foo bar'].txt", "it's", 'double"quote', "back\\slash", "new\nline", " leading and trailing ", "$HOME", "`id`", "*", "-rf",
    "semi;colon", "tab\there", "a" * 200, "umlaut-äöü", "{{ braces }}", "%s%n", "~tilde", "#hash", "!bang",
]  # fmt: skip


@by_both_later
@pytest.mark.parametrize(
    ("command", "stdout", "stderr", "status"),
    [
        pytest.param("printf 'a\\nb'", b"a\nb", b"", 0, id="no-final-newline"),
        pytest.param("printf nonl", b"nonl", b"", 0, id="one-word"),
        pytest.param("printf 'a\\r\\nb\\rc\\n\\n\\n'", b"a\r\nb\rc\n\n\n", b"", 0, id="carriage-returns"),
        pytest.param("printf '\\357\\277\\275|\\346\\261'", b"\xef\xbf\xbd|\xe6\xb1", b"", 0, id="replacement-character-and-open-utf-8"),
        pytest.param("printf out; printf err >&2", b"out", b"err", 0, id="separate-streams"),
        pytest.param("exit 3", b"", b"", 3, id="exit-3"),
        pytest.param("echo before; exit 255", b"before\n", b"", 255, id="exit-255"),
        pytest.param("true", b"", b"", 0, id="nothing"),
        pytest.param("printf '\\033[31mred\\033[0m'", b"\x1b[31mred\x1b[0m", b"", 0, id="colours-are-the-commands-own"),
        pytest.param("cat", b"", b"", 0, id="stdin-is-empty"),
        pytest.param("kill -TERM $$", b"", b"", 143, id="killed-by-a-signal"),
    ],
)
def test_streams_and_status(connect: Connect, command: str, stdout: bytes, stderr: bytes, status: int) -> None:
    assert connect().execute(command) == (status, stdout, stderr)


@by_both
def test_every_byte_both_ways(connect: Connect) -> None:
    data = ALL_BYTES * 41 + AWKWARD
    assert connect().execute("cat", data) == (0, data, b"")
    assert connect().execute("cat >&2", data) == (0, b"", data)


@by_both_later
@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 4095, 4096, 65_536, 1_000_003])
def test_output_and_input_of_any_size(connect: Connect, size: int) -> None:
    data = os.urandom(size)
    assert connect().execute("cat", data) == (0, data, b"")


@by_both_later
@pytest.mark.parametrize("length", [4_095, 4_096, 5_000, 100_000])
def test_long_command_line(connect: Connect, length: int) -> None:
    word = "x" * length
    assert connect().execute(f"printf %s {word} | wc -c") == (0, f"{length}\n".encode(), b"")


@by_both
def test_command_line_beyond_the_nodes_limit_is_an_error_that_says_so(connect: Connect) -> None:
    with pytest.raises(AnsibleError, match=r"(?i)too long|131071|limit"):
        connect().execute("echo " + "x" * 200_000)


@by_both
@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_what_no_command_and_no_name_can_hold_is_an_error_that_says_so(connect: Connect, tmp_path: Path, character: str) -> None:
    connection = connect()
    (tmp_path / "here").touch()
    for way in (connection.execute, lambda name: connection.plugin.put_file(str(tmp_path / "here"), name),
                lambda name: connection.plugin.fetch_file(name, str(tmp_path / "back"))):  # fmt: skip
        with pytest.raises(AnsibleError, match="is no character that a command or path can hold"):
            way(f"/tmp/a{character}b")
    assert connection.execute("echo well") == (0, b"well\n", b"")


@by_both
def test_what_a_process_in_the_background_passes_on_is_waited_for(connect: Connect) -> None:
    connection = connect()
    assert connection.execute("bash -c 'exec > >(sleep 1; tee /dev/null) 2>&1; echo one; exit 3'") == (3, b"one\n", b"")


@by_both_later
def test_large_input(connect: Connect) -> None:
    data = os.urandom(1 << 20) * 50
    status, stdout, _unused = connect().execute("sha256sum", data)
    assert (status, stdout.split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())


@by_both_later
def test_input_that_nobody_reads_does_not_hang(connect: Connect) -> None:
    status, stdout, _unused = connect().execute("echo done", os.urandom(5_000_000))
    assert (status, stdout) == (0, b"done\n")


@by_both_later
@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name(connect: Connect, tmp_path: Path, name: str) -> None:
    connection = connect()
    folder = f"/tmp/names-{os.urandom(4).hex()}"
    assert connection.execute(f"mkdir {folder}")[0] == 0
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(ALL_BYTES + AWKWARD)
    connection.plugin.put_file(str(here), f"{folder}/{name}")
    assert connection.execute(f"cat {shlex.quote(folder + '/' + name)}") == (0, ALL_BYTES + AWKWARD, b"")
    connection.plugin.fetch_file(f"{folder}/{name}", str(back))
    assert back.read_bytes() == ALL_BYTES + AWKWARD
    assert connection.execute(f"ls -A {folder} | wc -l")[0] == 0


@by_both
def test_a_file_that_is_there_keeps_its_mode_and_what_is_none_stays_what_it_is(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    name = f"/tmp/secret-{os.urandom(4).hex()}"
    assert connection.execute(f"echo new > {name}")[0] == 0
    back, pipe = tmp_path / "back", tmp_path / "pipe"
    back.write_text("of old")
    back.chmod(0o600)
    connection.plugin.fetch_file(name, str(back))
    assert (back.read_text(), back.stat().st_mode & 0o777) == ("new\n", 0o600)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    connection.plugin.fetch_file(name, str(pipe))
    assert os.read(reader, 100) == b"new\n" and pipe.is_fifo()
    os.close(reader)


@by_both
def test_empty_and_missing_files(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    empty = tmp_path / "empty"
    empty.touch()
    connection.plugin.put_file(str(empty), "/tmp/empty")
    connection.plugin.fetch_file("/tmp/empty", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b""
    with pytest.raises(AnsibleFileNotFound):
        connection.plugin.fetch_file("/tmp/does/not/exist", str(tmp_path / "never"))
    assert not (tmp_path / "never").exists()
    with pytest.raises(AnsibleFileNotFound):
        connection.plugin.put_file(str(tmp_path / "does-not-exist"), "/tmp/never")


@by_both
def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    source = tmp_path / "source"
    source.write_bytes(b"content")
    for path, named in (("/no/such/folder/file", "/no/such/folder"), ("/tmp", "/tmp"), ("/proc/version", "/proc/version")):
        with pytest.raises(AnsibleError, match=named):
            connection.plugin.put_file(str(source), path)
    assert connection.execute("ls /no 2>&1")[0] != 0


@by_both
def test_big_files(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(8_000_000))
    connection.plugin.put_file(str(source), "/tmp/big")
    connection.plugin.fetch_file("/tmp/big", str(back))
    assert back.read_bytes() == source.read_bytes()


@by_both_later
@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1"])
def test_non_utf8_locale_of_the_node(controller: Controller, locale: str) -> None:
    run = controller.tasks(
        {"name": "raw", "ansible.builtin.raw": "printf 'caf\\303\\251'; printf '\\374' | od -An -tx1"},
        {"name": "command", "ansible.builtin.command": "echo 汉语"},
        {"name": "file", "ansible.builtin.copy": {"content": "汉语", "dest": "/tmp/汉语-locale", "mode": "0644"}},
        nodes_environment={"LC_ALL": locale, "LANG": locale},
    ).check()
    assert run.result("command")["stdout"] == "汉语"
    assert run.result("raw")["stdout"].startswith("café")
    assert run.result("file")["size"] == len("汉语".encode())


@by_both
def test_script_keeps_streams_and_line_ends(controller: Controller) -> None:
    script = controller.folder / "script.sh"
    script.write_bytes(b"#!/bin/sh\nprintf 'one\\r\\ntwo\\n\\n\\n'\nprintf 'problem' >&2\nexit 4\n")
    result = controller.tasks({"name": "script", "ansible.builtin.script": "script.sh", "ignore_errors": True}).check().result("script")
    assert (result["rc"], result["stdout"], result["stderr"]) == (4, "one\r\ntwo\n\n\n", "problem")


@by_both_later
def two_nodes(lab: Lab) -> tuple[LabNode, LabNode]:
    """Of one account and region."""
    first = lab.node("web-1")
    return first, next(node for node in running_nodes(lab) if (node.account, node.region) == (first.account, first.region) and node.name != first.name)


def test_a_connection_whose_options_change_goes_to_the_other_node(connect: Connect, lab: Lab) -> None:
    """Core may keep one for all items of a loop."""
    connection = connect()
    for node in two_nodes(lab):
        connection.plugin.set_options(task_keys={}, var_options={**connection.variables, "ansible_ssm_host": node.node_id})
        assert connection.execute("hostname") == (0, f"{node.name}\n".encode(), b"")


def test_each_item_of_a_loop_goes_to_its_own_node(controller: Controller, lab: Lab) -> None:
    first, other = two_nodes(lab)
    nodes = [first, other, first]
    run = controller.tasks(
        {"name": "ask", "ansible.builtin.raw": "hostname", "loop": [node.node_id for node in nodes], "vars": {"ansible_ssm_host": "{{ item }}"}}
    ).check()
    assert [item["stdout"].strip() for item in run.result("ask")["results"]] == [node.name for node in nodes]


def test_raw_exit_status_keeps_the_session(controller: Controller) -> None:
    run = controller.tasks(
        {"name": "three", "ansible.builtin.raw": "exit 3", "ignore_errors": True},
        {"name": "next", "ansible.builtin.raw": "echo still here"},
    ).check()
    assert run.result("three")["rc"] == 3
    assert run.result("next")["stdout"] == "still here\n"


@pytest.mark.slow
def test_two_hundred_megabytes_of_output(connect: Connect) -> None:
    connection = connect()
    seed = "openssl enc -aes-128-ctr -pass pass:fleet -nosalt -in /dev/zero 2>/dev/null | head -c 200000000"
    expected = connection.execute(f"{seed} | sha256sum")[1].split()[0].decode()
    connection.execute("true")
    (mux,) = mux_processes(Path(os.environ["HOME"]))
    before = peak_memory(mux)
    status, stdout, _unused = connection.execute(seed)
    assert status == 0
    assert len(stdout) == 200_000_000
    assert hashlib.sha256(stdout).hexdigest() == expected
    assert peak_memory(mux) - before <= 32 << 20
