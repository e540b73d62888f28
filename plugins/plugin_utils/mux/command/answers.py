# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes answer to scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...runcommand import trailer
from ...runcommand.invocation import Invocation
from ...runcommand.trailer import Ended, Said, TrailerError
from .. import errors
from ..aws.identity import Identity
from ..errors import RequestError
from ..protocol import ErrorKind
from .sender import Order, Sender, Sent
from .task import CommandTask
from .watch import Watch

_ANSWERED_WITHIN = 60.0


class Answers:
    """Of the commands of one identity."""

    def __init__(self, identity: Identity, sender: Sender, watch: Watch) -> None:
        self._identity = identity
        self._sender = sender
        self._watch = watch

    async def ask(self, tasks: Sequence[CommandTask], text: str, name: str) -> list[Ended | Said | RequestError]:
        """A script of our own, beside the tasks, that may be run twice: what each node said."""
        sent = await self._sender.send(order(tasks[0], text), [task.node_id for task in tasks])
        ends = self.follow(sent)

        async def answer(task: CommandTask) -> Ended | Said | RequestError:
            refusal = sent.refused.get(task.node_id) or sent.unknown.get(task.node_id)
            if refusal is not None:
                return refusal
            try:
                invocation = await ends[task.node_id][1]
                found = await self.read(invocation, ends[task.node_id][0], name)
            except RequestError as error:
                return error
            except TrailerError as error:
                return RequestError(ErrorKind.FAILED, str(error))
            return found or RequestError(ErrorKind.UNREACHABLE, invocation.reason)

        return list(await asyncio.gather(*(answer(task) for task in tasks)))

    def follow(self, sent: Sent) -> dict[str, tuple[str, asyncio.Future[Invocation]]]:
        """By node, the command that was sent to it and its end."""
        return {
            node_id: (command.command_id, end)
            for command in sent.commands
            for node_id, end in self._watch.follow(command.command_id, command.node_ids, command.requested).items()
        }

    async def read(self, invocation: Invocation, command_id: str, name: str) -> Ended | Said | None:
        """What our script said; `None`: it did not come to its last line. :raises TrailerError: it is damaged."""
        for text in invocation.outputs.values():
            if (found := trailer.read(text + "\n", name)) is not None:
                return found
        for step in invocation.outputs:
            answer = await self._invocation(command_id, invocation.node_id, step)
            if (found := trailer.read(answer + "\n", name)) is not None:
                return found
        return None

    async def _invocation(self, command_id: str, node_id: str, step: str) -> str:
        """stdout as far as AWS gives it."""
        failures = 0
        while True:
            try:
                answer = await self._identity.call(
                    "ssm", "get_command_invocation", deadline=asyncio.get_running_loop().time() + _ANSWERED_WITHIN, resource=command_id,
                    CommandId=command_id, InstanceId=node_id, PluginName=step,
                )  # fmt: skip
                return str(answer.get("StandardOutputContent") or "")
            except Exception as error:
                failures += 1
                if not errors.is_transient(error) or failures > 6:
                    text = self._identity.explain(error, "ssm:GetCommandInvocation", f"{command_id} on {node_id}")
                    raise RequestError(ErrorKind.UNKNOWN_OUTCOME, f"the command ended, but what it did cannot be known: {text}") from error
                await asyncio.sleep(min(10.0, 0.5 * 2.0**failures))


def order(task: CommandTask, text: str) -> Order:
    """A script, sent as the options of a task say."""
    return Order(task.options.command_document, text, task.options.delivery_timeout, task.options.execution_timeout, task.reason)
