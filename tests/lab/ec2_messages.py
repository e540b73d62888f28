# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ec2messages, the agent's older way to get its orders: a long poll that in this lab brings nothing.

Sessions never came this way; an agent polls as long as its control channel is not connected.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .errors import AwsError
from .world import World


async def answer(world: World, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Answer an action; raises `AwsError`."""
    destination, request_id = parameters.get("Destination", ""), parameters.get("MessagesRequestId", "")
    if action == "GetMessages":
        await asyncio.sleep(world.settings.poll_seconds)
        return {"Destination": destination, "MessagesRequestId": request_id, "Messages": []}
    if action == "GetEndpoint":
        assert world.endpoints is not None
        return {"Endpoint": {"Protocol": "https", "Endpoint": world.endpoints.agent_https_url}}
    if action in ("AcknowledgeMessage", "SendReply", "FailMessage", "DeleteMessage"):
        return {}
    raise AwsError("UnknownOperationException", f"{action} is no action of this service", 400)
