# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The function with a lab as its AWS, called directly."""

from __future__ import annotations

import json
import time
from typing import Any

import boto3
import pytest
from completions import main
from completions.events import INVOCATION

from tests.lab import Lab
from tests.lab.client import boto_session

BUCKET, RELAY, ROLE = "outputs", "restricted", "FleetOperator"
OTHER = "222222222222"


def ended(ssm: Any, command_id: str) -> None:
    """Wait for a command's end."""
    deadline = time.monotonic() + 10
    while ssm.list_commands(CommandId=command_id)["Commands"][0]["Status"] in ("Pending", "InProgress"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Context:
    """Lambda's second argument."""

    def get_remaining_time_in_millis(self) -> int:
        return 5_000


class Store:
    """The function with an environment, and what it tells."""

    def __init__(self, lab: Lab, patch: pytest.MonkeyPatch, **environment: str) -> None:
        self.lab = lab
        self.s3, self._sqs = lab.client("s3"), lab.client("sqs")
        self._queue = self._sqs.get_queue_url(QueueName="told")["QueueUrl"]
        variables = {
            "BUCKET": BUCKET, "REGIONS": ",".join(lab.regions), "ROLE_NAME": ROLE, "SETTLE_SECONDS": "0", "QUEUE_URL": self._queue,
            **environment,
        }  # fmt: skip
        for name, value in {**lab.env(), **variables}.items():
            patch.setenv(name, value)
        patch.setattr(main, "_completions", None)
        patch.setattr(boto3, "DEFAULT_SESSION", boto_session())

    def call(self, event: dict[str, Any]) -> dict[str, Any]:
        return main.handler(event, Context())

    def told(self) -> list[dict[str, Any]]:
        """The messages since the last look."""
        found = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    def send(self, name: str, wait: bool = True, **options: Any) -> tuple[Any, str]:
        """A node and the id of a command that has ended on it."""
        node = self.lab.node(name)
        ssm = self.lab.client("ssm", account=node.account, region=node.region)
        given = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}, **options}
        sent = ssm.send_command(InstanceIds=[node.node_id], OutputS3BucketName=BUCKET, OutputS3KeyPrefix=f"{node.account}/{node.region}", **given)
        command_id = sent["Command"]["CommandId"]
        if wait:
            ended(ssm, command_id)
        return node, command_id

    def put(self, node: Any, command_id: str, stream: str = "stdout", body: bytes = b"hello\n") -> str:
        """An output as the agent writes it; its key."""
        key = f"{node.account}/{node.region}/{command_id}/{node.node_id}/awsrunShellScript/0.awsrunShellScript/{stream}"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        return key


def status(node: Any, command_id: str, word: str = "Success") -> dict[str, Any]:
    detail = {"command-id": command_id, "instance-id": node.node_id, "status": word, "document-name": "AWS-RunShellScript"}
    return {"detail-type": INVOCATION, "source": "aws.ssm", "account": node.account, "region": node.region, "detail": detail}
