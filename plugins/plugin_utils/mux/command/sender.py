# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SendCommand, whose answer may be lost: a command is sent once, or it is said that this is not known."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ....module_utils.runcommand.mark import Mark, room
from .. import errors
from ..aws.helper import CredentialsError
from ..aws.identity import Identity
from ..errors import RequestError, ServiceFault, unreachable
from ..protocol import ErrorKind

_PATIENCE = 300.0
"""Seconds for which throttling is waited out."""

_LOOKS = (0.5, 2.0, 5.0, 10.0, 15.0)
"""Seconds before each look for a command whose answer was lost: listings lag behind, and a busy service accepts late what it has not answered in time."""

_SKEW = 300.0
"""Seconds by which the clocks of this machine and AWS may differ."""

_NODE_ID = re.compile(r"\bm?i-[0-9a-f]{8,17}\b")
_NODE_CODES = frozenset(("InvalidInstanceId", "UnsupportedPlatformType"))


@dataclass(frozen=True)
class Order:
    """What all calls for a batch have in common."""

    document: str
    script: str = field(repr=False)
    delivery: int
    execution: int
    reason: str

    def to_api(self, mark: Mark, node_ids: Sequence[str]) -> dict[str, Any]:
        """The parameters of one call. No host's failure affects another's."""
        return {
            "DocumentName": self.document,
            "InstanceIds": list(node_ids),
            "Parameters": {"commands": [self.script], "executionTimeout": [str(self.execution)]},
            "TimeoutSeconds": self.delivery,
            "Comment": mark.comment(self.reason[: room(mark.run_id)]),
            "MaxConcurrency": "100%",
            "MaxErrors": "100%",
        }


@dataclass(frozen=True)
class Accepted:
    """A command that AWS has accepted."""

    command_id: str
    node_ids: list[str]
    requested: datetime
    """By AWS's clock."""

    @classmethod
    def of(cls, command: Mapping[str, Any], node_ids: list[str]) -> Accepted:
        """As SendCommand and ListCommands tell of it. :raises KeyError: they tell of none."""
        requested = command.get("RequestedDateTime")
        return cls(command["CommandId"], node_ids, requested if isinstance(requested, datetime) else datetime.now(UTC))


@dataclass
class Sent:
    """What became of an order, by node."""

    commands: list[Accepted] = field(default_factory=list)
    refused: dict[str, RequestError] = field(default_factory=dict)
    """AWS accepted nothing for these."""
    unknown: dict[str, RequestError] = field(default_factory=dict)
    """Whether AWS accepted it for these is not known."""


