# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and invocations as the API shows them: names, limits of length, URLs of outputs. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..state import ManagedNode
from .command import Command
from .invocation import Invocation
from .reply import PluginResult
from .status import Details

#: Characters that each answer gives at most.
STDOUT, STDERR, DETAILS = 24_000, 8_000, 2_500


def command_answer(command: Command) -> dict[str, Any]:
    """Command, of SendCommand and ListCommands."""
    details, output = command.details, command.output
    found: dict[str, Any] = {
        "CommandId": command.command_id,
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "Comment": command.comment,
        "ExpiresAfter": command.expires,
        "Parameters": {name: list(values) for name, values in command.parameters.items()},
        "InstanceIds": list(command.node_ids),
        "Targets": [dict(target) for target in command.targets],
        "RequestedDateTime": command.requested,
        "Status": details.status,
        "StatusDetails": details,
        "OutputS3Region": output.region,
        "OutputS3BucketName": output.bucket,
        "OutputS3KeyPrefix": output.prefix,
        "MaxConcurrency": command.max_concurrency,
        "MaxErrors": command.max_errors,
        "TargetCount": command.summary.total,
        "CompletedCount": command.summary.completed,
        "ErrorCount": command.summary.errors,
        "DeliveryTimedOutCount": command.summary.delivery_timed_out,
        "TimeoutSeconds": command.timeout_seconds,
        **_configured(command),
    }
    return found


def invocation_answer(
    command: Command, invocation: Invocation, node: ManagedNode | None, *, details: bool
) -> dict[str, Any]:
    """One entry of ListCommandInvocations."""
    first = next(iter(command.steps))
    return {
        "CommandId": command.command_id,
        "InstanceId": invocation.node_id,
        "InstanceName": node.spec.name if node is not None else "",
        "Comment": command.comment,
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "RequestedDateTime": command.requested,
        "Status": invocation.details.status,
        "StatusDetails": invocation.details,
        "TraceOutput": invocation.trace[:DETAILS],
        "StandardOutputUrl": output_url(command, invocation, first, "stdout"),
        "StandardErrorUrl": output_url(command, invocation, first, "stderr"),
        "CommandPlugins": [_plugin(command, invocation, step) for step in command.steps] if details else [],
        **_configured(command),
    }


def step_answer(command: Command, invocation: Invocation, step: str, *, named: bool) -> dict[str, Any]:
    """GetCommandInvocation: one step's result; the invocation's status unless the step was named."""
    result, details = invocation.plugins.get(step), invocation.details
    if named and result is not None:
        details = result.details
    return {
        "CommandId": command.command_id,
        "InstanceId": invocation.node_id,
        "Comment": command.comment,
        "DocumentName": command.document_name,
        "DocumentVersion": command.document_version,
        "PluginName": step,
        "ResponseCode": result.code if result is not None else -1,
        "ExecutionStartDateTime": _moment(result.started if result is not None else None),
        "ExecutionElapsedTime": _elapsed(result),
        "ExecutionEndDateTime": _moment(result.ended if result is not None else None),
        "Status": details.status,
        "StatusDetails": details,
        "StandardOutputContent": result.stdout[:STDOUT] if result is not None else "",
        "StandardOutputUrl": output_url(command, invocation, step, "stdout"),
        "StandardErrorContent": result.stderr[:STDERR] if result is not None else "",
        "StandardErrorUrl": output_url(command, invocation, step, "stderr"),
        "CloudWatchOutputConfig": _log(command),
    }


def output_key(command: Command, invocation: Invocation, step: str) -> str:
    """Where the agent puts a step's output, without stdout or stderr; colons are left out of it (agent's source)."""
    plugin = command.steps[step]
    last = step if "mainSteps" in command.content else f"0.{plugin}"
    parts = (command.output.prefix.strip("/"), command.command_id, invocation.node_id, plugin, last)
    return "/".join(part.replace(":", "") for part in parts if part)


def output_url(command: Command, invocation: Invocation, step: str, stream: str) -> str:
    """StandardOutputUrl and StandardErrorUrl, empty without a bucket."""
    output = command.output
    if not output.bucket:
        return ""
    return f"https://s3.{output.region}.amazonaws.com/{output.bucket}/{output_key(command, invocation, step)}/{stream}"


def _plugin(command: Command, invocation: Invocation, step: str) -> dict[str, Any]:
    result = invocation.plugins.get(step)
    details = result.details if result is not None else _unanswered(invocation.details)
    found: dict[str, Any] = {
        "Name": step,
        "Status": details.status if details is not Details.DELAYED else "Pending",
        "StatusDetails": details,
        "ResponseCode": result.code if result is not None else -1,
        "Output": result.output[:DETAILS] if result is not None else "",
        "StandardOutputUrl": output_url(command, invocation, step, "stdout"),
        "StandardErrorUrl": output_url(command, invocation, step, "stderr"),
        "OutputS3Region": command.output.region,
        "OutputS3BucketName": command.output.bucket,
        "OutputS3KeyPrefix": output_key(command, invocation, step) if command.output.bucket else "",
    }
    if result is not None and result.started is not None:
        found["ResponseStartDateTime"] = result.started
    if result is not None and result.ended is not None:
        found["ResponseFinishDateTime"] = result.ended
    return found


def _unanswered(details: Details) -> Details:
    """A step without a result has the invocation's status, which is never Cancelling for a step."""
    return Details.IN_PROGRESS if details is Details.CANCELLING else details


def _configured(command: Command) -> dict[str, Any]:
    notification = command.notification
    found: dict[str, Any] = {
        "ServiceRole": command.service_role,
        "NotificationConfig": {"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""},
        "CloudWatchOutputConfig": _log(command),
    }
    if notification is not None:
        found["NotificationConfig"] = {
            "NotificationArn": notification.topic,
            "NotificationEvents": sorted(notification.events),
            "NotificationType": "Invocation" if notification.per_invocation else "Command",
        }
    return found


def _log(command: Command) -> dict[str, Any]:
    return {
        "CloudWatchLogGroupName": command.output.log_group,
        "CloudWatchOutputEnabled": command.output.log_enabled,
    }


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _elapsed(result: PluginResult | None) -> str:
    """An ISO 8601 duration."""
    if result is None or result.started is None:
        return ""
    seconds = max(0.0, (result.ended or result.started) - result.started)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return "PT" + (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "") + f"{rest:.3f}".rstrip("0").rstrip(".") + "S"
