# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real runner in a real PTY: commands."""

from __future__ import annotations

import hashlib
import os
import pwd
import random
import select
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient, RunnerSettings
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Exited, Failed, GotFile, ProtocolError, PutFile
from tests.unit.processes import gone, wait_gone

from .local_node import LocalNode

EVERY_BYTE = bytes(range(256)) * 3 + b"\xef\xbf\xbd" * 400 + b"\xef\xbf" + "汉语".encode() + b"\xe6\xb1"


def test_on_every_python(interpreter: str | None, tmp_path: Path) -> None:
    """The main paths, with each interpreter of this machine."""
    settings = RunnerSettings(interpreter=interpreter)
    with LocalNode(RunnerClient(settings), carrier=True) as node:
        result = node.run("cat; printf 'a\\nb'; printf 'x\\r\\n' >&2; exit 3", EVERY_BYTE)
        assert (result.stdout, result.stderr, result.rc) == (EVERY_BYTE + b"a\nb", b"x\r\n", 3)
        assert node.ready is not None
        if interpreter:
            assert node.ready.executable == interpreter
        assert (node.ready.kind, node.ready.uid, node.ready.user) == ("python", os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)
        data = random.Random(1).randbytes(3_000_000)
        assert isinstance(node.put(str(tmp_path / "f"), data, mode=0o640).end, PutFile)
        assert (tmp_path / "f").read_bytes() == data
        id_ = node.client.get(str(tmp_path / "f"))
        got = node.wait(id_)
        assert got.stdout == data
        assert got.end == GotFile(id_, len(data), 0o640, hashlib.sha256(data).digest())
        assert node.run("tty -s </dev/tty && echo yes", tty=True).stdout == b"yes\n"
        id_ = node.client.exec("sleep 100")
        node.client.cancel(id_)
        end = node.wait(id_).end
        assert isinstance(end, Exited)
        assert (end.returncode, end.signal) == (143, signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "stdout", "stderr", "rc"),
    [
        ("printf 'a\\nb'", b"a\nb", b"", 0),
        ("printf nonl", b"nonl", b"", 0),
        ("printf 'a\\r\\nb\\r'", b"a\r\nb\r", b"", 0),
        ("printf '\\377\\376\\000\\357\\277\\275'", b"\xff\xfe\0\xef\xbf\xbd", b"", 0),
        ("echo out; echo err >&2", b"out\n", b"err\n", 0),
        ("exit 3", b"", b"", 3),
        ("true", b"", b"", 0),
        ("exit 255", b"", b"", 255),
        ("echo '~b'; echo \"$(printf '\\020J')\"", b"~b\n\x10J\n", b"", 0),
        ("/bin/sh -c 'echo '\"'\"'quoted  twice'\"'\"''", b"quoted  twice\n", b"", 0),
        ("(sleep 0.1; echo late) &", b"late\n", b"", 0),
    ],
)
def test_exact_bytes(node: LocalNode, command: str, stdout: bytes, stderr: bytes, rc: int) -> None:
    result = node.run(command)
    assert (result.stdout, result.stderr, result.rc) == (stdout, stderr, rc)


def test_the_session_survives_its_commands(node: LocalNode) -> None:
    """PEERS.md: "raw: exit 3" and worse."""
    for command in ("exit 3", "kill -9 $$", "kill -TERM 0", "exec >&- 2>&-; exit 4", "stty -a </dev/tty"):
        node.run(command)
    assert node.run("echo still here").stdout == b"still here\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP])
def test_signals(node: LocalNode, number: signal.Signals) -> None:
    end = node.run(f"ulimit -c 0; kill -{number.value} $$").end
    assert isinstance(end, Exited)
    assert (end.returncode, end.signal) == (128 + number, number)


