# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a data channel reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Output:
    """Bytes of the session, in order and without gaps. A PTY session has stdout only."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class ExitCode:
    """How the command of a session with separate streams ended; -1 for a signal."""

    code: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The channel has ended and nothing follows. ``clean``: the service said so and no output is missing."""

    reason: str
    clean: bool


@dataclass(frozen=True, slots=True)
class Resending:
    """The agent sends again what it could not send before, ten messages a second: with much to send, a new session is faster."""


@dataclass(frozen=True, slots=True)
class DataKeyNeeded:
    """The agent wants encryption: make a data key of 64 bytes under ``key_id`` and ``context``, and hand it over."""

    key_id: str
    context: Mapping[str, str]


Event = Output | ExitCode | Closed | Resending | DataKeyNeeded
