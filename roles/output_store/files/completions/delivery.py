# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where completions are told: a queue, a topic, a web hook; each that is configured gets each message."""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import boto3

SIGNATURE = "X-Fleet-SSM-Signature"  #: ``sha256=`` and the HMAC of the body, in hex
_SECONDS = 10


class Delivery:
    """The destinations that the function's environment names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._queue, self._topic = environment.get("QUEUE_URL"), environment.get("TOPIC_ARN")
        self._url, self._secret_name = environment.get("WEBHOOK_URL"), environment.get("WEBHOOK_SECRET_PARAMETER")

    def send(self, message: Mapping[str, Any]) -> None:
        """:raises Exception: if one of them did not take it; then all are to be told again."""
        text = json.dumps(message)
        kinds = {name: {"DataType": "String", "StringValue": message[name]} for name in ("status", "account_id", "region", "command_id")}
        # Topics and queues that are FIFO forget a message that was sent twice within five minutes.
        name = "/".join(message[name] for name in ("account_id", "region", "command_id", "instance_id"))
        fifo = {"MessageGroupId": message["command_id"], "MessageDeduplicationId": hashlib.sha256(name.encode()).hexdigest()}
        # In the order in which they may fail: what was told already is told again after a failure of one that follows.
        if self._url:
            self._post(self._url, text.encode())
        if self._topic:
            self._sns.publish(TopicArn=self._topic, Message=text, MessageAttributes=kinds, **(fifo if self._topic.endswith(".fifo") else {}))
        if self._queue:
            self._sqs.send_message(QueueUrl=self._queue, MessageBody=text, MessageAttributes=kinds, **(fifo if self._queue.endswith(".fifo") else {}))

    def _post(self, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        if self._secret_name:
            headers[SIGNATURE] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        with urllib.request.urlopen(request, timeout=_SECONDS):
            pass  # any status from 400 on is an exception

    @cached_property
    def _sqs(self) -> Any:
        return boto3.client("sqs")

    @cached_property
    def _sns(self) -> Any:
        _aws, _partition, _sns, region, *_rest = (self._topic or "").split(":")
        return boto3.client("sns", region_name=region)

    @cached_property
    def _secret(self) -> bytes:
        found = boto3.client("ssm").get_parameter(Name=self._secret_name, WithDecryption=True)
        return str(found["Parameter"]["Value"]).encode()
