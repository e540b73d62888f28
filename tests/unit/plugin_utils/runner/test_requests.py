# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.requests import argv_of

SH = b"/bin/sh"
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(WORDS)
def test_a_shell_around_a_shell_is_left_out(script: str) -> None:
    """What Ansible's shell plugins make: the outer shell would only remove the quotes."""
    assert argv_of(f"/bin/sh -c '{script.replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}'") == (SH, b"-c", script.encode())


@given(WORDS)
def test_anything_that_the_outer_shell_would_read_goes_to_it(tail: str) -> None:
    line = f"/bin/sh -c 'true' {tail}x"
    assert argv_of(line) == (SH, b"-c", line.encode())


@pytest.mark.parametrize(
    "line",
    [
        "echo hi",
        "/bin/sh -c true",
        "/bin/sh -c 'true' && false",
        "/bin/sh -c 'a' 'b'",
        "/bin/sh -c \"true\"",
        "/bin/sh -c $'true'",
        "/bin/sh  -c 'true'",
        "/bin/sh -c 'true';",
        "/bin/sh -c 'true'\n",
        " /bin/sh -c 'true'",
        "/bin/bash -c 'true'",
        "/bin/sh -c 'a'x'b'",
        "/bin/sh -c ''\\x''",
        "/bin/sh -c",
    ],
)
def test_only_the_one_form(line: str) -> None:
    assert argv_of(line) == (SH, b"-c", line.encode())


def test_pieces_of_quoting() -> None:
    assert argv_of("/bin/sh -c 'it'\"'\"'s '\\''it'\\'''") == (SH, b"-c", b"it's 'it'")
    assert argv_of("/bin/sh -c " + shlex.quote("echo 'a b' \"c\" $d")) == (SH, b"-c", b"echo 'a b' \"c\" $d")


def test_bytes_and_lists() -> None:
    assert argv_of(b"echo \xff") == (SH, b"-c", b"echo \xff")
    assert argv_of("echo \udcff") == (SH, b"-c", b"echo \xff")
    assert argv_of(["/bin/echo", b"\xff", "ü"]) == (b"/bin/echo", b"\xff", "ü".encode())


@pytest.mark.parametrize("command", ["a\0b", b"a\0b", ["a", "b\0"]])
def test_a_nul_is_refused(command: str | bytes | list[str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        argv_of(command)
