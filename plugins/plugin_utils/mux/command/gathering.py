# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Equal tasks of several nodes, gathered into batches that share a SendCommand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ...runcommand.window import Forks, Window
from ..controllers import Controllers
from ..tasks import Tasks
from .task import CommandTask


@dataclass
class _Batch:
    window: Window[CommandTask]
    parents: set[int] = field(default_factory=set)
    """Of the workers whose tasks are in it."""
    known: bool = True
    """Whether all of them are known."""
    full: asyncio.Event = field(default_factory=asyncio.Event)


class Gathering:
    """The batches of one identity that are still open.

    :param carry_out: gets the tasks of one that is over; deals with its own errors.
    """

    def __init__(self, controllers: Controllers, tasks: Tasks, carry_out: Callable[[list[CommandTask]], Awaitable[None]]) -> None:
        self._controllers = controllers
        self._tasks = tasks
        self._carry_out = carry_out
        self._open: dict[bytes, _Batch] = {}

    def add(self, task: CommandTask) -> None:
        """Have it carried out, with others like it."""
        now = asyncio.get_running_loop().time()
        batch = self._open.get(task.key)
        if batch is None or not batch.window.takes(task.node_id):
            batch = self._open[task.key] = _Batch(Window(now))
            self._tasks.start(self._gather(task.key, batch))
        worker = self._controllers.worker(task.work.worker)
        if worker is None:
            batch.known = False
        else:
            batch.parents.add(worker.parent)
            for other in self._open.values():
                if other is not batch and worker.parent in other.parents:
                    other.window.passed_by()
        # The way of one that is tried again tells nothing of others'.
        batch.window.add(now, task.node_id, task, self._controllers.set_out(worker) if worker is not None and task.command is None else None)
        if batch.window.is_full:
            batch.full.set()

    async def _gather(self, key: bytes, batch: _Batch) -> None:
        """Wait until it is over."""
        clock = asyncio.get_running_loop().time
        while (pause := batch.window.pause(clock(), self._forks(batch))) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await batch.full.wait()
        if self._open.get(key) is batch:
            del self._open[key]
        await self._carry_out(list(batch.window.items.values()))

    def _forks(self, batch: _Batch) -> Forks | None:
        return self._controllers.forks(batch.parents) if batch.known else None
