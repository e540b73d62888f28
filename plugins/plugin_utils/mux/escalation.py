# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answering a become plugin's prompt, and taking prompt and success line out of the output, as the ssh plugin does.

No I/O, and nothing imported from Ansible: the become plugin is whatever has its methods. Unlike with ssh the streams are
known apart, also the terminal's, so the password goes where the prompt came from.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import Protocol

from .protocol import FrameType


class Become(Protocol):
    """What is used of a become plugin."""

    name: str
    success: str
    prompt: object

    def expect_prompt(self) -> bool: ...

    def check_password_prompt(self, b_output: bytes) -> bool: ...

    def check_success(self, b_output: bytes) -> bool: ...

    def check_incorrect_password(self, b_output: bytes) -> bool: ...

    def check_missing_password(self, b_output: bytes) -> bool: ...

    def get_option(self, option: str) -> object: ...


class EscalationError(Exception):
    """The password is wrong or missing."""


_REFUSED = re.compile(rb"(?i)authentication fail|incorrect password")
"""What programs say whose plugin knows no words for it (doas: `Authentication failed`)."""


class _State(enum.Enum):
    PROMPT = "a prompt is expected"
    SUCCESS = "the success line is expected"
    RUNNING = "the command itself runs"


class Escalation:
    """One command's way through a become plugin."""

    def __init__(self, become: Become | None) -> None:
        self._become = become
        self._pending: dict[FrameType, bytes] = {}
        self._answer: tuple[bool, bytes] | None = None
        self._name = "" if become is None else become.name.rpartition(".")[2]
        self.asks_password = become is not None and become.expect_prompt()
        self._state = _State.RUNNING if become is None else _State.PROMPT if self.asks_password else _State.SUCCESS

    @classmethod
    def of(cls, become: Become | None, command: str) -> Escalation:
        """For a command that went through ``become``, or not: core leaves it out where the user is the same."""
        return cls(become if become is not None and become.success and become.success in command else None)

    @property
    def active(self) -> bool:
        """Whether the command goes through a become plugin."""
        return self._become is not None

    @property
    def wants_tty(self) -> bool:
        """Whether the plugin's program is one that talks to a terminal: core's mark for that is a prompt of any text."""
        return self._become is not None and (bool(getattr(self._become, "require_tty", False)) or self._become.prompt is True)

    @property
    def watching(self) -> bool:
        """Whether output must still be examined."""
        return self._state is not _State.RUNNING

    @property
    def blocks_input(self) -> bool:
        """Whether the command's own input must wait: it would be taken for a password."""
        return self.asks_password and self.watching

    def secret(self, salt: bytes) -> str:
        """What stands for the password where passwords must be told apart but not known; empty if none would be given."""
        if self._become is None or not self.asks_password:
            return ""
        return hashlib.blake2b(self._password(), key=salt, digest_size=32).hexdigest()

    def _password(self) -> bytes:
        return b"" if self._become is None else str(self._become.get_option("become_pass")).encode("utf-8", "surrogateescape")

    def refused_without_tty(self, stderr: bytes) -> bool:
        """Whether sudo ended without starting the command, since sudoers demands a terminal (`requiretty`): it may be run again with one."""
        return self.watching and b"sudo" in stderr and b"must have a tty" in stderr

    def examine(self, stream: FrameType, data: bytes) -> bytes:
        """What of a piece of output belongs to the command.

        :raises EscalationError: the output says that the password is wrong or missing.
        """
        become = self._become
        if become is None:
            raise AssertionError
        data = self._pending.pop(stream, b"") + data
        kept: list[bytes] = []
        lines = data.splitlines(keepends=True)
        for index, line in enumerate(lines):
            if not self.watching:
                kept.extend(lines[index:])
                return b"".join(kept)
            if self.asks_password and become.check_password_prompt(line):
                if self._state is _State.SUCCESS:
                    raise EscalationError(f"Incorrect {self._name} password")
                self._state = _State.SUCCESS
                self._answer = (stream is FrameType.TTY, self._password() + b"\n")
            elif become.check_success(line):
                if line.endswith(b"\n"):
                    self._state = _State.RUNNING
                else:
                    self._pending[stream] = line  # its newline would else be taken for output
            elif become.check_incorrect_password(line):
                raise EscalationError(f"Incorrect {self._name} password")
            elif become.check_missing_password(line):
                raise EscalationError(f"Missing {self._name} password")
            elif line.endswith((b"\n", b"\r")):
                kept.append(line)
            else:
                self._pending[stream] = line
        if not self.watching:
            kept.append(self._pending.pop(stream, b""))
        return b"".join(kept)

    def take_answer(self) -> tuple[bool, bytes] | None:
        """The password and a newline, once, when it is due; and whether it goes to the terminal rather than to stdin."""
        answer, self._answer = self._answer, None
        return answer

    def check_end(self, said: bytes) -> None:
        """To be called when a command ended that never succeeded to become someone else, with all it said beside stdout.

        :raises EscalationError: the password was given and refused.
        """
        if self.asks_password and self._state is _State.SUCCESS and _REFUSED.search(said):
            raise EscalationError(f"Incorrect {self._name} password")

    def held(self, stream: FrameType) -> bytes:
        """What a stream had of a line when another one told of the success."""
        return self._pending.pop(stream, b"")

    def rest(self) -> dict[FrameType, bytes]:
        """What was held back as an incomplete line, at the command's end."""
        pending, self._pending = self._pending, {}
        return pending
