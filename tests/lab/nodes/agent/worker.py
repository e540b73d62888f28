# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of one session. It outlives the agent: what it needs of it is in files, and so is its result."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import selectors
import signal
import ssl
from pathlib import Path

from .config import AgentConfig
from .document import SessionOrder
from .plugin import Result
from .service import Service
from .session import Session

_log = logging.getLogger(__name__)


def start_worker(config: AgentConfig, context: ssl.SSLContext, order: SessionOrder) -> int:
    """Fork a process for a session; its pid, which is also left in a file for the next agent."""
    pid = os.fork()
    if pid == 0:
        _become_worker(config, context, order)
    directory = _directory(config)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{order.session_id}.pid").write_text(str(pid))
    return pid


def living_sessions(config: AgentConfig) -> dict[str, int]:
    """Sessions that an agent before this one left, with the pids of their workers."""
    return {path.stem: int(path.read_text()) for path in _directory(config).glob("*.pid")}


def take_result(config: AgentConfig, session_id: str) -> Result:
    """The result that an ended worker left."""
    path = _directory(config) / f"{session_id}.result"
    try:
        result = Result(**json.loads(path.read_text()))
    except (OSError, ValueError):
        result = Result("Failed", "the session worker ended without a result")
    path.unlink(missing_ok=True)
    path.with_suffix(".pid").unlink(missing_ok=True)
    return result


def _directory(config: AgentConfig) -> Path:
    return Path(config.run_dir, "sessions")


def _become_worker(config: AgentConfig, context: ssl.SSLContext, order: SessionOrder) -> None:
    """In the forked process. The agent's event loop and sockets are only closed here, never used."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 65536)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            result = runner.run(_run(config, Service(config, context), order))
        _log.info("session %s: %s %s", order.session_id, result.status, result.output)
        path = _directory(config) / f"{order.session_id}.result"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(vars(result)))
        part.rename(path)
    except BaseException:
        _log.exception("session %s", order.session_id)
    finally:
        logging.shutdown()
        os._exit(0)


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop on select(2): a worker has a handful of descriptors, and pauses of 1 ms that epoll would make 2."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _run(config: AgentConfig, service: Service, order: SessionOrder) -> Result:
    session = Session(config, service, order)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        loop.add_signal_handler(number, session.cancel)
    return await session.run()
