# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts and success lines of the become plugins that there are, cut into any pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.plugins.loader import become_loader, get_shell_plugin
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.escalation import Escalation, EscalationError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import FrameType

OUT, ERR, TTY = FrameType.STDOUT, FrameType.STDERR, FrameType.TTY


def make(method: str, password: str | None = None) -> tuple[Escalation, Any]:
    become = become_loader.get(method)
    become.set_options(direct={"become_pass": password, "become_user": "root"})
    command = become.build_become_command("/bin/sh -c 'id'", get_shell_plugin(shell_type="sh"))
    return Escalation.of(become, command), become


def success(become: Any) -> bytes:
    return f"{become.success}\n".encode()


def test_without_become_nothing_is_examined() -> None:
    escalation = Escalation.of(None, "id")
    assert not escalation.active and not escalation.watching and not escalation.blocks_input and not escalation.wants_tty


def test_a_command_that_core_did_not_wrap_is_left_alone() -> None:
    _unused, become = make("ansible.builtin.sudo")
    assert not Escalation.of(become, "/bin/sh -c 'id'").active


def test_without_a_password_input_need_not_wait() -> None:
    escalation, become = make("ansible.builtin.sudo")
    assert escalation.watching and not escalation.blocks_input and not escalation.wants_tty
    assert escalation.examine(OUT, success(become) + b"uid=0\n") == b"uid=0\n"
    assert not escalation.watching


def test_what_another_stream_had_of_a_line_stays_before_its_rest() -> None:
    escalation, become = make("ansible.builtin.sudo")
    assert escalation.examine(ERR, b"warn: half") == b""
    assert escalation.examine(OUT, success(become)) == b"" and not escalation.watching
    assert (escalation.held(ERR), escalation.held(ERR), escalation.rest()) == (b"warn: half", b"", {})


@pytest.mark.parametrize(
    ("method", "stream", "prompt"),
    [
        ("ansible.builtin.sudo", ERR, lambda become: become.prompt.encode()),
        ("ansible.builtin.su", ERR, lambda _: b"Password: "),
        ("ansible.builtin.su", TTY, lambda _: "Пароль: ".encode()),
        ("community.general.doas", TTY, lambda _: b"doas (ssm-user@web-1) password: "),
    ],
)
def test_the_password_goes_where_the_prompt_came_from(method: str, stream: FrameType, prompt: Callable[[Any], bytes]) -> None:
    escalation, become = make(method, "it's \u00fc")
    assert escalation.blocks_input
    assert escalation.wants_tty is (method != "ansible.builtin.sudo")
    assert escalation.take_answer() is None
    assert escalation.examine(stream, prompt(become)) == b""
    assert escalation.take_answer() == (stream is TTY, "it's \u00fc\n".encode())
    assert escalation.take_answer() is None
    assert escalation.blocks_input
    assert escalation.examine(OUT, success(become)) == b""
    assert not escalation.blocks_input


def test_a_second_prompt_means_a_wrong_password() -> None:
    escalation, become = make("ansible.builtin.sudo", "wrong")
    escalation.examine(ERR, become.prompt.encode())
    with pytest.raises(EscalationError, match="Incorrect sudo password"):
        escalation.examine(ERR, b"\n" + become.prompt.encode())


def test_sudo_says_sorry() -> None:
    escalation, become = make("ansible.builtin.sudo", "wrong")
    escalation.examine(ERR, become.prompt.encode())
    with pytest.raises(EscalationError, match="Incorrect sudo password"):
        escalation.examine(ERR, b"\nSorry, try again.\n")


def test_doas_says_that_it_failed() -> None:
    escalation, _unused = make("community.general.doas", "wrong")
    escalation.examine(TTY, b"doas (ssm-user@web-1) password: ")
    with pytest.raises(EscalationError, match="Incorrect doas password"):
        escalation.check_end(b"\r\ndoas: Authentication failed\r\n")


def test_sudo_that_demands_a_terminal_may_be_asked_again() -> None:
    refusal = b"sudo: sorry, you must have a tty to run sudo\n"
    escalation, become = make("ansible.builtin.sudo")
    assert escalation.refused_without_tty(refusal)
    escalation.examine(OUT, success(become))
    assert not escalation.refused_without_tty(refusal), "the command has started"


def test_a_missing_password() -> None:
    escalation, _unused = make("ansible.builtin.sudo")
    with pytest.raises(EscalationError, match="Missing sudo password"):
        escalation.examine(ERR, b"sudo: a password is required\n")


def test_the_password_is_in_no_error() -> None:
    escalation, become = make("ansible.builtin.sudo", "geheim")
    escalation.examine(ERR, become.prompt.encode())
    with pytest.raises(EscalationError) as caught:
        escalation.examine(ERR, b"\nSorry, try again.\n")
    assert "geheim" not in str(caught.value)


@given(st.lists(st.integers(1, 12), min_size=1), st.binary(max_size=60))
def test_output_is_whole_however_it_is_cut(steps: list[int], output: bytes) -> None:
    escalation, become = make("ansible.builtin.sudo", "p")
    stream = b"a lecture\n" + success(become) + output
    found = b""
    index = 0
    while stream:
        size = steps[index % len(steps)]
        index += 1
        piece, stream = stream[:size], stream[size:]
        found += escalation.examine(OUT, piece) if escalation.watching else piece
    found += escalation.rest().get(OUT, b"")
    assert found == b"a lecture\n" + output
