# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSM actions that the lab answers itself, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..auth import Principal
from ..errors import AwsError, WireProtocol
from ..state import ManagedNode
from ..world import World


@dataclass(frozen=True)
class Call:
    """One request to SSM, from a caller who is known."""

    world: World
    account: str
    region: str
    principal: Principal
    parameters: dict[str, Any]
    stream_base: str  #: ws://… or wss://… of the port that was asked
    to_moto: Callable[[], Awaitable[dict[str, Any]]]  #: what moto answers to the same request; raises `AwsError`

    def authorize(self, action: str, *resources: str) -> None:
        """Raise AccessDeniedException unless the caller may."""
        self.world.permissions.check(self.principal, f"ssm:{action}", resources, WireProtocol.JSON)

    def may(self, action: str, *resources: str) -> bool:
        """Whether the caller may, for what goes on without."""
        try:
            self.authorize(action, *resources)
        except AwsError:
            return False
        return True

    def presumed_arn(self, node_id: str) -> str:
        """What IAM looks at for a node that does not exist."""
        kind, service = ("managed-instance", "ssm") if node_id.startswith("mi-") else ("instance", "ec2")
        return f"arn:aws:{service}:{self.region}:{self.account}:{kind}/{node_id}"

    def node(self, node_id: str) -> ManagedNode | None:
        """A managed node of the caller's account and region."""
        node = self.world.nodes.get(node_id)
        if node is None or node.gone or (node.spec.account, node.spec.region) != (self.account, self.region):
            return None
        return node


Handler = Callable[[Call], Awaitable[dict[str, Any]]]

HANDLERS: dict[str, Handler] = {}
#: Actions whose handler checks permissions itself, since it knows the resources.
SELF_AUTHORIZED: set[str] = set()


def action(name: str, *, authorizes: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler."""

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        if authorizes:
            SELF_AUTHORIZED.add(name)
        return handler

    return register


def page(entries: Sequence[Any], parameters: dict[str, Any], size: int) -> tuple[list[Any], dict[str, str]]:
    """One page of a list, and the NextToken member if more follows; raises `AwsError` InvalidNextToken."""
    token = parameters.get("NextToken") or "page-0"
    start = token.removeprefix("page-")
    if not start.isdigit():
        raise AwsError("InvalidNextToken", "The specified token is not valid.")
    begin = int(start)
    end = begin + size
    return list(entries[begin:end]), {"NextToken": f"page-{end}"} if end < len(entries) else {}