class Sender:
    """Sends the commands of one identity."""

    def __init__(self, identity: Identity, log: logging.Logger) -> None:
        self._identity = identity
        self._log = log

    async def send(self, order: Order, node_ids: Sequence[str]) -> Sent:
        """To at most fifty nodes. A node that AWS refuses does not keep the others from it."""
        sent = Sent()
        waiting = [list(node_ids)]
        while waiting:
            ids = waiting.pop()
            if not ids:
                continue
            try:
                sent.commands.append(await self._send_once(order, ids))
            except _Ambiguous as error:
                text = f"the answer to ssm:SendCommand was lost ({error}), and the command is not listed"
                sent.unknown.update(dict.fromkeys(ids, RequestError(ErrorKind.UNKNOWN_OUTCOME, text)))
            except Exception as error:
                waiting += self._judge(error, order, ids, sent)
        return sent

    def _judge(self, error: Exception, order: Order, ids: list[str], sent: Sent) -> list[list[str]]:
        """What is to be tried once more, after a refusal; everything else is noted."""
        of_nodes = errors.error_code(error) in _NODE_CODES
        named = set(_NODE_ID.findall(errors.error_message(error) if of_nodes else errors.denied_resource(error)))
        good, bad = [id_ for id_ in ids if id_ not in named], [id_ for id_ in ids if id_ in named]
        if good and bad:
            self._refused(error, order, bad, sent)
            return [good]
        if of_nodes and len(ids) > 1:
            return [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
        self._refused(error, order, ids, sent)
        return []

    def _refused(self, error: Exception, order: Order, ids: list[str], sent: Sent) -> None:
        sent.refused.update({id_: self._failure(error, order, id_) for id_ in ids})

    def _failure(self, error: Exception, order: Order, id_: str) -> RequestError:
        if isinstance(error, RequestError):
            return error
        if isinstance(error, CredentialsError):
            return unreachable(str(error))
        code = errors.error_code(error)
        resource = f"{id_} with {order.document}"
        if code == "InvalidInstanceId":
            return unreachable(f"{id_}: AWS does not take commands for it now. AWS says: {errors.error_message(error)}")
        if code == "UnsupportedPlatformType":
            return RequestError(ErrorKind.FAILED, f"the document {order.document} is not for the platform of {id_}: {errors.error_message(error)}")
        if errors.is_no_document(error):
            text = f"the Command document {order.document} (option command_document) does not exist in {self._identity.region}"
            return RequestError(ErrorKind.FAILED, f"{text}. AWS says: {errors.error_message(error)}")
        text = self._identity.explain(error, "ssm:SendCommand", resource)
        return ServiceFault(text, error) if errors.is_throttling(error) or errors.is_transient(error) else unreachable(text)

    async def _send_once(self, order: Order, ids: list[str]) -> Accepted:
        loop = asyncio.get_running_loop()
        mark = Mark.of(secrets.token_hex(8), 0, ids)
        began = time.time()
        try:
            answer = await self._identity.call(
                "ssm", "send_command", deadline=loop.time() + _PATIENCE, resource=ids[0], late=self._abandoned, **order.to_api(mark, ids)
            )
            return Accepted.of(answer["Command"], ids)
        except Exception as error:
            if not _may_be_accepted(error):
                raise
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            self._log.info("the answer to SendCommand was lost: %s", why)
            found = await self._find(mark, began - _SKEW)
            if found is None:
                raise _Ambiguous(why) from error
            return Accepted.of(found, ids)

    def _abandoned(self, answer: asyncio.Future[dict[str, Any]]) -> None:
        """Nobody waits any more for a command that is just being sent: cancel it."""

        async def cancel() -> None:
            try:
                command_id = (await answer)["Command"]["CommandId"]
                await self.cancel(command_id)
            except Exception as error:
                self._log.info("a command that nobody waits for could not be cancelled: %s", error)

        self._late = asyncio.get_running_loop().create_task(cancel())

    async def _find(self, mark: Mark, since: float) -> Mapping[str, Any] | None:
        moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for pause in _LOOKS:
            await asyncio.sleep(pause)
            more: dict[str, Any] = {}
            try:
                while True:
                    page = await self._identity.call(
                        "ssm", "list_commands", deadline=asyncio.get_running_loop().time() + 60.0, resource="*",
                        Filters=[{"key": "InvokedAfter", "value": moment}], MaxResults=50, **more,
                    )  # fmt: skip
                    for command in page["Commands"]:
                        if Mark.read(command.get("Comment", "")) == mark:
                            return dict(command)
                    if not page.get("NextToken"):
                        break
                    more = {"NextToken": page["NextToken"]}
            except Exception as error:
                if not errors.is_transient(error):
                    raise _Ambiguous(self._identity.explain(error, "ssm:ListCommands", "*")) from error
        return None

    async def cancel(self, command_id: str, node_ids: Sequence[str] = ()) -> None:
        """CancelCommand, for some of its nodes or for all. :raises Exception: as `Identity.call`."""
        which: dict[str, Any] = {"InstanceIds": list(node_ids)} if node_ids else {}
        deadline = asyncio.get_running_loop().time() + 30.0
        await self._identity.call("ssm", "cancel_command", deadline=deadline, resource=command_id, CommandId=command_id, **which)


class _Ambiguous(Exception):
    """AWS may have accepted the command."""


def _may_be_accepted(error: Exception) -> bool:
    """Errors of ours come before a request."""
    return not isinstance(error, RequestError | CredentialsError) and errors.may_be_accepted(error)
