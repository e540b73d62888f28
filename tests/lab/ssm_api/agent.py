# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What agents call beside the channels. Not in the public service model; names and members as the agent's source has them."""

from __future__ import annotations

import time
from typing import Any

from ..errors import AwsError
from ..state import ManagedNode
from .activations import register, role_token
from .registry import Call, action


@action("RegisterManagedInstance")
async def register_managed_instance(call: Call) -> dict[str, Any]:
    """A hybrid node's first call."""
    return register(call)


@action("RequestManagedInstanceRoleToken")
async def request_managed_instance_role_token(call: Call) -> dict[str, Any]:
    """Credentials for a hybrid node."""
    return role_token(call, _caller(call))


@action("UpdateManagedInstancePublicKey")
async def update_managed_instance_public_key(call: Call) -> dict[str, Any]:
    """The agent rotates its key pair."""
    _caller(call)
    return {}


@action("UpdateInstanceInformation")
async def update_instance_information(call: Call) -> dict[str, Any]:
    """The agent's ping: it makes an EC2 node a managed one, and keeps all of them Online."""
    node, given = _caller(call), call.parameters
    if given.get("InstanceId") not in (None, "", node.node_id):
        raise AwsError("AccessDeniedException", f"{call.principal.arn} may not speak for {given['InstanceId']}", 400)
    node.last_ping = time.time()
    node.registered = node.registered or node.last_ping
    node.information |= {key: value for key, value in given.items() if value not in (None, "")}
    return {}


@action("UpdateInstanceAssociationStatus")
async def update_instance_association_status(call: Call) -> dict[str, Any]:
    """The result of an association on a node."""
    result = call.parameters.get("ExecutionResult") or {}
    _caller(call).association_status = result.get("Status")
    return {}


@action("ListInstanceAssociations")
async def list_instance_associations(call: Call) -> dict[str, Any]:
    """The lab has no associations."""
    return {"Associations": []}


@action("ListAssociations")
async def list_associations(call: Call) -> dict[str, Any]:
    """As an old agent asks."""
    return {"Associations": []}


@action("PutInventory")
async def put_inventory(call: Call) -> dict[str, Any]:
    """Taken, not kept."""
    return {"Message": "Inventory was added"}


@action("PutComplianceItems")
async def put_compliance_items(call: Call) -> dict[str, Any]:
    """Taken, not kept."""
    return {}


@action("PutConfigurePackageResult")
async def put_configure_package_result(call: Call) -> dict[str, Any]:
    """Taken, not kept."""
    return {}


def _caller(call: Call) -> ManagedNode:
    node = call.world.nodes.get(call.principal.node_id or "")
    if node is None or node.gone:
        raise AwsError("AccessDeniedException", f"{call.principal.arn} is no registered node", 400)
    return node
