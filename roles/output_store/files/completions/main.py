# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events in, completion messages out.

An event is a hint to look, nothing more: status, rc and places of outputs come from the service, asked in the node's account. So it does not
matter in which order events come, how often, or whether an object was forged; and a status never goes back, since the first last one is remembered.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import boto3

from .delivery import Delivery
from .events import ObjectEvent, Sighting, StatusEvent, read
from .invocations import Denied, Invocation, Invocations, snake
from .memory import Memory, Told
from .message import message_of, message_without_look
from .relay import Relay

_ACTIVE = ("pending", "in_progress", "delayed", "cancelling")
_NODE = re.compile(r"m?i-[0-9a-f]{8,17}")


class NotYet(Exception):
    """The command has not ended, as far as the service says now. Lambda calls again, after about one and then two minutes."""


class Completions:
    """What the function does, for the environment that it is configured with."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._bucket = environment["BUCKET"]
        self.regions = tuple(environment["REGIONS"].split(","))
        self._relay_bucket = environment.get("RELAY_BUCKET")
        self._home = environment["AWS_REGION"]
        self._settle = float(environment.get("SETTLE_SECONDS", "30"))
        self._invocations = Invocations(environment["ROLE_NAME"], environment.get("PARTITION", "aws"))
        self._delivery = Delivery(environment)

    def take(self, sighting: Sighting, seconds: float) -> str:
        """Deal with one; what became of it. :raises NotYet: if it is to be looked at again.

        :param seconds: that are left for it.
        """
        if isinstance(sighting, StatusEvent):
            return self._status(sighting, seconds)
        return self._object(sighting, seconds)

    def _status(self, event: StatusEvent, seconds: float) -> str:
        if snake(event.status) in _ACTIVE:
            return "active"
        if self._memory.told(_name(event.account, event.region, event.command_id, event.node_id)):
            return "told before"
        try:
            found = self._invocations.look(event.account, event.region, event.command_id, event.node_id)
        except Denied as problem:
            return self._tell(message_without_look(event, str(problem)), seconds)
        if found is None or not found.ended:
            raise NotYet(f"{event.command_id} on {event.node_id} is {found.status if found else 'not known'}, but an event says {event.status}")
        return self._tell(message_of(found, self._relayed), seconds)

    def _object(self, event: ObjectEvent, seconds: float) -> str:
        output = event.output
        writer = event.writer.rpartition(":")[2]
        if _NODE.fullmatch(writer) and writer != output.node_id:  # sessions of nodes have their ids as names
            return f"forged by {writer}"
        if self._relay is None and output.region and self._memory.told(_name(output.account, output.region, output.command_id, output.node_id)):
            return "told before"  # without a call of an API that is made for few
        found = self._find(event)
        if found is None:
            if time.time() - event.written < self._settle:
                raise NotYet(f"{output.command_id} on {output.node_id} is not known")
            return "forged: there is no such command on that node"
        if not found.has(event.bucket, event.key):
            return "forged: that command's output goes elsewhere"
        if self._relay is not None:
            self._relay.move(event.bucket, event.key)
        if not found.ended:
            raise NotYet(f"{output.command_id} on {output.node_id} is {found.status}")
        return self._tell(message_of(found, self._relayed), seconds)

    def _find(self, event: ObjectEvent) -> Invocation | None:
        output = event.output
        for region in [output.region] if output.region else self.regions:
            found = self._invocations.look(output.account, region, output.command_id, output.node_id)
            if found is not None:
                return found
        return None

    def _tell(self, message: dict[str, Any], seconds: float) -> str:
        name = _name(message["account_id"], message["region"], message["command_id"], message["instance_id"])
        try:
            with self._memory.telling(name, message, seconds):
                self._delivery.send(message)
        except Told:
            return "told before"
        return "told"

    @property
    def _relayed(self) -> tuple[str, str] | None:
        return (self._home, self._relay_bucket) if self._relay_bucket else None

    @cached_property
    def _relay(self) -> Relay | None:
        return Relay(self._s3, self._relay_bucket) if self._relay_bucket else None

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self._s3, self._bucket)

    @cached_property
    def _s3(self) -> Any:
        return boto3.client("s3")


def _name(account: str, region: str, command_id: str, node_id: str) -> str:
    return f"{account}/{region}/{command_id}/{node_id}"


_completions: Completions | None = None


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """What Lambda calls.

    All records of a batch are tried before one's failure is told: of a queue's batch just those come again that failed, of others all,
    which does no harm, since what was told is remembered.
    """
    global _completions
    if _completions is None:
        _completions = Completions(os.environ)
    failures: list[dict[str, str]] = []
    first: Exception | None = None
    for item in read(event, _completions.regions):
        for sighting in item.sightings:
            try:
                outcome = _completions.take(sighting, context.get_remaining_time_in_millis() / 1000)
            except Exception as problem:  # whatever it is, the other records get their turn
                outcome = f"{type(problem).__name__}: {problem}"
                if item.queue_message_id is not None:
                    failures.append({"itemIdentifier": item.queue_message_id})
                else:
                    first = first or problem
            print(json.dumps({"outcome": outcome, "sighting": type(sighting).__name__, **_identity(sighting)}))
    if first is not None:
        raise first
    return {"batchItemFailures": failures}


def _identity(sighting: Sighting) -> dict[str, str]:
    if isinstance(sighting, StatusEvent):
        return {"account": sighting.account, "region": sighting.region, "command_id": sighting.command_id, "node_id": sighting.node_id}
    return {"bucket": sighting.bucket, "key": sighting.key}
