# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that the service has for agents, as recorded from a real one that took them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SEND, CANCEL = "aws.ssm.sendCommand", "aws.ssm.cancelCommand"


def message_id(command_id: str, node_id: str) -> str:
    """Of a message: JobId on the control channel, MessageId in ec2messages."""
    return f"aws.ssm.{command_id}.{node_id}"


def parse_message_id(text: str) -> tuple[str, str]:
    """Command and node; raises `ValueError`."""
    _aws, _ssm, command_id, node_id = text.split(".", 3)
    return command_id, node_id


def topic(kind: str, region: str, node_id: str) -> str:
    """Agents look at its beginning."""
    return f"{kind}.{region}.{node_id}"


def command_payload(
    *,
    command_id: str,
    document_name: str,
    content: Mapping[str, Any],
    parameters: Mapping[str, Any],
    bucket: str = "",
    prefix: str = "",
    log_group: str = "",
    log_enabled: bool = False,
) -> str:
    """Content of an order to run a document. The agent fills in defaults by itself."""
    return json.dumps(
        {
            "Parameters": parameters,
            "DocumentContent": content,
            "CommandId": command_id,
            "DocumentName": document_name,
            "OutputS3KeyPrefix": prefix,
            "OutputS3BucketName": bucket,
            "CloudWatchLogGroupName": log_group,
            "CloudWatchOutputEnabled": str(log_enabled).lower(),
        }
    )


def cancel_payload(cancelled: str) -> str:
    """Content of an order to cancel the message of that id."""
    return json.dumps({"CancelMessageId": cancelled})


def job(job_id: str, job_topic: str, content: str) -> bytes:
    """Payload of `agent_job`."""
    return json.dumps({"Content": content, "JobId": job_id, "Topic": job_topic, "SchemaVersion": 1}).encode()


def job_reply_ack(job_id: str, acknowledged: str) -> bytes:
    """Payload of `agent_job_reply_ack`; without it the agent repeats its reply."""
    return json.dumps({"jobId": job_id, "acknowledgedMessageId": acknowledged}).encode()
