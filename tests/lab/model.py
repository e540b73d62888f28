# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's service and its nodes agree on: how a node is described, and how it is driven.

The service (`tests.lab.server`) decides *that* a node exists; `tests.lab.nodes` makes it run. Between them stand only these
classes and the agent's own protocol, so that a real agent can take the place of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class NodeKind(StrEnum):
    """How a node is made."""

    PROCESS = "process"  #: our agent in namespaces over the host's root
    MACHINE = "machine"  #: our agent in a booted systemd-nspawn
    AGENT = "agent"  #: a real amazon-ssm-agent
    WINDOWS = "windows"  #: our agent as on Windows: commands get scripted results
    SIMULATED = "simulated"  #: an entry in the API only: nothing runs, online by decree
    NONE = "none"  #: an EC2 instance without any agent


class NodeStatus(StrEnum):
    """What a node's supervisor knows; whether the agent is connected is the service's knowledge."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    AGENT_DOWN = "agent-down"  #: the node runs, its agent does not
    CRASHED = "crashed"
    REBOOTING = "rebooting"


@dataclass(frozen=True)
class Activation:
    """What a hybrid node registers with (RegisterManagedInstance)."""

    activation_id: str
    activation_code: str


@dataclass(frozen=True)
class NodeUser:
    """A user that a node has beside root and ssm-user (who always exists, with password-less sudo)."""

    name: str
    password: str | None = None
    sudo: str = "none"  #: none | nopasswd | password | requiretty
    shell: str = "/bin/bash"
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node.

    `node_id` is final before the node starts: for EC2 nodes the id of the instance in moto, for hybrid ones the id
    that RegisterManagedInstance will answer to this node's activation.
    """

    node_id: str
    name: str  #: also the host name
    account: str  #: 12 digits
    region: str
    kind: NodeKind = NodeKind.PROCESS
    tags: Mapping[str, str] = field(default_factory=dict)
    users: Sequence[NodeUser] = ()
    python: bool = True  #: False: no Python interpreter is to be found on the node
    hybrid: bool = False
    activation: Activation | None = None  #: for hybrid nodes
    role: str | None = "FleetNode"  #: EC2 nodes: name of the role of the instance profile, as the metadata service tells
    address: str = "192.0.2.1"
    platform_type: str = "Linux"  #: simulated nodes may be Windows or MacOS
    agent_version: str = "3.3.0.0"
    options: Mapping[str, Any] = field(default_factory=dict)  #: for the kind only, e.g. {"restart_sec": 90, "root": "/folder"}


@dataclass(frozen=True)
class Endpoints:
    """Where a node finds the service."""

    api_url: str  #: http://127.0.0.1:PORT, the whole AWS API
    agent_https_url: str  #: https://127.0.0.1:PORT, the same over TLS; control and data channels are only here (https and wss)
    ca_path: Path  #: PEM file of the lab's own CA

    def metadata_url(self, node_id: str) -> str:
        """The base of this node's instance metadata service (IMDSv2 tokens are answered, not demanded).

        `{base}/latest/meta-data/iam/security-credentials/{role}` gives credentials, `…/instance-id`,
        `…/placement/region` and `/latest/dynamic/instance-identity/document` the identity. EC2 nodes only.
        """
        return f"{self.api_url}/imds/{node_id}"


class Node(Protocol):
    """The supervisor of one node; made by `tests.lab.nodes.spawn_node(spec, lab_dir, endpoints)`, not started by that.

    All calls come from one asyncio loop, the service's; none may block it. They return when what they name is done
    (the process started or gone), not when the agent has connected: the service sees that by itself.
    """

    @property
    def spec(self) -> NodeSpec: ...

    @property
    def status(self) -> NodeStatus: ...

    @property
    def log_path(self) -> Path:
        """What its agent and its supervisor log."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """In order; leaves no process or mount, keeps the node's directory. Idempotent."""

    async def kill_agent(self) -> None:
        """SIGKILL to the agent alone; nothing restarts it (unless the node's own init does)."""

    async def restart_agent(self) -> None:
        """As `systemctl restart`: session workers survive where they do with the real agent."""

    async def crash(self) -> None:
        """As a power cut: everything of the node dies at once; `start` brings it back."""

    async def reboot(self) -> None:
        """In order, with all its processes gone in between."""

    def enter_command(self, *command: str) -> list[str]:
        """argv that runs a command, by default an interactive shell, as root in the node."""
