# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue by which a mux hears that commands have ended: its own, subscribed to the topic that the option `events_topic` names.

Made with the first command, deleted with the mux. One that a killed mux has left over is swept by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from ...runcommand import status_events
from ...runcommand.status_events import End
from .. import errors
from ..aws.identity import Identity

_WAIT = 10
"""Seconds for which SQS holds an answer back until there is a message."""

_KEPT = "300"
"""Seconds that SQS keeps a message: what is older, the backstop has found."""

_PAUSE = 5.0
_MESSAGES = 10


class EventQueue:
    """Of one identity and topic."""

    def __init__(self, identity: Identity, topic: str, on_end: Callable[[End], None], is_awaited: asyncio.Event, log: logging.Logger) -> None:
        self._identity = identity
        self._topic = topic
        self._region = topic.split(":")[3] if topic.count(":") >= 5 else None
        self._on_end = on_end
        self._is_awaited = is_awaited
        self._log = log
        self._url: str | None = None
        self._subscription: str | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """:raises Exception: as `Identity.use`: there is none, and polls must do."""
        await self._make()
        self._hearing = asyncio.get_running_loop().create_task(self._hear())

    async def close(self) -> None:
        """Remove it."""
        if self._hearing is not None:
            self._hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._hearing
        url, subscription = self._url, self._subscription
        try:
            if subscription is not None:
                await self._sns("Unsubscribe", lambda client: client.unsubscribe(SubscriptionArn=subscription))
            if url is not None:
                await self._sqs("DeleteQueue", lambda client: client.delete_queue(QueueUrl=url))
        except Exception as error:
            self._log.warning("the queue %s stays: %s", url, error)

    async def _make(self) -> None:
        name = status_events.queue_name(time.time(), secrets.token_hex(6))

        def make(client: Any) -> tuple[str, str]:
            url = client.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": _KEPT, "ReceiveMessageWaitTimeSeconds": str(_WAIT)})["QueueUrl"]
            arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            client.set_queue_attributes(QueueUrl=url, Attributes={"Policy": status_events.queue_policy(arn, self._topic)})
            return url, arn

        self._url, arn = await self._sqs("CreateQueue", make)
        try:
            answer = await self._sns(
                "Subscribe",
                lambda client: client.subscribe(
                    TopicArn=self._topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}, ReturnSubscriptionArn=True
                ),
            )
        except BaseException:
            url, self._url = self._url, None
            await self._sqs("DeleteQueue", lambda client: client.delete_queue(QueueUrl=url))
            raise
        self._subscription = answer["SubscriptionArn"]

    async def _hear(self) -> None:
        """Take messages for as long as an end is awaited."""
        try:
            await self._sweep()
        except Exception as error:
            self._log.info("queues that are left over could not be swept: %s", error)
        while True:
            await self._is_awaited.wait()
            try:
                await self._receive()
            except Exception as error:
                self._log.warning("no events: %s", self._identity.explain(error, "sqs:ReceiveMessage", self._url or self._topic))
                if "NonExistentQueue" in errors.error_code(error) or "QueueDoesNotExist" in errors.error_code(error):
                    with contextlib.suppress(Exception):
                        await self._make()
                await asyncio.sleep(_PAUSE)

    async def _receive(self) -> None:
        url = self._url
        answer = await self._sqs("ReceiveMessage", lambda client: client.receive_message(QueueUrl=url, MaxNumberOfMessages=_MESSAGES, WaitTimeSeconds=_WAIT))
        messages = answer.get("Messages") or []
        for message in messages:
            if (end := status_events.read(message["Body"])) is not None:
                self._on_end(end)
        if messages:
            entries = [{"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)]
            await self._sqs("DeleteMessageBatch", lambda client: client.delete_message_batch(QueueUrl=url, Entries=entries))

    async def _sweep(self) -> None:
        """Remove queues of muxes that could not do it themselves, with their subscriptions."""
        now = time.time()
        answer = await self._sqs("ListQueues", lambda client: client.list_queues(QueueNamePrefix=status_events.PREFIX, MaxResults=1000))
        stale = {url.rpartition("/")[2]: url for url in answer.get("QueueUrls") or [] if status_events.is_stale(url.rpartition("/")[2], now)}
        if not stale:
            return

        def listed(client: Any) -> list[dict[str, Any]]:
            pages = client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._topic)
            return [subscription for page in pages for subscription in page["Subscriptions"]]

        for subscription in await self._sns("ListSubscriptionsByTopic", listed):
            arn = subscription["SubscriptionArn"]
            if subscription["Endpoint"].rpartition(":")[2] in stale and arn.startswith("arn:"):
                await self._sns("Unsubscribe", lambda client, arn=arn: client.unsubscribe(SubscriptionArn=arn))
        for url in stale.values():
            await self._sqs("DeleteQueue", lambda client, url=url: client.delete_queue(QueueUrl=url))

    async def _sqs(self, name: str, work: Callable[..., Any]) -> Any:
        return await self._identity.use("sqs", self._region, name, work)

    async def _sns(self, name: str, work: Callable[..., Any]) -> Any:
        return await self._identity.use("sns", self._region, name, work)
