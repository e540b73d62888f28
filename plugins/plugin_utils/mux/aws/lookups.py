# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS knows of single nodes, asked for many at once: a rack that is switched off is one question, not fifty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Found = Mapping[str, Any]

_ANSWERED_WITHIN = 6.0
"""Seconds that a question may take, its turn among throttled calls included."""


class Asked(Protocol):
    """What is used of an identity."""

    async def call(self, service: str, operation: str, *, deadline: float, resource: str, **parameters: Any) -> dict[str, Any]: ...

    async def instances(self, parameters: Mapping[str, Any], *, within: float) -> list[dict[str, Any]]: ...


class Lookup:
    """One kind of question. What comes while an answer is awaited goes together with the next question."""

    def __init__(self, ask: Callable[[list[str]], Awaitable[Mapping[str, Found]]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._waiting: dict[str, asyncio.Future[Found | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def find(self, node_id: str) -> Found | None:
        """What is known of a node; `None`: nothing."""
        loop = asyncio.get_running_loop()
        answer = self._waiting.setdefault(node_id, loop.create_future())
        if self._asking is None:
            self._asking = loop.create_task(self._ask_all())
        return await asyncio.shield(answer)

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                asked = {node_id: self._waiting.pop(node_id) for node_id in list(self._waiting)[: self._most]}
                try:
                    found = await self._ask(list(asked))
                except Exception as error:
                    for answer in asked.values():
                        answer.set_exception(error)
                        answer.exception()  # it may be that nobody waits any more
                else:
                    for node_id, answer in asked.items():
                        answer.set_result(found.get(node_id))
        finally:
            self._asking = None


class Lookups:
    """The questions of one identity."""

    def __init__(self, identity: Asked) -> None:
        self._identity = identity
        self.managed = Lookup(self._ask_systems_manager, most=50)
        """By Systems Manager's DescribeInstanceInformation."""
        self.instances = Lookup(self._ask_ec2, most=200)
        """By EC2's DescribeInstances."""

    async def _ask_systems_manager(self, ids: list[str]) -> Mapping[str, Found]:
        deadline = asyncio.get_running_loop().time() + _ANSWERED_WITHIN
        page = await self._identity.call(
            "ssm", "describe_instance_information", deadline=deadline, resource="*", Filters=[{"Key": "InstanceIds", "Values": ids}], MaxResults=50
        )
        return {entry["InstanceId"]: entry for entry in page["InstanceInformationList"]}

    async def _ask_ec2(self, ids: list[str]) -> Mapping[str, Found]:
        # By a filter: an id that does not exist is then missing in the answer, and no error for all others.
        found = await self._identity.instances({"Filters": [{"Name": "instance-id", "Values": ids}]}, within=_ANSWERED_WITHIN)
        return {instance["id"]: instance for instance in found}
