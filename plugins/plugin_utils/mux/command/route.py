# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The route run_command: work for one node goes through Systems Manager's Run Command. Nothing is held open."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from ..aws import targets
from ..errors import PassingError, RequestError, unreachable
from ..protocol import ErrorKind
from ..request import ConnectionOptions
from ..session.patience import Patience
from ..tasks import Tasks
from ..work import Work
from .commands import Commands
from .content import Cancelled, collect
from .task import CommandTask

_FORGET_AFTER = 600.0
_NODE_KEPT = 300.0
_USER = "root"
"""As whom the agent runs scripts."""


class CommandRoute:
    """One node by one identity."""

    def __init__(self, commands: Commands, options: ConnectionOptions, log: logging.Logger, salt: bytes) -> None:
        self._commands = commands
        self._identity = commands.identity
        self._options = options
        self._log = log
        self._salt = salt
        self._reason = "fleet.ssm"
        self._node_id = ""
        self._known_at = float("-inf")
        self._finding: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._works: set[Work] = set()
        self._last_used = time.monotonic()
        self._done = 0
        self.needs_tty = False

    # What workers ask for

    async def open(self, options: ConnectionOptions, reason: str) -> Mapping[str, Any]:
        """Know that the node is there, and that it is no Windows.

        :raises RequestError: it is not, or cannot be found out.
        """
        self._use(options)
        self._reason = reason
        if options.run_as not in (None, _USER):
            raise RequestError(ErrorKind.OPTION, f"the option run_as is {options.run_as}, but Run Command runs everything as {_USER}: use become")
        if time.monotonic() - self._known_at > _NODE_KEPT:
            if self._finding is None:
                self._finding = asyncio.get_running_loop().create_task(self._find(options))
                self._finding.add_done_callback(self._found)
            await asyncio.shield(self._finding)
        self._commands.clear_up()
        if options.events_topic:
            await self._commands.hear(options.events_topic)
        return {
            "user": _USER, "home": "/root", "uid": 0, "python": "", "executable": "", "kind": "command", "platform": "linux", "node": self._node_id,
            "region": self._identity.region, "session": "none", "document": options.command_document, "needs_tty": False, "interactive": False,
            "salt": self._salt.hex(),
        }  # fmt: skip

    def submit(self, work: Work, options: ConnectionOptions) -> None:
        """Carry out a work; its sink hears the rest."""
        self._use(options)
        self._works.add(work)
        self._tasks.start(self._submit(work, options))

    def reset(self) -> bool:
        """Look for the node again at the next opening."""
        known, self._known_at = self._known_at, float("-inf")
        return known > self._known_at

    async def close(self) -> None:
        """End what is being collected; the commands themselves belong to :class:`Commands`."""
        self._tasks.cancel()
        await self._tasks.drain()

    # What the mux asks

    @property
    def node_id(self) -> str:
        """Once it is known."""
        return self._node_id

    @property
    def is_open(self) -> bool:
        """Nothing is held open."""
        return False

    @property
    def is_opening(self) -> bool:
        """Nothing is held open."""
        return False

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        self._forget_ended()
        return bool(self._works) or bool(self._tasks) or self._finding is not None

    @property
    def idle_since(self) -> float | None:
        """When it was last used (monotonic); `None` while it is in use."""
        return None if self.busy else self._last_used

    def close_if_idle(self, now: float) -> None:
        """Only notes whether it is in use."""
        if self.busy:
            self._last_used = now

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return now - self._last_used > _FORGET_AFTER

    def status(self) -> dict[str, Any]:
        """Figures for people."""
        self._forget_ended()
        return {
            "host": self._options.host, "node": self._node_id, "who": self._identity.label, "region": self._identity.region, "route": "run_command",
            "document": self._options.command_document, "running": len(self._works), "finished": self._done,
        }  # fmt: skip

    # Steps

    async def _find(self, options: ConnectionOptions) -> None:
        clock = asyncio.get_running_loop().time
        patience = Patience.of(clock(), missed_at=float("-inf"), silence=options.silence_timeout)
        while True:
            tried_at = clock()
            try:
                await targets.settle(self._identity)
                deadline = clock() + options.connection_timeout
                self._node_id = await targets.resolve(self._identity, options.host, deadline)
                await self._check(deadline)
                self._known_at = time.monotonic()
                return
            except PassingError as error:
                pause = patience.pause(tried_at, clock())
                if pause is None:
                    raise
                self._log.info("%s is tried again in %.1f s: %s", options.host, pause, error)
                await asyncio.sleep(pause)

    async def _check(self, deadline: float) -> None:
        """By one question for many nodes. One who may not ask it finds out by the command itself."""
        try:
            known = await self._identity.lookups.managed.find(self._node_id)
        except Exception as error:
            self._log.info("%s: whether it is there is not known: %s", self._node_id, error)
            return
        if known is None or known.get("PingStatus") != "Online":
            raise unreachable(await targets.why_not_connected(self._identity, self._node_id, deadline, "Run Command"))
        if known.get("PlatformType") == "Windows":
            raise RequestError(
                ErrorKind.FAILED,
                f"{self._node_id} is a Windows node: this connection serves Linux and macOS. Run PowerShell there by the module fleet.ssm.run_command",
            )

    def _found(self, task: asyncio.Task[None]) -> None:
        self._finding = None
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits any more

    async def _submit(self, work: Work, options: ConnectionOptions) -> None:
        try:
            content = await collect(work)
            self._commands.submit(CommandTask.of(work, self._node_id, options, content, self._commands.commons, self._reason))
        except Cancelled:
            work.fail(unreachable("cancelled; nothing was run"))
        except RequestError as error:
            work.fail(error)
        except asyncio.CancelledError:
            work.fail(unreachable("the mux is ending; nothing was run"))
            raise

    def _forget_ended(self) -> None:
        ended = {work for work in self._works if work.ended}
        self._done += len(ended)
        self._works -= ended

    def _use(self, options: ConnectionOptions) -> None:
        self._last_used = time.monotonic()
        self._options = options
