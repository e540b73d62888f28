# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be known about a node beside EC2's and Systems Manager's lists. None stands for what nobody asked, or nobody may know. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

#: What an agent needs to register, and to be commanded (AWS's AmazonSSMManagedInstanceCore holds them).
REGISTER = "ssm:UpdateInstanceInformation"
CORE_ACTIONS = (
    REGISTER, "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenDataChannel",
)  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """The instance metadata service as an instance has it."""

    enabled: bool
    tokens_required: bool
    hop_limit: int


@dataclass(frozen=True)
class RoleFacts:
    """The role of an instance profile, or of a hybrid activation."""

    name: str | None  #: None: the profile does not exist any more, or holds no role
    created: float | None = None  #: when the profile was made, in seconds since the epoch
    missing: frozenset[str] | None = None  #: those of `CORE_ACTIONS` that it is not allowed


@dataclass(frozen=True)
class Way:
    """How far the network lets an instance go."""

    blocked: str | None  #: why it cannot reach the endpoints, as a sentence; None: nothing speaks against it
    remedy: str = ""


@dataclass(frozen=True)
class Evidence:
    """About one node."""

    metadata: Metadata | None = None
    role: RoleFacts | None = None
    default_role: str | None = None  #: of the default host management configuration; empty: it is off; None: nobody knows
    profile_since: float | None = None  #: when EC2 attached the profile, in seconds since the epoch
    failed_check: str | None = None  #: the status check of EC2 that fails: instance or system; empty: none does
    initializing: bool = False  #: EC2's first checks are not over
    way: Way | None = None
    log: frozenset[str] = frozenset()  #: codes of causes that the agent's lines on the console speak of
    machines: tuple[str, ...] = ()  #: names and addresses under which a hybrid node was seen, in their order, each differing from the one before
    others: tuple[str, ...] = ()  #: ids of online hybrid nodes that are, by name and address, the same machine


NOTHING = Evidence()


@dataclass
class Machines:
    """Who speaks under an id: names and addresses, as looks at Systems Manager follow each other."""

    _seen: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)

    def look(self, entries: Iterable[tuple[str, str | None, str | None]]) -> None:
        """Add a look: id, computer name, address. Without an address, only another name is another machine."""
        for node_id, name, address in entries:
            seen = self._seen.setdefault(node_id, [])
            known, at = seen[-1] if seen else (None, None)
            if known != (name or "") or (at and address and at != address):
                seen.append((name or "", address))
            elif not at:
                seen[-1] = (known, address)

    def of(self, node_id: str) -> tuple[str, ...]:
        """The machines in the order in which they spoke, each differing from the one before."""
        return tuple(f"{name or 'nameless'} ({address or 'no address'})" for name, address in self._seen.get(node_id, ()))
