# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the agent's stream messages into their order and says which to acknowledge."""

from __future__ import annotations

from collections.abc import Iterator

from .message import Message


class Incoming:
    """Messages that arrived before their turn, and the number of the next one."""

    def __init__(self, capacity: int) -> None:
        self.expected = 0
        self.duplicates = 0
        self._capacity = capacity
        self._early: dict[int, Message] = {}

    @property
    def missing(self) -> bool:
        """Whether a message is missing in front of one that has arrived."""
        return bool(self._early)

    def accept(self, message: Message) -> bool:
        """Take a message; True if it is to be acknowledged.

        Duplicates are acknowledged again, since the agent resends what it believes to be unacknowledged. Only a
        message for which there is no room is not: it will come again.
        """
        sequence = message.sequence
        if sequence < self.expected or sequence in self._early:
            self.duplicates += 1
            return True
        if sequence != self.expected and len(self._early) >= self._capacity:
            return False
        self._early[sequence] = message
        return True

    def in_order(self) -> Iterator[Message]:
        """Messages whose turn has come; each is delivered once."""
        while (message := self._early.pop(self.expected, None)) is not None:
            self.expected += 1
            yield message
