# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance profiles of running instances, as slow and as strict as EC2 is with them; moto has them at once and for any instance.

Associations take the time of a setting, a replacement has an id of its own, a profile just made is not known yet, a stopped instance's
profile cannot be replaced, and whoever attaches a profile needs iam:PassRole on its role. A simulated node registers some time after its
instance has got a role, as an agent does that looks for one again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from . import moto_bridge
from .auth import Principal
from .errors import AwsError, WireProtocol
from .model import NodeKind
from .moto_bridge import Answer
from .ssm_api.activations import node_principal
from .state import ManagedNode
from .world import World

ACTIONS = frozenset({"AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"})
_PROTOCOL = WireProtocol.EC2
#: Seconds after which a simulated node without `credentials_retry` finds its role.
_SIMULATED_RETRY = 1.0


def resources(account: str, region: str, action: str, form: Mapping[str, str]) -> tuple[str, ...]:
    """The instance that a call is about, for permissions."""
    instance_id = form.get("InstanceId", "")
    if action != "AssociateIamInstanceProfile":
        found = moto_bridge.association(account, region, form.get("AssociationId", ""))
        instance_id = found.instance_id if found is not None else "*"
    return (f"arn:aws:ec2:{region}:{account}:instance/{instance_id}",)


def answer(world: World, principal: Principal, region: str, action: str, form: Mapping[str, str]) -> Answer:
    """Serve one of `ACTIONS`. Raises `AwsError` in EC2's words."""
    account = principal.account
    if action == "DisassociateIamInstanceProfile":
        association = _active(account, region, form)
        moto_bridge.dissociate(account, region, association)
        _linger(world, account, region, association)
    else:
        profile = _profile(world, account, form)
        for role in profile.roles:
            world.permissions.check(principal, "iam:PassRole", (role.arn,), _PROTOCOL)
        if action == "AssociateIamInstanceProfile":
            instance_id = _instance(account, region, form.get("InstanceId", "")).id
            association = moto_bridge.associate(account, region, instance_id, profile)
            if association is None:
                raise AwsError("IncorrectState", f"There is an existing association for instance {instance_id}")
        else:
            old = _active(account, region, form)
            if _instance(account, region, old.instance_id).state != "running" or old.state != "associated":
                raise AwsError("IncorrectState", f"The association {old.association_id} is not the active association")
            moto_bridge.dissociate(account, region, old)
            association = moto_bridge.associate(account, region, old.instance_id, profile)
            _linger(world, account, region, old)
        if world.settings.association_seconds:
            association.state = "associating"
            asyncio.get_running_loop().call_later(world.settings.association_seconds, setattr, association, "state", "associated")
        node = world.nodes.get(association.instance_id)
        if node is not None and node.spec.kind is NodeKind.SIMULATED and node.registered is None:
            retry = float(node.spec.options.get("credentials_retry", _SIMULATED_RETRY))
            asyncio.get_running_loop().call_later(world.settings.association_seconds + retry, register, world, node)
    return Answer(200, [("Content-Type", "text/xml;charset=UTF-8")], _rendered(action, association).encode())


def register(world: World, node: ManagedNode) -> None:
    """Let a simulated node be known to Systems Manager, if its instance runs and has a role that allows it."""
    account, region = node.spec.account, node.spec.region
    role = moto_bridge.profile_role(account, region, node.node_id)
    if role is None or node.away or node.gone or node.registered is not None:
        return
    with contextlib.suppress(AwsError):
        world.permissions.check(node_principal(node, role), "ssm:UpdateInstanceInformation", (node.arn,), _PROTOCOL)
        node.registered = node.last_ping = time.time()


def dated(account: str, region: str, body: bytes) -> bytes:
    """DescribeIamInstanceProfileAssociations as moto has it, with the times that the service model has as well."""

    def with_time(found: re.Match[bytes]) -> bytes:
        since = moto_bridge.associated_since(account, region, found[1].decode())
        return found[0] + (f"<timestamp>{since:%Y-%m-%dT%H:%M:%S.000Z}</timestamp>".encode() if since is not None else b"")

    return re.sub(rb"<associationId>([^<]+)</associationId>", with_time, body)


def hidden(world: World, account: str, action: str, form: Mapping[str, str]) -> AwsError | None:
    """IAM's own answer about a profile that was made a moment ago."""
    name = form.get("InstanceProfileName", "")
    if action != "GetInstanceProfile" or not _is_young(world, moto_bridge.profile(account, name)):
        return None
    return AwsError("NoSuchEntity", f"Instance Profile {name} cannot be found.", 404)


def check_pass_role(world: World, principal: Principal, action: str, form: Mapping[str, str]) -> None:
    """Who puts a role into a profile passes it to EC2. Raises `AwsError`."""
    role = moto_bridge.role_of(principal.account, form.get("RoleName", ""))
    if action == "AddRoleToInstanceProfile" and role is not None:
        world.permissions.check(principal, "iam:PassRole", (role.arn,), WireProtocol.QUERY)


def _profile(world: World, account: str, form: Mapping[str, str]) -> Any:
    kind = "name" if "IamInstanceProfile.Name" in form else "arn"
    value = form.get(f"IamInstanceProfile.{kind.title()}", "")
    found = moto_bridge.profile(account, value)
    if found is None or _is_young(world, found):
        text = f"Value ({value}) for parameter iamInstanceProfile.{kind} is invalid. Invalid IAM Instance Profile {kind.replace('arn', 'ARN')}"
        raise AwsError("InvalidParameterValue", text)
    if not found.roles:
        raise AwsError("InvalidParameterValue", f'IAM Instance Profile "{found.arn}" has no associated IAM Roles')
    return found


def _is_young(world: World, profile: Any | None) -> bool:
    return profile is not None and moto_bridge.age(profile) < world.settings.iam_seconds


def _instance(account: str, region: str, instance_id: str) -> Any:
    found = moto_bridge.instance_of(account, region, instance_id)
    if found is None:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    if found.state not in ("running", "stopped"):
        raise AwsError("IncorrectInstanceState", f"The instance '{instance_id}' is not in the 'running' or 'stopped' states.")
    return found


def _active(account: str, region: str, form: Mapping[str, str]) -> Any:
    named = form.get("AssociationId", "")
    found = moto_bridge.association(account, region, named)
    if found is None:
        raise AwsError("InvalidAssociationID.NotFound", f"An invalid association-id of '{named}' was given")
    if found.state == "disassociating":
        raise AwsError("IncorrectState", f"The association {named} is not the active association")
    return found


def _linger(world: World, account: str, region: str, association: Any) -> None:
    """An association that is taken away can be seen for some time."""
    association.state = "disassociating"
    if world.settings.association_seconds:
        moto_bridge.show_association(account, region, association)
        loop = asyncio.get_running_loop()
        loop.call_later(world.settings.association_seconds, moto_bridge.dissociate, account, region, association)


def _rendered(action: str, association: Any) -> str:
    profile = association.iam_instance_profile
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>lab</requestId>'
        f"<iamInstanceProfileAssociation><associationId>{association.association_id}</associationId>"
        f"<iamInstanceProfile><arn>{escape(profile.arn)}</arn><id>{profile.id}</id></iamInstanceProfile>"
        f"<instanceId>{association.instance_id}</instanceId><state>{association.state}</state>"
        f"</iamInstanceProfileAssociation></{action}Response>"
    )
