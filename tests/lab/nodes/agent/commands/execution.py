# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One running document as the agent sees it: its worker, what that tells, and what to do when it tells nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import AgentConfig
from ..waiting import readable, reaped
from .result import FAILED, IN_PROGRESS, SUCCESS_AND_REBOOT, StepResult
from .store import DocumentState, Store
from .worker import CANCEL, start_worker

_GONE = (
    "document process failed unexpectedly: ipc messaging received timeout signal , "
    "check [ssm-document-worker]/[ssm-session-worker] log for crash reason"
)

#: Takes a result: the state, and the step that it is about, empty at the end.
OnResult = Callable[[DocumentState, str], None]


class Execution:
    """Follows one document to its end. `on_result` hears of every step and of the end."""

    def __init__(
        self, config: AgentConfig, context: ssl.SSLContext, store: Store, state: DocumentState, on_result: OnResult
    ) -> None:
        self._config, self._context, self._store, self.state = config, context, store, state
        self._on_result = on_result
        self._command_id = state.order.command_id
        self._events = store.events_path(self._command_id)
        self._bell = Path(config.run_dir, "commands", f"{self._command_id}.bell")
        self._ended = False

    def cancel(self) -> None:
        """Ask the worker to end the command."""
        if self._alive():
            os.kill(self.state.pid, CANCEL)

    async def run(self) -> None:
        """Start or find the worker, and follow it until the document's end was passed on."""
        state = self.state
        if state.status == SUCCESS_AND_REBOOT:
            self._events.unlink(missing_ok=True)
            state.status, state.read = IN_PROGRESS, 0
        self._bell.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._bell, 0o600)
        bell = os.open(self._bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not self._events.exists():
                self._events.touch()
                state.pid = start_worker(self._config, self._context, state, self._events, self._bell)
                state.boot_id = _boot_id()
            self._store.save(state)
            await self._follow(bell)
        finally:
            os.close(bell)
            self._bell.unlink(missing_ok=True)

    async def _follow(self, bell: int) -> None:
        worker = asyncio.create_task(self._until_worker_ends())
        patience: float | None = None
        while True:
            self._read_events()
            if self._ended:
                return
            ring = asyncio.create_task(readable(bell))
            waiting = {ring} if worker.done() else {ring, worker}
            if worker.done() and patience is None:
                patience = asyncio.get_running_loop().time() + self._config.zombie_timeout
            left = None if patience is None else max(0.0, patience - asyncio.get_running_loop().time())
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if ring.done():
                with contextlib.suppress(BlockingIOError):
                    os.read(bell, 4096)
            else:
                ring.cancel()
                if left == 0.0:
                    self._give_up()
                    return

    async def _until_worker_ends(self) -> None:
        """Also reaps it. One that uploads late goes on for a while after its last event."""
        if not self._alive():
            return
        await reaped(self.state.pid)

    def _read_events(self) -> None:
        """Pass on what is new. The place is noted first: after a crash an event is lost rather than told twice."""
        with self._events.open("rb") as file:
            file.seek(self.state.read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return
        events: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self.state.read += len(whole)
        known = dict(self.state.results)
        for event in events:
            if "step" in event:
                self.state.results[event["step"]] = StepResult(**event["result"])
            else:
                self.state.status, self._ended = event["done"], True
        self._store.save(self.state)
        # Each is told with what was known then.
        self.state.results = known
        for event in events:
            if "step" in event:
                self.state.results[event["step"]] = StepResult(**event["result"])
            self._on_result(self.state, event.get("step", ""))

    def _give_up(self) -> None:
        """The worker is gone and left no end."""
        state = self.state
        state.status, self._ended = FAILED, True
        first = state.order.steps[0]
        # Without the plugin's name: the agent makes this result of nothing.
        result = state.results.get(first.step_id) or StepResult(first.step_id, "")
        result.output, result.status = _GONE, FAILED
        state.results = {first.step_id: result}
        self._on_result(state, "")

    def _alive(self) -> bool:
        """Whether the worker runs; pids of another boot are somebody else's."""
        if not self.state.pid or self.state.boot_id != _boot_id():
            return False
        try:
            os.kill(self.state.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
