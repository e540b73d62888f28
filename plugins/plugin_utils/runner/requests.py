# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of a runner, in terms that do not depend on the kind of runner."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# The one form that needs no second shell: what Ansible's shell plugins make of nearly every command. Quoted pieces only,
# so that the outer shell would have had nothing to expand.
_SH_C = re.compile(rb"""/bin/sh -c ((?:'[^']*'|"'"|\\')+)""")
_PIECE = re.compile(rb"""'([^']*)'|"(')"|\\(')""")


def to_bytes(value: str | bytes) -> bytes:
    """Text of the controller as the node's bytes; a NUL, which no command or path can hold, is a ValueError."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a NUL character cannot be part of a command or a path")
    return data


def argv_of(command: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    """The arguments to execute: of a command line, ``/bin/sh -c LINE``, without a shell around a shell."""
    if not isinstance(command, (str, bytes)):
        return tuple(to_bytes(argument) for argument in command)
    line = to_bytes(command)
    if match := _SH_C.fullmatch(line):
        line = b"".join(b"".join(groups) for groups in _PIECE.findall(match[1]))
    return (b"/bin/sh", b"-c", line)


@dataclass(frozen=True)
class Exec:
    id: int
    argv: tuple[bytes, ...]
    tty: bool = False
    tty_stdin: bool = False
    env: Mapping[bytes, bytes] = field(default_factory=dict)
    cwd: bytes = b""  # "" is the home directory


@dataclass(frozen=True)
class Put:
    id: int
    path: bytes
    size: int
    mode: int | None  # None: as the file that is there, else by the umask


@dataclass(frozen=True)
class Get:
    id: int
    path: bytes


Request = Exec | Put | Get
