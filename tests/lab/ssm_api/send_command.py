# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SendCommand: everything that is checked before a command exists."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .. import moto_bridge
from ..documents import Document, Version, digest
from ..errors import AwsError
from ..run_command.answers import command_answer
from ..run_command.command import Command, Notification, Output
from ..run_command.documents import execution_timeout, platforms
from ..run_command.invocation import Invocation
from ..run_command.parameters import check_parameters
from ..run_command.status import Details
from ..run_command.targets import resolve
from ..state import ManagedNode
from .instances import node_tags
from .registry import Call, action

_DELIVERY_SECONDS = 3600
_EVENTS = frozenset({"All", "InProgress", "Success", "TimedOut", "Cancelled", "Failed"})


@action("SendCommand", authorizes=True)
async def send_command(call: Call) -> dict[str, Any]:
    """Run a document on nodes."""
    given = call.parameters
    document = _document(call)
    version = document.version(given.get("DocumentVersion"))
    content = version.content
    _check_hash(given, version)
    output, notification = _output(call), _notification(call)
    parameters: Mapping[str, Sequence[str]] = given.get("Parameters") or {}
    message_parameters = check_parameters(content, parameters)
    if len(json.dumps(parameters)) > call.world.settings.largest_parameters:
        raise AwsError("MaxDocumentSizeExceeded", "The size limit of the document's parameters is exceeded.")
    node_ids, targets = given.get("InstanceIds") or [], given.get("Targets") or []
    if bool(node_ids) == bool(targets):
        raise AwsError("ValidationException", "Specify either InstanceIds or Targets.")
    supported = platforms(content)
    if node_ids:
        invocations = {node.node_id: Invocation(node.node_id) for node in _named(call, node_ids, supported)}
    else:
        found = resolve(_registered(call), targets, node_tags, lambda name: _group_query(call, name))
        invocations = {node.node_id: _targeted(call, node, supported) for node in found}
    now, seconds = time.time(), given.get("TimeoutSeconds") or _DELIVERY_SECONDS
    command = Command(
        command_id=str(uuid.uuid4()),
        account=call.account,
        region=call.region,
        document_name=given["DocumentName"],
        document_version=given.get("DocumentVersion") or "$DEFAULT",
        content=content,
        parameters=parameters,
        message_parameters=message_parameters,
        comment=given.get("Comment") or "",
        node_ids=node_ids,
        targets=targets,
        requested=now,
        delivery_ends=now + seconds,
        expires=now + seconds + execution_timeout(content, message_parameters),
        timeout_seconds=seconds,
        max_concurrency=given.get("MaxConcurrency") or "50",
        max_errors=given.get("MaxErrors") or "0",
        output=output,
        service_role=given.get("ServiceRoleArn") or "",
        notification=notification,
        invocations=invocations,
    )
    call.world.run_command.start(command)
    return {"Command": command_answer(command)}


def _document(call: Call) -> Document:
    name = call.parameters["DocumentName"]
    document = call.world.documents.find(call.account, call.region, name)
    if document is None or document.kind != "Command":
        call.authorize("SendCommand", f"arn:aws:ssm:{call.region}:{call.account}:document/{name.rpartition('document/')[2]}")
        raise AwsError("InvalidDocument", f"Document with name {name} does not exist.")
    call.authorize("SendCommand", document.arn(call.region))
    return document


def _check_hash(given: Mapping[str, Any], version: Version) -> None:
    wanted = given.get("DocumentHash")
    if wanted and wanted != digest(version.text, given.get("DocumentHashType") or "Sha256"):
        raise AwsError("InvalidDocument", "The hash of the document does not match.")


def _named(call: Call, node_ids: Sequence[str], supported: Sequence[str]) -> list[ManagedNode]:
    """The nodes of InstanceIds: one that is not to be reached refuses the whole command."""
    if len(set(node_ids)) != len(node_ids):
        raise AwsError("DuplicateInstanceId", "You cannot specify a managed node ID more than once.")
    nodes, unreachable = [], []
    for node_id in node_ids:
        node = call.node(node_id)
        call.authorize("SendCommand", node.arn if node is not None else call.presumed_arn(node_id))
        if node is None or node.registered is None or not node.is_online(call.world.settings):
            unreachable.append(node_id)
        else:
            nodes.append(node)
    if unreachable:
        raise AwsError(
            "InvalidInstanceId", f"Instances [[{', '.join(unreachable)}]] not in a valid state for account {call.account}"
        )
    if any(_platform(node) not in supported for node in nodes):
        raise AwsError("UnsupportedPlatformType", f"The document runs on {', '.join(supported)} only.")
    return nodes


def _targeted(call: Call, node: ManagedNode, supported: Sequence[str]) -> Invocation:
    """A node of Targets refuses nothing: what is wrong with it is the status of its invocation."""
    if not call.may("SendCommand", node.arn):
        return Invocation(node.node_id, Details.ACCESS_DENIED)
    if _platform(node) not in supported:
        return Invocation(node.node_id, Details.INVALID_PLATFORM)
    if _is_stopped(node):
        return Invocation(node.node_id, Details.UNDELIVERABLE)
    return Invocation(node.node_id)


def _registered(call: Call) -> list[ManagedNode]:
    return [node for node in call.world.nodes.within(call.account, call.region) if node.registered is not None]


def _platform(node: ManagedNode) -> str:
    return str(node.information.get("PlatformType") or node.spec.platform_type)


def _is_stopped(node: ManagedNode) -> bool:
    if node.spec.hybrid:
        return False
    instance = moto_bridge.instance_of(node.spec.account, node.spec.region, node.node_id)
    return instance is None or instance.state in ("stopped", "terminated")


def _group_query(call: Call, name: str) -> Mapping[str, Any]:
    query = moto_bridge.group_query(call.account, call.region, name)
    if query is None:
        raise AwsError("InvalidTarget", f"The resource group {name} does not exist.")
    return query


def _output(call: Call) -> Output:
    given, log = call.parameters, call.parameters.get("CloudWatchOutputConfig") or {}
    bucket, prefix = given.get("OutputS3BucketName") or "", given.get("OutputS3KeyPrefix") or ""
    if prefix and not bucket:
        raise AwsError("InvalidOutputFolder", "OutputS3KeyPrefix needs OutputS3BucketName.")
    if bucket and moto_bridge.bucket_region(bucket) is None:
        raise AwsError("InvalidOutputFolder", f"The S3 bucket {bucket} does not exist.")
    return Output(
        bucket=bucket,
        prefix=prefix,
        region=(given.get("OutputS3Region") or call.region) if bucket else "",
        log_group=log.get("CloudWatchLogGroupName") or "",
        log_enabled=bool(log.get("CloudWatchOutputEnabled")),
    )


def _notification(call: Call) -> Notification | None:
    given, role = call.parameters.get("NotificationConfig") or {}, call.parameters.get("ServiceRoleArn") or ""
    if not given.get("NotificationArn"):
        return None
    events = frozenset(given.get("NotificationEvents") or ("All",))
    if not events <= _EVENTS or not given["NotificationArn"].startswith("arn:aws:sns:"):
        raise AwsError("InvalidNotificationConfig", "One or more configuration items is not valid.")
    if moto_bridge.role_of(call.account, role.rpartition("/")[2]) is None:
        raise AwsError("InvalidRole", "The role name can't contain invalid characters, and must exist to publish to SNS.")
    per_invocation = given.get("NotificationType") == "Invocation"
    return Notification(given["NotificationArn"], events, per_invocation, role)
