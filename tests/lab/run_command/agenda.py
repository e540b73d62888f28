# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done later. One timer for all of it: a fleet of simulated nodes has a hundred thousand things to do."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Agenda:
    """Calls functions at times of the running loop's clock."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Call a function after some seconds."""
        loop = asyncio.get_running_loop()
        heapq.heappush(self._entries, (loop.time() + seconds, next(self._order), do))
        if self._entries[0][2] is do:
            self._set_timer(loop)

    def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._entries[0][0], self._run) if self._entries else None

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._entries and self._entries[0][0] <= loop.time():
                heapq.heappop(self._entries)[2]()
        finally:
            self._set_timer(loop)
