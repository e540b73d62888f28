# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ec2messages, the agent's older way to get its orders: a long poll, and calls that answer them.

Sessions never came this way. An agent polls as long as its control channel is not connected, and a minute longer.
"""

from __future__ import annotations

from typing import Any

from .auth import Principal
from .errors import AwsError
from .run_command.message import parse_message_id
from .state import ManagedNode
from .world import World


async def answer(world: World, principal: Principal, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Answer an action; raises `AwsError`."""
    if action == "GetEndpoint":
        assert world.endpoints is not None
        return {"Endpoint": {"Protocol": "https", "Endpoint": world.endpoints.agent_https_url}}
    if action == "GetMessages":
        destination = parameters.get("Destination", "")
        node = _node(world, principal, destination)
        world.agent_came.set()
        messages = await world.run_command.delivery.poll(node, world.settings.poll_seconds)
        request_id = parameters.get("MessagesRequestId", "")
        return {"Destination": destination, "MessagesRequestId": request_id, "Messages": messages}
    message_id = parameters.get("MessageId", "")
    try:
        _command, destination = parse_message_id(message_id)
    except ValueError:
        raise AwsError("ValidationException", f"{message_id} is no id of a message") from None
    node = _node(world, principal, destination)
    if action in ("AcknowledgeMessage", "DeleteMessage"):
        world.run_command.acknowledged(node, message_id)
    elif action == "SendReply":
        world.run_command.replied(node, message_id, parameters.get("Payload", ""))
    elif action == "FailMessage":
        world.run_command.failed(node, message_id)
    else:
        raise AwsError("UnknownOperationException", f"{action} is no action of this service", 400)
    return {}


def _node(world: World, principal: Principal, destination: str) -> ManagedNode:
    node = world.nodes.get(destination)
    if node is None or node.gone or principal.node_id != destination:
        raise AwsError("AccessDeniedException", f"{principal.arn} may not speak for {destination}")
    return node