@pytest.mark.parametrize("size", [5_000, 100_000])
def test_long_command_lines(node: LocalNode, size: int) -> None:
    text = "x'y " * (size // 8)  # each quote becomes five characters
    assert node.run("printf %s " + shlex.quote(text)).stdout == text.encode()


def test_a_command_that_no_system_takes_is_an_error(node: LocalNode) -> None:
    end = node.run("echo " + "x" * 3_000_000).end
    assert isinstance(end, Failed)
    assert end.code == "E2BIG"
    assert node.run("echo on").stdout == b"on\n"


def test_a_program_that_does_not_exist(node: LocalNode) -> None:
    end = node.run(["/no/such/program", "x"]).end
    assert isinstance(end, Failed)
    assert end.code == "ENOENT"
    assert "/no/such/program" in end.message


def test_arguments_need_no_shell(node: LocalNode) -> None:
    assert node.run(["/bin/echo", "$HOME", "a  b", b"\xff"]).stdout == b"$HOME a  b \xff\n"


def test_the_environment_is_a_login(node: LocalNode) -> None:
    account = pwd.getpwuid(os.geteuid())
    result = node.run("pwd; echo $HOME; echo $USER $LOGNAME $SHELL; echo ${TERM-none}; ulimit -S -n >/dev/null; cat /proc/self/stat | cut -d' ' -f7")
    assert result.stdout.decode().splitlines() == [
        account.pw_dir, account.pw_dir, f"{account.pw_name} {account.pw_name} {account.pw_shell}", "none", "0",
    ]  # fmt: skip


def test_environment_and_directory_of_a_request(node: LocalNode, tmp_path: Path) -> None:
    assert node.run('echo "$A"; pwd', env={"A": "b c\nd"}, cwd=str(tmp_path)).stdout == f"b c\nd\n{tmp_path}\n".encode()
    end = node.run("true", cwd="/no/such/directory").end
    assert isinstance(end, Failed)
    assert end.code == "ENOENT"


def test_a_command_starts_as_any_other_process(node: LocalNode) -> None:
    """No descriptor and no signal disposition of the runner reaches it; it leads a session of its own."""
    script = "import os,signal;print(sorted(int(x) for x in os.listdir('/proc/self/fd'))[:-1]);print(os.getsid(0)==os.getpgrp()==os.getppid())"
    script += ";print([s for s in range(1,65) if signal.getsignal(s)==signal.SIG_IGN and s not in (13,25)])"
    # 32 and 33 belong to the C library, which lets nobody change them back: whoever starts the tests may ignore them.
    script += ";print([hex(int(l.split()[1],16)&~(3<<31)) for l in open('/proc/self/status') if l[:6] in ('SigIgn','SigBlk')])"
    result = node.run(f'{sys.executable} -c "{script}"; :')
    assert result.stdout.decode().splitlines() == ["[0, 1, 2]", "True", "[]", "['0x0', '0x1001000']"], result


def test_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    with LocalNode(RunnerClient(), env={"LC_ALL": "C", "LANG": "C"}) as node:
        name = "汉语-['foo bar'].txt\n\udcff"
        assert isinstance(node.put(str(tmp_path / name), b"x").end, PutFile)
        assert node.get(str(tmp_path / name)).stdout == b"x"
        assert node.run(f"cat {shlex.quote(str(tmp_path / name))}; echo ü \udcfe").stdout == "xü ".encode() + b"\xfe\n"


# stdin and output of any length


def test_stdin_that_nobody_reads(node: LocalNode) -> None:
    assert node.run("exit 5", bytes(3_000_000)).rc == 5
    assert node.run("exec <&-; sleep 0.2; echo x", bytes(3_000_000)).stdout == b"x\n"


def test_stdin_and_output_at_once(node: LocalNode) -> None:
    data = (b"0123456789abcdef" * 64 + b"\n") * 1000
    assert node.run("cat", data).stdout == data


@pytest.mark.parametrize("size", [pytest.param(5_000_000, id="5MB"), pytest.param(50_000_000, id="50MB", marks=pytest.mark.slow)])
def test_long_stdin(fast_node: LocalNode, size: int) -> None:
    data = random.Random(2).randbytes(size)
    assert fast_node.run("sha256sum", data).stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def peak(pid: int) -> int:
    """Most memory of a process so far, in MB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) // 1024


@pytest.mark.parametrize("size", [pytest.param(10, id="10MB"), pytest.param(200, id="200MB", marks=pytest.mark.slow)])
def test_long_output_in_little_memory(fast_node: LocalNode, size: int) -> None:
    """A consumer that is slow to begin with, and output without compression: the node waits for credit."""
    node = fast_node
    node.run("true")
    assert node.ready is not None
    before = peak(node.ready.pid)
    id_ = node.client.exec(f"openssl enc -aes-128-ctr -K 00 -iv 00 </dev/zero 2>/dev/null | head -c {size}000000 | tee /dev/stderr | sha256sum >&2")
    node.client.stdin_eof(id_)
    time.sleep(0.5)
    result = node.wait(id_, 300)
    digest = result.stderr[-68:-4].decode()
    assert hashlib.sha256(result.stderr[:-68]).hexdigest() == digest
    assert len(result.stderr) == size * 1_000_000 + 68
    assert peak(node.ready.pid) - before < 12


def test_output_stops_without_credit(fast_node: LocalNode) -> None:
    """Endless output is held back by the consumer, and can be cancelled."""
    node = fast_node
    node.client.consumed = lambda id_, size: None  # type: ignore[method-assign]  # a consumer that takes nothing
    id_ = node.client.exec("yes")
    node.until(lambda: len(node.result(id_).stdout) == node.client.settings.output_window)
    assert node.run("echo others go on").stdout == b"others go on\n"
    node.client.cancel(id_)
    end = node.wait(id_).end
    assert isinstance(end, Exited)
    assert end.signal == signal.SIGTERM
    assert len(node.result(id_).stdout) == node.client.settings.output_window


BOTH_STREAMS = """
import os, threading
def write(fd, size, count):
    for _turn in range(count):
        data = b"%d" % fd * size
        while data:
            data = data[os.write(fd, data):]
thread = threading.Thread(target=write, args=(2, 5000, 200))
thread.start()
write(1, 32768, 150)
thread.join()
"""


def test_two_full_streams_and_a_slow_consumer(fast_node: LocalNode) -> None:
    """One stream may use up the credit on which the other one is read: that is not its end."""
    node, held = fast_node, [0]
    give = node.client.consumed
    node.client.consumed = lambda id_, size: held.append(held.pop() + size)  # type: ignore[method-assign]
    id_ = node.client.exec([sys.executable, "-c", BOTH_STREAMS])
    node.client.stdin_eof(id_)
    deadline = time.monotonic() + 60
    while node.result(id_).end is None and time.monotonic() < deadline:
        for _turn in range(3):
            node.step(0.05)
        give(id_, held[0])
        held[0] = 0
    result = node.result(id_)
    assert (result.rc, len(result.stdout), len(result.stderr)) == (0, 150 * 32768, 200 * 5000)


def test_cancel_of_what_ended_with_more_output_than_credit(fast_node: LocalNode) -> None:
    node = fast_node
    node.client.consumed = lambda id_, size: None  # type: ignore[method-assign]  # a consumer that takes nothing
    window = node.client.settings.output_window
    id_ = node.client.exec(f"head -c {window + 30000} /dev/zero")
    node.client.stdin_eof(id_)
    node.until(lambda: len(node.result(id_).stdout) == window)
    for _turn in range(5):
        node.step(0.1)  # its end has been seen
    assert node.result(id_).end is None
    node.client.cancel(id_)
    assert isinstance(node.wait(id_, 5).end, Exited)


def test_several_at_once(node: LocalNode) -> None:
    ids = [node.client.exec(f"cat; sleep 0.{9 - i}; echo {i}; exit {i}") for i in range(8)]
    for i, id_ in enumerate(ids):
        node.client.stdin(id_, b"in %d\n" % i)
        node.client.stdin_eof(id_)
    for i, id_ in enumerate(ids):
        result = node.wait(id_)
        assert (result.stdout, result.rc) == (b"in %d\n%d\n" % (i, i), i)


def test_a_small_command_beside_endless_output(node: LocalNode) -> None:
    """Over the slow PTY: it does not wait for what others have to say."""
    loud = node.client.exec("openssl enc -aes-128-ctr -K 00 -iv 00 </dev/zero 2>/dev/null")
    node.until(lambda: len(node.result(loud).stdout) > 500_000)
    before = len(node.result(loud).stdout)
    assert node.run("echo small").stdout == b"small\n"
    assert len(node.result(loud).stdout) - before < 1_500_000
    node.client.cancel(loud)
    node.wait(loud)


def test_one_write_for_a_command_that_exits_at_once(node: LocalNode) -> None:
    """stdout, stderr and exit status in one message of the agent (1,024 bytes)."""
    node.run("true")
    before = node.received
    result = node.run("echo out; echo err >&2; exit 2")
    assert result.rc == 2
    assert node.received - before < 200


# Processes that outlive the command


def test_a_background_process_with_our_stdout(node: LocalNode) -> None:
    start = time.monotonic()
    result = node.run("sleep 30 & echo $!")
    assert isinstance(result.end, Exited)
    assert result.end.left_open
    assert time.monotonic() - start < 10
    os.kill(int(result.stdout), signal.SIGKILL)


def test_a_process_on_its_way_out_is_none_that_was_left(node: LocalNode) -> None:
    """A daemon's parents, say, such as those of ansible-core's async_wrapper."""
    result = node.run("setsid sleep 0.7 & sleep 0.2")
    assert isinstance(result.end, Exited)
    assert not result.end.left_open


def test_nothing_is_lost_when_a_background_process_stays(node: LocalNode) -> None:
    """All of a command's own output, however long reading it takes."""
    result = node.run("sleep 20 & head -c 1500000 /dev/zero | tr '\\0' x; echo end; echo $! >&2")
    assert result.stdout == b"x" * 1_500_000 + b"end\n"
    os.kill(int(result.stderr), signal.SIGKILL)


def test_a_daemon_survives_the_runner(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with LocalNode(RunnerClient()) as node:
        node.run(f"setsid sh -c 'echo $$ >{pidfile}; exec sleep 60' </dev/null >/dev/null 2>&1 & sleep 0.3")
        running = node.client.exec("echo $$; exec sleep 60")
        node.until(lambda: node.result(running).stdout.endswith(b"\n"))
        assert node.ready is not None
    assert wait_gone(node.ready.pid)
    assert wait_gone(int(node.result(running).stdout))
    daemon = int(pidfile.read_text())
    assert not gone(daemon)
    os.kill(daemon, signal.SIGKILL)


# Ending


def test_cancel_ends_the_whole_group(node: LocalNode) -> None:
    id_ = node.client.exec("sleep 61 & echo $!; sleep 62 & echo $!; wait")
    node.until(lambda: node.result(id_).stdout.count(b"\n") == 2)
    node.client.cancel(id_)
    assert node.wait(id_).rc == 143
    assert all(wait_gone(int(pid)) for pid in node.result(id_).stdout.split())


def test_cancel_of_what_ignores_it(node: LocalNode) -> None:
    id_ = node.client.exec("trap '' TERM; echo $$; while :; do sleep 1; done")
    node.until(lambda: node.result(id_).stdout.endswith(b"\n"))
    node.client.cancel(id_)
    node.client.cancel(id_)
    assert node.wait(id_).rc == 137
    assert wait_gone(int(node.result(id_).stdout))


def test_cancel_of_a_transfer(node: LocalNode, tmp_path: Path) -> None:
    id_ = node.client.put(str(tmp_path / "f"), size=10)
    node.client.stdin(id_, b"12345")
    node.client.cancel(id_)
    end = node.wait(id_).end
    assert isinstance(end, Failed)
    assert end.code == "ECANCELED"
    assert list(tmp_path.iterdir()) == []


def test_the_dead_man(tmp_path: Path) -> None:
    """Silence of the client: commands, half a file and the runner are gone."""
    with LocalNode(RunnerClient(RunnerSettings(dead_man=1.5))) as node:
        id_ = node.client.exec("echo $$; exec sleep 60")
        node.client.stdin(node.client.put(str(tmp_path / "f"), size=10), b"12345")
        node.until(lambda: node.result(id_).stdout.endswith(b"\n"))
        for _turn in range(3):  # a ping is a sign of life
            node.client.ping()
            pongs = node.pongs
            node.until(lambda pongs=pongs: node.pongs > pongs)  # type: ignore[misc]
            time.sleep(0.7)
        pid = int(node.result(id_).stdout)
        assert not gone(pid)
        assert wait_gone(pid)
        assert node.ready is not None
        assert wait_gone(node.ready.pid)
        assert list(tmp_path.iterdir()) == []


def test_a_session_whose_program_never_comes(tmp_path: Path) -> None:
    """It ends in the dead-man's time as well, and so does what waits for its output; no FIFO is left."""
    client = RunnerClient(RunnerSettings(dead_man=1.0))
    with LocalNode(client, carrier=True, env={"TMPDIR": str(tmp_path)}) as node:
        select.select([node.master], [], [], 30)  # it is ready, and hears nothing
        assert (tmp_path / f".fleet-ssm-{client.nonce}" / "1").exists()
        assert wait_gone(node.pid)
        carrier = next(iter(node._carriers.values()))
        assert wait_gone(carrier.pid)
    assert list(tmp_path.iterdir()) == []


def test_shutdown(node: LocalNode) -> None:
    id_ = node.client.exec("echo $$; exec sleep 60")
    node.until(lambda: node.result(id_).stdout.endswith(b"\n"))
    node.client.shutdown()
    with pytest.raises(EOFError):
        node.until(lambda: False)
    assert gone(int(node.result(id_).stdout))


def test_the_end_of_the_session_ends_the_commands() -> None:
    with LocalNode(RunnerClient()) as node:
        id_ = node.client.exec("trap '' HUP; echo $$; sleep 63 & echo $!; wait")
        node.until(lambda: node.result(id_).stdout.count(b"\n") == 2)
    assert all(wait_gone(int(pid)) for pid in node.result(id_).stdout.split())


# The terminal


def test_a_password_prompt(node: LocalNode) -> None:
    """As su and doas do: on the terminal, echo off, and typed only after the prompt. The three streams stay pipes."""
    script = (
        "import getpass,os,sys; p=getpass.getpass('Password: ');"
        "print(p, [os.isatty(fd) for fd in range(3)], sys.stdin.read()); print('e', file=sys.stderr)"
    )
    id_ = node.client.exec([sys.executable, "-c", script], tty=True)
    node.client.stdin(id_, b"the payload")
    node.client.stdin_eof(id_)
    node.until(lambda: node.result(id_).tty == b"Password: ")
    node.client.tty_input(id_, b"s3cret\n")
    result = node.wait(id_)
    assert result.stdout == b"s3cret [False, False, False] the payload\n"
    assert result.stderr == b"e\n"
    assert b"s3cret" not in result.tty


def test_no_terminal_unless_asked_for(node: LocalNode) -> None:
    assert node.run("exec 3</dev/tty").rc != 0


def test_a_terminal_as_stdin(node: LocalNode) -> None:
    id_ = node.client.exec("test -t 0 && ! test -t 1 && read x && echo got $x", tty="stdin")
    node.client.tty_input(id_, b"word\n")
    assert node.wait(id_).stdout == b"got word\n"


def test_cancel_with_a_terminal(node: LocalNode) -> None:
    id_ = node.client.exec("trap '' TERM; echo $$; while :; do sleep 1; done", tty=True)
    node.until(lambda: node.result(id_).stdout.endswith(b"\n"))
    node.client.cancel(id_)
    assert node.wait(id_).rc in (128 + signal.SIGKILL, 128 + signal.SIGHUP)
    assert wait_gone(int(node.result(id_).stdout))


# The channel itself


def test_typed_at_a_prompt() -> None:
    """The account's default document: an interactive shell, and the command as a line."""
    for shell in (["sh", "-i"], ["bash", "-i"]):
        with LocalNode(RunnerClient(), typed=True, shell=shell, env={"PS1": "$ "}) as node:
            assert node.run("echo hi").stdout == b"hi\n"


def test_a_runner_under_a_runner(node: LocalNode) -> None:
    """A second one through pipes, as for another user by the real become command."""
    inner = RunnerClient(RunnerSettings(fifo=False))
    outer = node.client.exec(inner.session_command())
    id_ = inner.exec("cat; echo inner; exit 4")
    inner.stdin(id_, EVERY_BYTE)
    inner.stdin_eof(id_)
    events = []
    read = 0
    while not any(isinstance(event, Exited) for event in events):
        node.client.stdin(outer, inner.data_to_send())
        node.step(0.2)
        output = node.result(outer).stdout
        events += inner.receive(output[read:])
        read = len(output)
    assert b"".join(event.data for event in events if hasattr(event, "data")) == EVERY_BYTE + b"inner\n"
    node.client.stdin_eof(outer)  # its channel's end ends it
    assert node.wait(outer).rc == 0


def test_an_extension(node: LocalNode) -> None:
    """LOAD brings a handler: the way of the warm interpreter."""
    node.client.load("echo", b"runner.handlers[0x40] = lambda number, payload: runner.out.add(0x41, number, payload[::-1])")
    id_ = node.client.extension(0x40, b"abc")
    node.until(lambda: bool(node.result(id_).messages))
    message = node.result(id_).messages[0]
    assert (message.type, message.payload) == (0x41, b"cba")


def test_an_error_in_the_runner_is_told(node: LocalNode) -> None:
    node.client.load("broken", b"1/0")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        node.until(lambda: False)
    assert isinstance(node.error, ProtocolError)


def test_old_pythons_are_passed_over(tmp_path: Path) -> None:
    """A file of that name that is no Python, or too old a one, is not the end."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with LocalNode(RunnerClient(RunnerSettings(interpreter=str(fake)))) as node:
        assert node.run("echo hi").stdout == b"hi\n"
