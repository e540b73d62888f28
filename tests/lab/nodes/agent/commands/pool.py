# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many commands run at once, and how many wait: five and five. What is more is turned down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .order import CommandOrder

WORKERS = 5
BUFFER = 5

BUFFER_FULL = "ProcessorBufferFull"
DUPLICATE = "DuplicateCommand"


class Pool:
    """Decides; `start` is called with each command whose turn it is."""

    def __init__(self, start: Callable[[CommandOrder], None]) -> None:
        self._start = start
        self._running: dict[str, CommandOrder] = {}
        self._waiting: deque[CommandOrder] = deque()

    def submit(self, order: CommandOrder, *, admit: Callable[[], None] = lambda: None) -> str:
        """Take a command, or answer why not; `admit` is called before it may start."""
        if order.job_id in self._running or any(order.job_id == known.job_id for known in self._waiting):
            return DUPLICATE
        if len(self._running) >= WORKERS and len(self._waiting) >= BUFFER:
            return BUFFER_FULL
        admit()
        self._waiting.append(order)
        self._advance()
        return ""

    def done(self, job_id: str) -> None:
        """A command that ran is over."""
        self._running.pop(job_id, None)
        self._advance()

    def cancel(self, job_id: str) -> CommandOrder | None:
        """The command if it runs, to be ended. One that waits is dropped, and nobody is told: so does the agent."""
        for order in self._waiting:
            if order.job_id == job_id:
                self._waiting.remove(order)
                return None
        return self._running.get(job_id)

    def _advance(self) -> None:
        while self._waiting and len(self._running) < WORKERS:
            order = self._waiting.popleft()
            self._running[order.job_id] = order
            self._start(order)
