# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What exists in the lab: accounts, managed nodes, sessions, activations. Data only; who changes it is elsewhere."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .model import Node, NodeKind, NodeSpec
from .settings import Settings

if TYPE_CHECKING:
    from .control_channel import ControlChannel
    from .relay import Relay


@dataclass(slots=True)
class ManagedNode:
    """A node as the services see it. Times are seconds since the epoch."""

    spec: NodeSpec
    runtime: Node | None = None  #: its supervisor, for nodes that run
    tags: dict[str, str] = field(default_factory=dict)  #: of hybrid nodes; those of EC2 nodes are EC2's
    registered: float | None = None  #: first UpdateInstanceInformation, or RegisterManagedInstance
    last_ping: float | None = None
    information: dict[str, Any] = field(default_factory=dict)  #: what the agent last told about itself
    fingerprint: str | None = None
    role: str | None = None  #: of hybrid nodes: given by the activation
    activation_id: str | None = None
    name: str | None = None  #: DefaultInstanceName of the activation
    association_status: str | None = None
    channel: ControlChannel | None = None
    channel_lost: float | None = None
    polling: int = 0  #: GetMessages of ec2messages that wait now
    looks: int = 0  #: how often it was listed: whose turn it is to speak, where several machines have its id
    away: bool = False  #: of simulated nodes: it does not answer
    gone: bool = False  #: terminated or deregistered

    @property
    def node_id(self) -> str:
        """i-… or mi-…"""
        return self.spec.node_id

    @property
    def names(self) -> frozenset[str]:
        """What a fault or command may call it."""
        return frozenset((self.spec.node_id, self.spec.name))

    @property
    def only_polls(self) -> bool:
        """Whether the service refuses it a control channel, as a role without ssmmessages does: ec2messages remains."""
        return self.spec.options.get("message_channel") == "ec2messages"

    @property
    def connected(self) -> bool:
        """Whether sessions can be started (GetConnectionStatus)."""
        simulated = self.spec.kind is NodeKind.SIMULATED and self.registered is not None and not self.away
        return not self.gone and (self.channel is not None or simulated)

    def is_online(self, settings: Settings) -> bool:
        """PingStatus Online."""
        if self.connected or self.polling:
            return True
        latest = max(self.last_ping or 0.0, self.channel_lost or 0.0)
        return time.time() - latest < settings.connection_lost_after

    @property
    def arn(self) -> str:
        """As IAM names it."""
        kind, service = ("managed-instance", "ssm") if self.spec.hybrid else ("instance", "ec2")
        return f"arn:aws:{service}:{self.spec.region}:{self.spec.account}:{kind}/{self.spec.node_id}"


@dataclass
class ActivationRecord:
    """A hybrid activation."""

    activation_id: str
    code: str
    account: str
    region: str
    role: str
    limit: int
    expires: float
    created: float
    description: str = ""
    default_name: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    used: int = 0
    planned_ids: list[str] = field(default_factory=list)  #: ids that the next registrations get


#: Session states in which a session is alive.
ACTIVE_STATES = frozenset({"Connected", "Connecting", "Disconnected"})


@dataclass
class Session:
    """A session; `content` is its document with the account's preferences merged in."""

    session_id: str
    account: str
    region: str
    node: ManagedNode
    owner: str
    document_name: str
    content: dict[str, Any]
    parameters: dict[str, Any]
    reason: str | None
    run_as: str
    idle_minutes: float
    max_minutes: float | None
    started: float = field(default_factory=time.time)
    ended: float | None = None
    status: str = "Connecting"
    end_reason: str = ""
    client_token: str = ""
    client_token_expires: float = 0.0
    relay: Relay | None = None
    stream_base: str = ""

    @property
    def active(self) -> bool:
        """Whether it can still be resumed."""
        return self.ended is None and self.status in ACTIVE_STATES

    @property
    def arn(self) -> str:
        """As IAM names it."""
        return f"arn:aws:ssm:{self.region}:{self.account}:session/{self.session_id}"

    def new_token(self, seconds: float) -> str:
        """A token that opens the client's side of the data channel; earlier ones end."""
        self.client_token = secrets.token_urlsafe(48)
        self.client_token_expires = time.time() + seconds
        return self.client_token


class Inventory:
    """All nodes by id, with the few questions that are asked of them."""

    def __init__(self) -> None:
        self._nodes: dict[str, ManagedNode] = {}
        self._by_place: dict[tuple[str, str], dict[str, ManagedNode]] = {}

    def __iter__(self) -> Iterator[ManagedNode]:
        return iter(list(self._nodes.values()))

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: ManagedNode) -> None:
        """Let a node exist."""
        self._nodes[node.node_id] = node
        self._by_place.setdefault((node.spec.account, node.spec.region), {})[node.node_id] = node

    def get(self, node_id: str) -> ManagedNode | None:
        """By id."""
        return self._nodes.get(node_id)

    def find(self, name: str) -> ManagedNode:
        """By id or by a name that only one node has; raises `LookupError`."""
        node = self._nodes.get(name)
        if node is not None:
            return node
        found = [node for node in self._nodes.values() if node.spec.name == name and not node.gone]
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{name!r} is the name of {', '.join(node.node_id for node in found)}: use an id")
        raise LookupError(f"the lab has no node {name!r}; it has {', '.join(self._known()) or 'none'}")

    def within(self, account: str, region: str) -> list[ManagedNode]:
        """Nodes of an account and region that still exist."""
        return [node for node in self._by_place.get((account, region), {}).values() if not node.gone]

    def _known(self) -> list[str]:
        return [node.spec.name for node in itertools.islice(self._nodes.values(), 20)]


def random_hex(length: int) -> str:
    """Lower-case hexadecimal digits."""
    return secrets.token_hex((length + 1) // 2)[:length]
