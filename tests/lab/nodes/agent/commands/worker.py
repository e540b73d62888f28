# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of one document. It outlives the agent: what it has to tell is in a file, and a FIFO tells of that."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import ssl
import time
from pathlib import Path
from typing import IO, Any

from ..config import AgentConfig
from ..identity import stored_credentials
from ..service import Service
from .order import CommandOrder
from .plugins import Plugins
from .result import StepResult, document_status
from .runner import Surroundings, run_steps
from .s3 import S3
from .store import DocumentState

CANCEL = signal.SIGUSR1

_log = logging.getLogger(__name__)


def orchestration_folder(config: AgentConfig, command_id: str) -> Path:
    """Where a command's scripts and outputs stay on the node."""
    return Path(config.data_dir, config.node_id, "document", "orchestration", command_id)


def start_worker(config: AgentConfig, context: ssl.SSLContext, state: DocumentState, events: Path, bell: Path) -> int:
    """Fork a process for a document; its pid."""
    # A cancel may come before the new process can take it: the default action would end it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {CANCEL})
    try:
        pid = os.fork()
        if pid == 0:
            _become_worker(config, context, state, events, bell)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become_worker(
    config: AgentConfig, context: ssl.SSLContext, state: DocumentState, events: Path, bell: Path
) -> None:
    """In the forked process. The agent's event loop and sockets are only closed here, never used."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 65536)
        _Worker(config, Service(config, context), state.order, events, bell).run(state.results)
    except BaseException:
        _log.exception("command %s", state.order.command_id)
    finally:
        logging.shutdown()
        os._exit(0)


class _Worker:
    def __init__(self, config: AgentConfig, service: Service, order: CommandOrder, events: Path, bell: Path) -> None:
        self._config, self._service, self._order = config, service, order
        self._events_path, self._bell_path = events, bell
        self._cancelled = False
        self._late: list[tuple[str, Path]] = []
        self._s3 = S3(service, lambda: stored_credentials(service))

    def run(self, before: dict[str, StepResult]) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def cancel(_number: int, _frame: object) -> None:
            self._cancelled = True
            with contextlib.suppress(BlockingIOError):
                os.write(wake_write, b"x")

        signal.signal(CANCEL, cancel)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {CANCEL})
        order = self._order
        folder = orchestration_folder(self._config, order.command_id)
        around = Surroundings(
            config=self._config,
            service=self._service,
            command_id=order.command_id,
            folder=folder,
            outputs=folder,
            bucket=order.bucket,
            key_prefix=order.key_prefix,
            upload=self._upload if order.bucket else None,
            cancelled=lambda: self._cancelled,
            wake=wake_read,
        )
        results: dict[str, StepResult] = {}
        # Opened for reading too, a FIFO takes what nobody reads yet.
        bell = os.open(self._bell_path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with self._events_path.open("ab", buffering=0) as events:
            for result in run_steps(around, Plugins(self._config), order.steps, before):
                results[result.step_id] = result
                _tell(events, bell, {"step": result.step_id, "result": result.as_json()})
            _tell(events, bell, {"done": document_status(results)})
        if self._late:
            time.sleep(self._config.s3_late)
            for key, path in self._late:
                self._s3.put(order.bucket, key, path)

    def _upload(self, key: str, path: Path) -> None:
        if self._config.s3_late:
            self._late.append((key, path))
        else:
            self._s3.put(self._order.bucket, key, path)


def _tell(events: IO[bytes], bell: int, event: dict[str, Any]) -> None:
    events.write(json.dumps(event).encode() + b"\n")
    with contextlib.suppress(BlockingIOError):
        os.write(bell, b".")
