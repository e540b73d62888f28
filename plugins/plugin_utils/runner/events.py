# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a RunnerClient reports. ``id`` is the number that the request's method returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Ready:
    """The runner works. ``kind`` is "sh" on a node without Python: exec, put and get only, one at a time."""

    kind: Literal["python", "sh"]
    python: str  # version, or ""
    executable: str  # path of the interpreter, or ""
    platform: str  # as sys.platform
    user: str
    home: str
    uid: int
    pid: int
    capabilities: frozenset[str]


@dataclass(frozen=True)
class Estranged:
    """A second session runs as another user than the runner. Two sessions have made one of the same name, which is now the later one's."""


@dataclass(frozen=True)
class Stdout:
    """Bytes of a command's stdout, or of the file of a get."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Stderr:
    id: int
    data: bytes


@dataclass(frozen=True)
class Tty:
    """Bytes that a command wrote to its controlling terminal: prompts."""

    id: int
    data: bytes


@dataclass(frozen=True)
class Credit:
    """``size`` more bytes may be sent for this request; ``writable(id)`` is the total."""

    id: int
    size: int


@dataclass(frozen=True)
class Exited:
    """A command ended, and everything it wrote was delivered before this.

    ``returncode`` is as in a shell: 128 + the number of the ``signal`` that ended it, if one did. ``left_open``: another
    process still holds its stdout or stderr; what that one writes from now on is lost.
    """

    id: int
    returncode: int
    signal: int | None
    stdout_bytes: int
    stderr_bytes: int
    left_open: bool


@dataclass(frozen=True)
class PutFile:
    """A put is complete: the file stands under its name."""

    id: int
    size: int
    sha256: bytes | None  # None where the node cannot hash


@dataclass(frozen=True)
class GotFile:
    """A get is complete, and its bytes agree with size and hash."""

    id: int
    size: int
    mode: int | None
    sha256: bytes | None


@dataclass(frozen=True)
class Failed:
    """A request was refused or failed on the node. ``code`` is an errno name (ENOENT, EISDIR, EACCES, ENOSPC, …), or
    ECANCELED, ENOTSUP (the node has no Python), EBADMSG (hash or size differ)."""

    id: int
    code: str
    message: str


@dataclass(frozen=True)
class Message:
    """A frame of an extension."""

    id: int
    type: int
    payload: bytes


@dataclass(frozen=True)
class Pong:
    """Answer to the last ping."""


@dataclass(frozen=True)
class ProtocolError:
    """The channel cannot be used any more: whatever ran may have been done in part. Close the session."""

    message: str


Event = Ready | Estranged | Stdout | Stderr | Tty | Credit | Exited | PutFile | GotFile | Failed | Message | Pong | ProtocolError
