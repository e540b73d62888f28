# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the supervisors of all kinds of node have in common: a folder, a status, and a way in."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from pathlib import Path

from ..model import Endpoints, NodeSpec, NodeStatus
from .agent.config import AgentConfig

_NSENTER = ("nsenter", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd")
_ENTER_ENVIRONMENT = (
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
)


class NodeError(RuntimeError):
    """A node cannot do what is asked of it."""


class Supervisor:
    """Base of the supervisors; see `tests.lab.model.Node` for what their methods promise."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        self._spec, self._endpoints = spec, endpoints
        self.directory = lab_dir.resolve() / "nodes" / spec.node_id
        self.log_path = self.directory / "node.log"
        self._status = NodeStatus.STOPPED
        self._pid = 0  #: of pid 1 of the node, as the host counts; 0: it does not run

    @property
    def spec(self) -> NodeSpec:
        return self._spec

    @property
    def status(self) -> NodeStatus:
        return self._status

    def enter_command(self, *command: str) -> list[str]:
        """argv that runs `command` (default: a login shell) as root in the node."""
        if not self._pid:
            raise NodeError(f"{self._spec.name} is not running")
        return [
            *_NSENTER,
            *(["--user", "--preserve-credentials"] if os.geteuid() != 0 else []),
            *(["--time"] if Path(f"/proc/{self._pid}/ns/time").exists() else []),
            "--target",
            str(self._pid),
            "--",
            "env",
            "-i",
            f"TERM={os.environ.get('TERM', 'dumb')}",
            *_ENTER_ENVIRONMENT,
            *(command or ("/bin/bash", "-l")),
        ]

    async def run(self, script: str) -> str:
        """Run a shell script as root in the node; its output. Raises NodeError if it fails."""
        process = await asyncio.create_subprocess_exec(
            *self.enter_command("/bin/sh", "-ec", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _unused = await process.communicate()
        if process.returncode != 0:
            raise NodeError(f"{self._spec.name}: {shlex.quote(script)}: {output.decode(errors='replace')[-2000:]}")
        return output.decode(errors="replace")

    def last_words(self) -> str:
        """The last line of the node's log, for errors."""
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"


def agent_config(spec: NodeSpec, endpoints: Endpoints) -> AgentConfig:
    """What our agent is told on a node. Options of the spec override single values."""
    config = AgentConfig(
        node_id=spec.node_id,
        name=spec.name,
        region=spec.region,
        api_url=endpoints.api_url,
        agent_url=endpoints.agent_https_url,
        metadata_url="" if spec.hybrid else endpoints.metadata_url(spec.node_id),
        role="" if spec.hybrid else spec.role or "",
        activation_id=spec.activation.activation_id if spec.activation else "",
        activation_code=spec.activation.activation_code if spec.activation else "",
        agent_version=spec.agent_version,
        address=spec.address,
        ca_path=str(endpoints.ca_path),
    )
    given = {**json.loads(config.to_json()), **dict(spec.options)}
    return AgentConfig.from_json(json.dumps(given))
