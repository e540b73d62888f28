# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the world is told about commands: EventBridge's status events, notifications over SNS, and outputs in CloudWatch Logs.

The first two are best effort on AWS, and here on demand: events can be lost, or late (`EventFault`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from .. import event_bus
from ..faults import Faults
from ..moto_bridge import publish_to_topic
from .agenda import Agenda
from .command import Command
from .invocation import Invocation
from .log_output import write_outputs
from .status import Details

_log = logging.getLogger(__name__)

COMMAND, INVOCATION = "EC2 Command Status-change Notification", "EC2 Command Invocation Status-change Notification"


class Publisher:
    """Tells of each new status, in order."""

    def __init__(self, faults: Faults, agenda: Agenda) -> None:
        self._faults, self._agenda = faults, agenda
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")

    def changed(self, command: Command, invocation: Invocation | None) -> None:
        """A new status, of an invocation or (None) of the command. Not in the order of their times if a fault makes some late."""
        details = command.details if invocation is None else invocation.details
        if invocation is not None and invocation.final and command.output.log_enabled:
            self._submit(write_outputs, (command, invocation))
        if event_bus.has_rules(command.account, command.region):
            event = _event(command, invocation, details)
            self._send("eventbridge", command, event_bus.publish, command.account, command.region, event)
        wanted = command.notification
        if wanted is None or wanted.per_invocation is (invocation is None):
            return
        if "All" in wanted.events or details.status in wanted.events:
            text = json.dumps(_notification(command, invocation, details))
            subject = f"EC2 Run Command Notification {command.region}"
            self._send("sns", command, publish_to_topic, wanted.topic, text, subject)

    def close(self) -> None:
        """Tell nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send(self, way: str, command: Command, function: Any, *arguments: Any) -> None:
        delay = self._faults.event_delay(way, command.account, command.region)
        if delay is None:
            return
        if delay:
            self._agenda.after(delay, lambda: self._submit(function, arguments))
        else:
            self._submit(function, arguments)

    def _submit(self, function: Any, arguments: tuple[Any, ...]) -> None:
        future = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        future.add_done_callback(_note_failure)


def _note_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is not None:
        _log.error("an event was not told: %r", future.exception())


def _event(command: Command, invocation: Invocation | None, details: Details) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "command-id": command.command_id,
        "document-name": command.document_name,
        "requested-date-time": _moment(command.requested),
        "status": details.status,
    }
    if invocation is not None:
        detail["instance-id"] = invocation.node_id
        resources = [_arn(command, invocation.node_id)]
    else:
        detail["expire-after"] = _moment(command.expires)
        detail["parameters"] = {name: list(values) for name, values in command.parameters.items()}
        resources = [_arn(command, node_id) for node_id in command.node_ids]
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": COMMAND if invocation is None else INVOCATION,
        "source": "aws.ssm",
        "account": command.account,
        "time": _moment(time.time()),
        "region": command.region,
        "resources": resources,
        "detail": detail,
    }


def _notification(command: Command, invocation: Invocation | None, details: Details) -> dict[str, Any]:
    found: dict[str, Any] = {
        "commandId": command.command_id,
        "documentName": command.document_name,
        "requestedDateTime": _moment(command.requested),
        "status": details.status,
        "detailedStatus": details,
        "eventTime": _moment(time.time()),
    }
    if invocation is not None:
        return {**found, "instanceId": invocation.node_id}
    return {
        **found,
        "instanceIds": list(command.node_ids),
        "expiresAfter": _moment(command.expires),
        "outputS3BucketName": command.output.bucket,
        "outputS3KeyPrefix": command.output.prefix,
    }


def _arn(command: Command, node_id: str) -> str:
    kind, service = ("managed-instance", "ssm") if node_id.startswith("mi-") else ("instance", "ec2")
    return f"arn:aws:{service}:{command.region}:{command.account}:{kind}/{node_id}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
