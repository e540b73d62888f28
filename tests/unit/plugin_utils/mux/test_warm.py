# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run in which way, and in which order a command gets its input."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.client import MuxClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.escalation import Escalation
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Lifecycle
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import Decoder, FrameType, encode_json
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.warm import Fate, WarmNode, Warmth, Way
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.work import Exec, Work
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Failed
from tests.unit.plugin_utils.runner.warm import core

REMOVE = "/bin/sh -c 'rm -f -r /home/a/.ansible/tmp/ansible-tmp-1.5-1-2/ > /dev/null 2>&1'"


class Nobody:
    """Gets what comes of a work."""

    def output(self, kind: FrameType, data: bytes) -> None:
        pass

    def credit(self, count: int) -> None:
        pass

    def done(self, kind: FrameType, **fields: object) -> None:
        pass

    def failed(self, error: RequestError) -> None:
        pass


def node() -> WarmNode:
    return WarmNode(RunnerClient(), Warmth())


def module(*, warm: bool = True, secret: bytes = b"", **options: str) -> Exec:
    """A task with a module."""
    return Exec(core.command(**options), tty=False, takes_input=False, payload=core.payload("ping"), warm=warm, secret=secret)


@pytest.mark.parametrize(
    ("action", "able", "way"),
    [
        (module(), True, Way.WARM),
        (module(), False, Way.COLD),
        (module(warm=False), True, Way.COLD),
        (Exec(core.command(), False, False, b"print(1)\n", warm=True), True, Way.COLD),
        (Exec(core.command(), False, False, warm=True), True, Way.COLD),
        (Exec(REMOVE, False, False, warm=True), True, Way.ERRAND),
        (Exec(REMOVE, False, False, warm=False), True, Way.COLD),
        (Exec(REMOVE, True, False, warm=True), True, Way.COLD),
        (Exec(REMOVE, False, True, warm=True), True, Way.COLD),
        (Exec(REMOVE, False, False, b"input", warm=True), True, Way.COLD),
    ],
)
def test_way(action: Exec, able: bool, way: Way) -> None:
    of = node()
    assert of.begin(action, able=able)[1] is way
    assert of.counts[way] == of.counts.total() == 1


def test_what_can_never_be_kept_is_tried_once_for_each_password() -> None:
    of = node()
    number, way, _answer = of.begin(module(secret=b"one"), able=True)
    assert way is Way.WARM
    assert of.failed(Failed(number, "ENOTSUP", "")) is Fate.NOT_STARTED
    assert of.begin(module(secret=b"one"), able=True).way is Way.COLD
    assert of.begin(module(secret=b"other"), able=True).way is Way.WARM


@pytest.mark.parametrize(
    ("code", "fate"),
    [("EAGAIN", Fate.NOT_STARTED), ("EBUSY", Fate.NOT_STARTED), ("EOWNERDEAD", Fate.UNKNOWN), ("ECANCELED", Fate.FAILED), ("ENOENT", Fate.FAILED)],
)
def test_fate(code: str, fate: Fate) -> None:
    of = node()
    for action, expected in ((module(), fate), (module(warm=False), Fate.FAILED), (Exec(REMOVE, False, False, warm=True), Fate.FAILED)):
        number = of.begin(action, able=True).number
        assert of.failed(Failed(number, code, "")) is expected
    number = of.begin(module(), able=True).number
    of.ended(number)
    assert of.failed(Failed(number, code, "")) is Fate.FAILED


def test_a_payload_follows_the_workers_input_and_its_end() -> None:
    work = Work(Exec("cat", False, takes_input=True), Nobody(), Lifecycle(0), silence=60)
    work.payload = b"payload"
    assert work.take_input(100) == b""
    work.input += b"password\n"
    assert work.take_input(100) == b"password\n"
    assert work.take_input(100) == b""
    work.input_ended = True
    assert [work.take_input(4) for _turn in range(3)] == [b"payl", b"oad", b""]


class Asks:
    """A become plugin."""

    name, success, prompt = "sudo", "BECOME-SUCCESS", "password"

    def __init__(self, password: str) -> None:
        self._password = password

    def expect_prompt(self) -> bool:
        return bool(self._password)

    def get_option(self, _option: str) -> object:
        return self._password

    def check_password_prompt(self, b_output: bytes) -> bool:
        return False

    check_success = check_incorrect_password = check_missing_password = check_password_prompt


def test_passwords_are_told_apart_and_not_known() -> None:
    def secret(password: str, salt: bytes = b"salt") -> str:
        return Escalation(Asks(password)).secret(salt)

    assert secret("one") == secret("one") != secret("other")
    assert secret("one") != secret("one", b"another mux")
    assert secret("") == Escalation(None).secret(b"salt") == ""
    assert b"one".hex() not in secret("one")


def test_a_frame_that_was_cut_by_the_end_of_a_request_is_completed() -> None:
    """A command may end while its input is on its way: what was begun must not be taken for part of the next request."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)  # less than a frame
    client = MuxClient(ours, patience=30)
    exchange = client.exec("head -c 1", takes_input=True)
    exchange.give(bytes(1_000_000))
    assert exchange.next_event(timeout=0.05) is None
    theirs.sendall(encode_json(FrameType.EXITED, returncode=0))
    while not exchange.finished:
        exchange.next_event(timeout=0.05)
    decoder, frames = Decoder(), []
    theirs.settimeout(0.05)
    following = client.exec("next")
    while (not frames or frames[-1][0] is not FrameType.EXEC or b"next" not in frames[-1][1]) and following.next_event(timeout=0.05) is None:
        frames.extend(decoder.feed(theirs.recv(1 << 20)))
    assert {kind for kind, _payload in frames} == {FrameType.EXEC, FrameType.INPUT}
    assert decoder.pending == 0
    theirs.close()
    client.close()
