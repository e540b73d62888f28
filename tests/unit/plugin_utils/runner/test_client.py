# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RunnerClient against frames made here: what it refuses, asks for and remembers."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner import bootstrap
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner import node as program
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient, RunnerSettings
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Credit, Exited, Failed, ProtocolError, Stdout
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.frames import Down, Frame, Up, encode_up

from .test_frames import Recorder

READY = b"\nfleet-ssm:abc:ready:python:3.11.2\n"


def client(**settings: int) -> RunnerClient:
    return RunnerClient(RunnerSettings(**settings), nonce="abc", key=7)  # type: ignore[arg-type]


class Node:
    """The node's end of the frames, by hand."""

    def __init__(self, runner: RunnerClient) -> None:
        self.runner = runner
        self.reader = Recorder()
        self.lines: list[bytes] = []
        assert runner.receive(READY) == []
        assert self.sent(skip=len(bootstrap.program()))[0][0] == Down.CONFIG

    def sent(self, skip: int = 0) -> list[tuple[int, int, bytes]]:
        while data := self.runner.data_to_send():
            self.reader.take(data[skip:])
            skip = 0
        seen, self.reader.seen = self.reader.seen, []
        return seen

    def make(self, kind: int, id_: int = 0, payload: bytes = b"") -> bytes:
        self.lines.append(encode_up(Frame(len(self.lines), kind, id_, payload), 7))
        return self.lines[-1]

    def exit(self, id_: int, out: int = 0) -> bytes:
        return self.make(Up.EXIT, id_, struct.pack("!iQQQB", 0, out, 0, 0, 0))


def test_nothing_is_sent_before_ready() -> None:
    runner = client()
    id_ = runner.exec("true")
    runner.stdin(id_, b"data")
    runner.stdin_eof(id_)
    assert runner.data_to_send() == b""
    assert runner.receive(b"Starting session with SessionId: x\r\n$ ") == []
    assert runner.data_to_send() == b""
    assert not runner.started
    assert "SessionId" in runner.noise
    runner.receive(READY)
    node_reader = Recorder()
    data = runner.data_to_send()
    assert data.startswith(bootstrap.program())
    node_reader.take(data[len(bootstrap.program()) :])
    assert [kind for kind, _id, _payload in node_reader.seen] == [Down.CONFIG, Down.EXEC, Down.DATA, Down.EOF]


def test_the_echo_of_the_command_is_no_announcement() -> None:
    runner = client()
    assert runner.receive(f"$ {runner.session_command()}\r\n".encode()) == []
    assert not runner.started


def test_a_second_runner_in_the_session_is_an_error() -> None:
    """The first one ended without a word; whatever it did is not known."""
    node = Node(client())
    events = node.runner.receive(READY)
    assert isinstance(events[0], ProtocolError)
    assert isinstance(node.runner.receive(b"anything\n")[0], ProtocolError)


def test_input_beyond_the_credit_is_refused() -> None:
    node = Node(client(input_window=100))
    id_ = node.runner.exec("cat")
    node.runner.stdin(id_, bytes(60))
    assert node.runner.writable(id_) == 40
    with pytest.raises(ValueError, match="credit"):
        node.runner.stdin(id_, bytes(41))
    assert node.runner.receive(node.make(Up.GRANT, id_, struct.pack("!I", 60))) == [Credit(id_, 60)]
    assert node.runner.writable(id_) == 100


def test_an_ended_request_takes_nothing_more() -> None:
    node = Node(client())
    id_ = node.runner.exec("true")
    node.sent()
    node.runner.stdin(id_, bytes(500_000))
    assert isinstance(node.runner.receive(node.exit(id_))[0], Exited)
    node.runner.stdin(id_, b"late")
    node.runner.stdin_eof(id_)
    node.runner.cancel(id_)
    assert node.runner.writable(id_) == 0
    assert {kind for kind, _id, _payload in node.sent()} <= {Down.ACK}


def test_missing_output_is_seen() -> None:
    node = Node(client())
    id_ = node.runner.exec("true")
    node.runner.receive(node.make(Up.STDOUT, id_, b"1234"))
    assert isinstance(node.runner.receive(node.exit(id_, out=5))[0], ProtocolError)


def test_an_answer_to_no_request_is_an_error() -> None:
    node = Node(client())
    assert isinstance(node.runner.receive(node.make(Up.STDOUT, 9, b"x"))[0], ProtocolError)


def test_new_requests_go_before_the_rest_of_a_transfer() -> None:
    node = Node(client())
    put = node.runner.put("/x", size=1_000_000)
    node.runner.stdin(put, bytes(1_000_000 - 1))
    other = node.runner.put("/y", size=100_000)
    node.runner.stdin(other, b"y" * 100_000)
    first = node.runner.data_to_send(limit=10)
    small = node.runner.exec("true")
    node.reader.take(first)
    order = [(kind, id_) for kind, id_, _payload in node.sent()]
    assert order.index((Down.EXEC, small)) < order.index((Down.DATA, other)) <= 4


def test_output_is_acknowledged_with_the_next_request_or_after_much() -> None:
    """An acknowledgement costs a message: a small answer alone is not worth one."""
    node = Node(client())
    id_ = node.runner.exec("true")
    node.sent()
    node.runner.receive(node.make(Up.STDOUT, id_, b"x"))
    assert node.sent() == []
    node.runner.exec("true")
    assert node.sent()[-1][:2] == (Down.ACK, 1)
    for _turn in range(5):
        node.runner.receive(node.make(Up.STDOUT, id_, bytes(15_000)))
    assert node.sent() == [(Down.ACK, 6, b"")]


