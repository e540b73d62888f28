# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hybrid activations, and how nodes register with them."""

from __future__ import annotations

import dataclasses
import secrets
import time
import uuid
from typing import Any

from .. import moto_bridge
from ..auth import Principal
from ..errors import AwsError, WireProtocol
from ..model import NodeKind, NodeSpec
from ..state import ActivationRecord, ManagedNode, random_hex
from .registry import Call, action, page

_DAY = 86_400.0
_PAGE = 50


@action("CreateActivation")
async def create_activation(call: Call) -> dict[str, Any]:
    """An id and a code to register nodes with."""
    given, role = call.parameters, call.parameters["IamRole"].rpartition("/")[2]
    found = moto_bridge.role_of(call.account, role)
    if found is None or moto_bridge.age(found) < call.world.settings.iam_seconds:
        raise AwsError("ValidationException", f"Nonexistent role or missing ssm service principal in trust policy: {role}")
    call.world.permissions.check(call.principal, "iam:PassRole", (found.arn,), WireProtocol.JSON)
    expires = given.get("ExpirationDate") or time.time() + _DAY
    if not time.time() < expires <= time.time() + 31 * _DAY:
        raise AwsError("ValidationException", "ExpirationDate must be in the future and at most 30 days away.")
    record = new_activation(
        call.account,
        call.region,
        role,
        limit=given.get("RegistrationLimit") or 1,
        expires=expires,
        description=given.get("Description") or "",
        default_name=given.get("DefaultInstanceName") or "",
        tags={tag["Key"]: tag["Value"] for tag in given.get("Tags") or ()},
    )
    call.world.activations[record.activation_id] = record
    return {"ActivationId": record.activation_id, "ActivationCode": record.code}


@action("DescribeActivations")
async def describe_activations(call: Call) -> dict[str, Any]:
    """The activations of an account and region."""
    found = [record for record in call.world.activations.values() if _is_here(call, record)]
    for entry in call.parameters.get("Filters") or ():
        key, values = entry.get("FilterKey"), entry.get("FilterValues") or ()
        found = [record for record in found if _filtered(record, key) in values]
    chosen, more = page(found, call.parameters, min(call.parameters.get("MaxResults") or _PAGE, _PAGE))
    return {
        "ActivationList": [
            {
                "ActivationId": record.activation_id,
                "Description": record.description,
                "DefaultInstanceName": record.default_name,
                "IamRole": record.role,
                "RegistrationLimit": record.limit,
                "RegistrationsCount": record.used,
                "ExpirationDate": record.expires,
                "Expired": record.expires <= time.time(),
                "CreatedDate": record.created,
                "Tags": [{"Key": key, "Value": value} for key, value in record.tags.items()],
            }
            for record in chosen
        ],
        **more,
    }


@action("DeleteActivation")
async def delete_activation(call: Call) -> dict[str, Any]:
    """No node can register with it any more; registered ones stay."""
    record = call.world.activations.get(call.parameters["ActivationId"])
    if record is None or not _is_here(call, record):
        raise AwsError("InvalidActivation", f"The activation {call.parameters['ActivationId']} is not valid.")
    del call.world.activations[record.activation_id]
    return {}


def register(call: Call) -> dict[str, Any]:
    """RegisterManagedInstance: the one call that needs no signature, since the activation's code proves enough."""
    given, world = call.parameters, call.world
    record = world.activations.get(given.get("ActivationId") or "")
    if record is None or not secrets.compare_digest(record.code, given.get("ActivationCode") or ""):
        raise AwsError("InvalidActivation", "The activation ID or the activation code is not valid.")
    if record.expires <= time.time():
        raise AwsError("ActivationExpired", "The activation is expired.")
    if record.used >= record.limit:
        raise AwsError("RegistrationLimitExceeded", "The activation has reached its limit of registrations.")
    record.used += 1
    node_id = record.planned_ids.pop(0) if record.planned_ids else f"mi-{random_hex(17)}"
    node = world.nodes.get(node_id)
    if node is None:
        spec = NodeSpec(
            node_id, record.default_name or node_id, record.account, record.region, NodeKind.NONE,
            tags=dict(record.tags), hybrid=True,
        )  # fmt: skip
        node = ManagedNode(spec)
        world.nodes.add(node)
    node.registered = node.last_ping = time.time()
    node.fingerprint, node.role = given.get("Fingerprint"), record.role
    node.activation_id, node.name = record.activation_id, record.default_name or None
    node.tags = {**record.tags, **node.tags}
    return {"InstanceId": node_id}


def role_token(call: Call, node: ManagedNode) -> dict[str, Any]:
    """RequestManagedInstanceRoleToken: credentials of the node's role."""
    if node.gone:
        raise AwsError("MachineFingerprintDoesNotMatch", f"{node.node_id} is not registered any more.")
    if node.fingerprint and call.parameters.get("Fingerprint") != node.fingerprint:
        raise AwsError("MachineFingerprintDoesNotMatch", "Fingerprint does not match")
    seconds = call.world.settings.node_credentials_seconds
    credential = call.world.vault.issue(node_principal(node, node.role or "FleetNode"), seconds)
    return {
        "AccessKeyId": credential.access_key,
        "SecretAccessKey": credential.secret_key,
        "SessionToken": credential.token,
        "UpdateKeyPair": False,
        "TokenExpirationDate": credential.expires,
    }


def node_principal(node: ManagedNode, role: str) -> Principal:
    """An agent as a caller: its role, with the node's id as the session's name."""
    account = node.spec.account
    arn = f"arn:aws:sts::{account}:assumed-role/{role}/{node.node_id}"
    return Principal(account, arn, node.node_id, role=role, node_id=node.node_id)


def new_activation(account: str, region: str, role: str, **values: Any) -> ActivationRecord:
    """A record with a fresh id and code."""
    record = ActivationRecord(
        activation_id=str(uuid.uuid4()),
        code=secrets.token_hex(10),
        account=account,
        region=region,
        role=role,
        limit=1,
        expires=time.time() + _DAY,
        created=time.time(),
    )
    return dataclasses.replace(record, **values)


def _is_here(call: Call, record: ActivationRecord) -> bool:
    return (record.account, record.region) == (call.account, call.region)


def _filtered(record: ActivationRecord, key: str | None) -> str:
    values = {
        "ActivationIds": record.activation_id,
        "DefaultInstanceName": record.default_name,
        "IamRole": record.role,
    }
    if key not in values:
        raise AwsError("InvalidFilter", f"The filter {key} is not valid.")
    return values[key]
