# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Process nodes: our agent in namespaces of its own, over an overlay of the host's root, as root or in a user namespace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from ..model import Endpoints, NodeSpec, NodeStatus
from .init import REBOOT, InitConfig
from .provision import setup_commands
from .root import RootSpec
from .supervisor import NodeError, Supervisor, agent_config

_PROJECT = Path(__file__).resolve().parents[3]
#: Loads pid 1 as package "nodes" of its own: it needs nothing of `tests.lab`, which takes long to load.
_START = (
    f"import sys; sys.path.append({str(Path(__file__).parents[1])!r}); from nodes.init import main; sys.exit(main())"
)
_STOP_TIMEOUT = 10.0


class ProcessNode(Supervisor):
    """Supervises one node by its pid 1 (`tests.lab.nodes.init`)."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        super().__init__(spec, lab_dir, endpoints)
        self._process: asyncio.subprocess.Process | None = None
        self._up = asyncio.Event()
        self._done: asyncio.Queue[str] = asyncio.Queue()
        self._watcher: asyncio.Task[None] | None = None
        self._rebooting = False

    async def start(self) -> None:
        if self._process is not None:
            return
        self._status = NodeStatus.STARTING
        self.directory.mkdir(parents=True, exist_ok=True)
        self._up.clear()
        self._done = asyncio.Queue()
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _START),
                cwd="/",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the lab, which stops its nodes in order
            )
        assert self._process.stdin is not None
        self._process.stdin.write(self.init_config().to_json().encode() + b"\n")
        self._watcher = asyncio.create_task(self._watch(self._process))
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({up, self._watcher}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if not self._up.is_set():
            raise NodeError(f"{self._spec.name} did not start: {self.last_words()}")

    async def stop(self) -> None:
        """In order; kills what does not end in time."""
        process = self._process
        if process is None:
            self._status = NodeStatus.STOPPED
            return
        self._rebooting = False
        self._send("stop")
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
        except TimeoutError:
            self._kill()
            await process.wait()
        await self._finished()
        self._status = NodeStatus.STOPPED

    async def crash(self) -> None:
        process = self._process
        if process is None:
            return
        self._rebooting = False
        self._kill()
        await process.wait()
        await self._finished()
        self._status = NodeStatus.CRASHED

    async def reboot(self) -> None:
        process = self._process
        if process is None:
            await self.start()
            return
        self._up.clear()
        self._send("reboot")
        await self._up.wait()

    async def kill_agent(self) -> None:
        await self._command("kill-agent")

    async def restart_agent(self) -> None:
        await self._command("restart-agent")
        self._status = NodeStatus.RUNNING

    # What a node is made of

    def init_config(self) -> InitConfig:
        spec = self._spec
        return InitConfig(
            root=self.root_spec(),
            boot_id=str(uuid.uuid4()),
            agent=agent_config(spec, self._endpoints),
            setup=tuple(setup_commands(spec.users)),
            restart_sec=spec.options.get("restart_sec"),
        )

    def root_spec(self, *binds: tuple[Path, str]) -> RootSpec:
        return RootSpec(
            directory=self.directory,
            name=self._spec.name,
            python=self._spec.python,
            hidden=(_PROJECT, Path(sys.prefix), self.directory.parents[1]),
            binds=binds,
        )

    # Inside

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Follow the node's events to its end, and start it again if it rebooted."""
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(json.loads(line))
        code = await process.wait()
        self._process, self._pid = None, 0
        self._done.put_nowait("gone")
        if code == REBOOT:
            self._status = NodeStatus.REBOOTING
            self._restart = asyncio.create_task(self.start())
        else:
            self._status = NodeStatus.CRASHED if code == 255 else NodeStatus.STOPPED

    def _note(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "pid":
            self._pid = event["pid"]
        elif kind == "up":
            self._status = NodeStatus.RUNNING
            self._up.set()
        elif kind == "agent-ended":
            self._status = NodeStatus.AGENT_DOWN
        elif kind == "agent-started":
            self._status = NodeStatus.RUNNING
        elif kind == "done":
            self._done.put_nowait(event["command"])

    async def _command(self, name: str) -> None:
        if self._process is None:
            raise NodeError(f"{self._spec.name} is not running")
        self._send(name)
        while await self._done.get() not in (name, "gone"):
            pass

    def _send(self, command: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(json.dumps({"do": command}).encode() + b"\n")

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, 9)  # the kernel takes everything of the namespace with it
        elif self._process is not None:
            self._process.kill()

    async def _finished(self) -> None:
        if self._watcher is not None:
            await self._watcher
