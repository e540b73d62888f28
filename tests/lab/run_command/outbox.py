# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the service for one agent, until it acknowledges them. No I/O, and a clock that is given.

Either channel takes from it: the control channel what is due, GetMessages the same. A message that was handed out is hidden
for a while and then handed out again: agents know messages that they have seen already.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Letter:
    """One message; `message_id` as `aws.ssm.COMMAND.NODE`, times in seconds of the clock that is given."""

    message_id: str
    topic: str
    payload: str
    created: float
    visible: float = 0.0
    attempts: int = 0


class Outbox:
    """What one agent has not acknowledged."""

    __slots__ = ("_letters",)

    def __init__(self) -> None:
        self._letters: dict[str, Letter] = {}

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._letters

    def __len__(self) -> int:
        return len(self._letters)

    def put(self, letter: Letter) -> None:
        """A new message."""
        self._letters[letter.message_id] = letter

    def take(self, now: float, hidden: float) -> list[Letter]:
        """The messages that are due, hidden for some seconds from now on."""
        due = [letter for letter in self._letters.values() if letter.visible <= now]
        for letter in due:
            letter.visible = now + hidden
            letter.attempts += 1
        return due

    def again(self, message_id: str, at: float) -> bool:
        """Hand a message out again at a time; False if there is none."""
        letter = self._letters.get(message_id)
        if letter is not None:
            letter.visible = at
        return letter is not None

    def expose(self) -> None:
        """Everything is due: who had it is gone."""
        for letter in self._letters.values():
            letter.visible = 0.0

    def remove(self, message_id: str) -> bool:
        """Acknowledged or withdrawn; False if there was none."""
        return self._letters.pop(message_id, None) is not None

    @property
    def next_due(self) -> float | None:
        """When the next message is due; None if there is none."""
        return min((letter.visible for letter in self._letters.values()), default=None)
