# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed nodes as controllers see them."""

from __future__ import annotations

from typing import Any

from .. import moto_bridge
from ..errors import AwsError
from ..state import ManagedNode
from .registry import Call, action, page

_LARGEST_PAGE = 50
_KEYS = (
    "InstanceIds", "AgentVersion", "PingStatus", "PlatformTypes", "ActivationIds", "IamRole", "ResourceType",
    "AssociationStatus",
)  # fmt: skip


@action("DescribeInstanceInformation")
async def describe_instance_information(call: Call) -> dict[str, Any]:
    """Registered nodes of an account and region, in pages of at most 50."""
    filters = _filters(call.parameters)
    size = min(call.parameters.get("MaxResults") or call.world.settings.default_page, _LARGEST_PAGE)
    found = [node for node in call.world.nodes.within(call.account, call.region) if node.registered is not None]
    chosen = [node for node in found if all(_matches(call, node, key, values) for key, values in filters)]
    part, more = page(chosen, call.parameters, size)
    for node in part:
        node.looks += 1
    return {"InstanceInformationList": [describe(call, node) for node in part], **more}


@action("DeregisterManagedInstance")
async def deregister_managed_instance(call: Call) -> dict[str, Any]:
    """Forget a hybrid node; its agent is refused from then on."""
    node = _hybrid(call)
    node.gone = True
    await call.world.sessions.node_gone(node)
    if node.channel is not None:
        await node.channel.peer.close()
    return {}


@action("UpdateManagedInstanceRole")
async def update_managed_instance_role(call: Call) -> dict[str, Any]:
    """Another role for a hybrid node."""
    _hybrid(call).role = call.parameters["IamRole"]
    return {}


def describe(call: Call, node: ManagedNode) -> dict[str, Any]:
    """One entry of InstanceInformationList."""
    told, spec = node.information, node.spec
    found: dict[str, Any] = {
        "InstanceId": node.node_id,
        "PingStatus": ping_status(call, node),
        "AgentVersion": told.get("AgentVersion") or spec.agent_version,
        "IsLatestVersion": _is_latest(call, told.get("AgentVersion") or spec.agent_version),
        "PlatformType": told.get("PlatformType") or spec.platform_type,
        "PlatformName": told.get("PlatformName") or "",
        "PlatformVersion": told.get("PlatformVersion") or "",
        "ResourceType": "ManagedInstance" if spec.hybrid else "EC2Instance",
        "IPAddress": told.get("IPAddress") or spec.address,
        "ComputerName": told.get("ComputerName") or spec.name,
        "SourceId": node.node_id,
        "SourceType": "AWS::SSM::ManagedInstance" if spec.hybrid else "AWS::EC2::Instance",
        "AssociationStatus": node.association_status or "Success",
    }
    machines = spec.options.get("machines")  # clones that share its id: they speak in turn
    if machines:
        found["ComputerName"], found["IPAddress"] = machines[node.looks % len(machines)]
    if node.last_ping is not None:
        found["LastPingDateTime"] = node.last_ping
    if spec.hybrid:
        found |= {"IamRole": node.role or "", "RegistrationDate": node.registered, "Name": node.name or spec.name}
        if node.activation_id:
            found["ActivationId"] = node.activation_id
    return found


def _is_latest(call: Call, version: str) -> bool:
    latest = call.world.settings.latest_agent
    return not latest or [int(part) for part in version.split(".")] >= [int(part) for part in latest.split(".")]


def ping_status(call: Call, node: ManagedNode) -> str:
    """Online or ConnectionLost."""
    return "Online" if node.is_online(call.world.settings) else "ConnectionLost"


def node_tags(node: ManagedNode) -> dict[str, str]:
    """Tags of the managed node, or of the instance in EC2."""
    if node.spec.hybrid:
        return node.tags
    return moto_bridge.tags_of(node.spec.account, node.spec.region, node.node_id)


def _hybrid(call: Call) -> ManagedNode:
    node_id = call.parameters["InstanceId"]
    node = call.node(node_id)
    if node is None or not node.spec.hybrid:
        raise AwsError("InvalidInstanceId", f"{node_id} is not a managed instance of this account and region.")
    return node


def _filters(parameters: dict[str, Any]) -> list[tuple[str, list[str]]]:
    old, new = parameters.get("InstanceInformationFilterList"), parameters.get("Filters")
    if old and new:
        raise AwsError("ValidationException", "Use either Filters or InstanceInformationFilterList, not both.")
    if old:
        return [(entry["key"], entry["valueSet"]) for entry in old]
    return [(entry["Key"], entry["Values"]) for entry in new or ()]


def _matches(call: Call, node: ManagedNode, key: str, values: list[str]) -> bool:
    if key == "tag-key":
        return bool(set(values) & set(node_tags(node)))
    if key.startswith("tag:"):
        return node_tags(node).get(key[4:]) in values
    shown = describe(call, node)
    names = {
        "InstanceIds": "InstanceId",
        "ActivationIds": "ActivationId",
        "PlatformTypes": "PlatformType",
        "SourceTypes": "SourceType",
        "SourceIds": "SourceId",
    }
    if key not in _KEYS and key not in names:
        raise AwsError("InvalidFilterKey", f"The specified filter key {key} is not valid.")
    return shown.get(names.get(key, key)) in values
