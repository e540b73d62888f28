# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines, as far as they can be judged without running them."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import zlib

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner import bootstrap, frames

NONCE = "0123456789abcdef01234567"


@pytest.mark.parametrize("interpreter", [None, "/opt/my python's/bin/python3"])
@pytest.mark.parametrize("fifo", [True, False])
def test_the_session_command_fits_every_place_it_goes_to(interpreter: str | None, fifo: bool) -> None:
    command = bootstrap.session_command(NONCE, interpreter=interpreter, fifo=fifo)
    assert len(command) < 3500  # a line typed at a prompt in canonical mode holds 4,095
    assert re.fullmatch(r"[ -~]+", command)
    for special in ("!", "{{", "}}", "$$"):
        assert special not in command
    subprocess.run(["sh", "-n", "-c", command], check=True)


def test_the_carrier_command_needs_no_shell_to_split_it() -> None:
    command = bootstrap.carrier_command(NONCE, 7)
    assert re.fullmatch(r"[ -~]+", command)
    for special in ("{{", "}}", "$$"):
        assert special not in command
    words = shlex.split(command)
    assert words[:2] == ["sh", "-c"]
    assert len(words) == 3
    subprocess.run(["sh", "-n", "-c", words[2]], check=True)


def test_the_program_is_the_source() -> None:
    source = zlib.decompress(bootstrap.program())
    ast.parse(source, feature_version=(3, 6))
    assert len(bootstrap.program()) < 16384


def test_the_shell_program_says_what_the_source_says() -> None:
    program = bootstrap.shell_program().decode()
    assert not [line for line in program.splitlines() if not line or line[0] in " \t#"]
    # "$(dd …)" removes the last newline, and nothing else may be at stake there.
    assert program.endswith("end_all\n")
    subprocess.run(["sh", "-n"], input=program.encode(), check=True)


def test_a_frame_fits_in_a_line() -> None:
    payload = b"\n" * frames.CHUNK
    assert len(frames.encode_up(frames.Frame(0x0A0A0A0A, 1, 0x0A0A0A0A, payload), 0)) < frames.LONGEST_LINE