def test_credit_is_given_in_large_pieces() -> None:
    node = Node(client(output_window=8000))
    id_ = node.runner.exec("true")
    node.sent()
    for _turn in range(9):
        node.runner.consumed(id_, 125)
    assert node.sent() == [(Down.CREDIT, id_, struct.pack("!I", 1000))]


def test_a_gap_is_asked_for_once() -> None:
    node = Node(client())
    id_ = node.runner.exec("true")
    node.sent()
    lines = [node.make(Up.STDOUT, id_, b"%d" % i) for i in range(6)]
    assert node.runner.receive(lines[0] + lines[2] + lines[3]) == [Stdout(id_, b"0")]
    assert [frame[:2] for frame in node.sent() if frame[0] == Down.RESEND] == [(Down.RESEND, 1)]
    assert node.runner.receive(lines[4]) == []
    assert not [frame for frame in node.sent() if frame[0] == Down.RESEND]
    # The resent ones lose something as well: asked for again.
    assert node.runner.receive(lines[1] + lines[3]) == [Stdout(id_, b"1")]
    assert [frame[:2] for frame in node.sent() if frame[0] == Down.RESEND] == [(Down.RESEND, 2)]
    assert node.runner.receive(b"".join(lines)) == [Stdout(id_, b"%d" % i) for i in range(2, 6)]


def test_a_number_that_wraps() -> None:
    node = Node(client())
    link = node.runner._link
    link._expected = 0xFFFFFFFE  # type: ignore[union-attr]
    id_ = node.runner.exec("true")
    lines = [encode_up(Frame((0xFFFFFFFE + i) & 0xFFFFFFFF, Up.STDOUT, id_, b"%d" % i), 7) for i in range(4)]
    assert node.runner.receive(lines[0] + lines[1] + lines[1] + lines[2] + lines[0] + lines[3]) == [
        Stdout(id_, b"0"), Stdout(id_, b"1"), Stdout(id_, b"2"), Stdout(id_, b"3"),
    ]  # fmt: skip


@settings(max_examples=60)
@given(st.integers(1, 40), st.randoms(use_true_random=False), st.floats(0, 0.5))
def test_a_carrier_that_loses_lines_costs_only_time(count: int, chance: random.Random, loss: float) -> None:
    """Both state machines, the real node's output and the client: everything once and in order, whatever is lost."""
    node = Node(client())
    id_ = node.runner.exec("true")
    node.sent()
    out = program.Output()
    out.key = 7
    for i in range(count):
        out.add(Up.STDOUT, id_, b"%d" % i)
    received: list[Stdout] = []
    for turn in range(2000):
        if len(received) == count:
            break
        while out.sent != out.next and chance.random() < 0.9:
            line = out.kept[out.sent]
            out.sent += 1
            if turn > 1900 or chance.random() >= loss:
                received += [event for event in node.runner.receive(line) if isinstance(event, Stdout)]
        if chance.random() < 0.1:
            node.runner.ping()
        for kind, number, _payload in node.sent():
            if kind == Down.ACK:
                out.acknowledge(number)
            elif kind == Down.RESEND:
                out.acknowledge(number)
                out.rewind(number)
            elif kind == Down.PING:
                out.acknowledge(number)
                out.add(Up.PONG, 0)
    assert received == [Stdout(id_, b"%d" % i) for i in range(count)]


def test_two_pings_without_answer_leave_the_fifo() -> None:
    node = Node(client())
    node.runner.open_carrier()
    node.runner.receive(b"\nfleet-ssm:abc:carrier:1\n", 1)
    assert (Down.USE, 1, b"") in node.sent()
    node.runner.ping()
    assert [kind for kind, _id, _payload in node.sent()] == [Down.PING]
    node.runner.ping()
    assert [frame[:2] for frame in node.sent()] == [(Down.ACK, 0), (Down.USE, 0), (Down.PING, 0)]


def test_failures_keep_their_words() -> None:
    node = Node(client())
    id_ = node.runner.get("/ü")
    line = node.make(Up.FAILED, id_, b"ENOENT\0No such file or directory: /\xc3\xbc\xff")
    assert node.runner.receive(line) == [Failed(id_, "ENOENT", "No such file or directory: /ü\udcff")]


@pytest.mark.parametrize("name", ["a\0b", b"a\0b"])
def test_a_nul_in_a_path_is_refused(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="NUL"):
        client().get(name)


def test_imports_are_few() -> None:
    """The runner's client does no I/O, and what runs on the node imports little."""
    code = "import sys; before = set(sys.modules); import {}; print(*sorted(set(sys.modules) - before))"
    base = "ansible_collections.fleet.ssm.plugins.plugin_utils.runner."
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code.format(base + "client")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert not {"asyncio", "socket", "subprocess", "select", "ansible"} & set(loaded.stdout.split())
    path = bootstrap.__file__.replace("bootstrap.py", "")
    command = [sys.executable, "-ISc", f"import sys; sys.path.insert(0, {path!r})\n" + code.format("node")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"subprocess", "typing", "signal", "hashlib", "re", "enum", "json", "collections", "asyncio", "threading", "traceback", "shutil", "tempfile"}
    assert not heavy & set(loaded.stdout.split())
