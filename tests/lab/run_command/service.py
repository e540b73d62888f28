# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command: what happens to commands from SendCommand to their end."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence

from ..model import NodeKind
from ..settings import Settings
from ..state import Inventory, ManagedNode
from . import message, simulation
from .agenda import Agenda
from .command import Command
from .delivery import Delivery
from .invocation import Invocation
from .reply import Reply, parse_reply
from .status import Details

_log = logging.getLogger(__name__)

#: Told of every new status: of an invocation, or (None) of the command as a whole.
Listener = Callable[[Command, Invocation | None], None]

#: What an agent's acknowledgement says (agent_job_ack, from the agent's source).
_ACCEPTED, _BUSY, _DUPLICATE, _UNPARSABLE = "200", "51402", "51405", "51408"
#: It will never take the message: the document's type is none that it knows, or it runs in a container.
_REFUSED = frozenset({"51403", "51406", "51407"})


class RunCommand:
    """All commands of the lab."""

    def __init__(self, settings: Settings, nodes: Inventory) -> None:
        self._settings, self._nodes = settings, nodes
        self.agenda = Agenda()
        self.delivery = Delivery(settings, self.agenda, self._silent)
        self.listener: Listener = lambda command, invocation: None
        self._commands: dict[str, Command] = {}
        self._by_place: dict[tuple[str, str], list[Command]] = {}
        self._simulated: dict[float, list[tuple[Command, Invocation, simulation.Answer]]] = {}

    # -- what the API asks

    def start(self, command: Command) -> None:
        """Send a new command; its agents get it when MaxConcurrency lets them."""
        self._commands[command.command_id] = command
        self._by_place.setdefault((command.account, command.region), []).append(command)
        second = self._settings.delivery_second
        self.agenda.after((command.delivery_ends - command.requested) * second, lambda: self._expire(command, undelivered=True))
        whole = (command.delivery_ends - command.requested) * second + command.expires - command.delivery_ends
        self.agenda.after(whole, lambda: self._expire(command, undelivered=False))
        for invocation in command.invocations.values():
            if invocation.final:
                self.listener(command, invocation)
        # After the answer to SendCommand: an agent on this machine is quicker than it.
        asyncio.get_running_loop().call_soon(self._release, command)

    def get(self, account: str, region: str, command_id: str) -> Command | None:
        """A command of an account and region."""
        command = self._commands.get(command_id)
        return command if command is not None and (command.account, command.region) == (account, region) else None

    def within(self, account: str, region: str) -> Sequence[Command]:
        """All commands of an account and region, the oldest first."""
        return self._by_place.get((account, region), ())

    def cancel(self, command: Command, node_ids: Sequence[str] = ()) -> None:
        """CancelCommand: for some of its nodes, or for all."""
        if not node_ids:
            command.cancelled = not command.details.final
        for node_id in list(node_ids) or list(command.invocations):
            self._cancel(command, command.invocations[node_id])
        self._settle(command)

    def all(self) -> Iterator[Command]:
        """All commands of all accounts."""
        return iter(self._commands.values())

    def close(self) -> None:
        """Nothing happens any more."""
        self.agenda.close()
        self.delivery.close()

    # -- what agents say

    def acknowledged(self, node: ManagedNode, message_id: str, code: str = _ACCEPTED) -> None:
        """The agent has a message, or says why not."""
        if code not in (_ACCEPTED, _DUPLICATE, _UNPARSABLE) and code not in _REFUSED:
            self._silent(message_id)
            self.delivery.again(node, message_id)
            return
        self.delivery.acknowledge(node.node_id, message_id)
        found = self._find(node, message_id)
        if found is None:
            return
        if code in _REFUSED:
            self._changed(*found, lambda invocation: invocation.end(Details.UNDELIVERABLE))
        elif code != _UNPARSABLE:  # a reply follows that says Failed
            self._changed(*found, Invocation.accept)

    def replied(self, node: ManagedNode, message_id: str, text: str) -> None:
        """The agent tells how far it is. Replies to a cancel message say nothing: the cancelled command's own does."""
        found = self._find(node, message_id)
        if found is None:
            return
        try:
            reply = parse_reply(text)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            _log.warning("%s: a reply that is none: %r", node.node_id, problem)
            return
        self.delivery.acknowledge(node.node_id, message_id)
        self._apply(*found, reply)

    def failed(self, node: ManagedNode, message_id: str) -> None:
        """FailMessage: the agent can do nothing with it."""
        self.delivery.acknowledge(node.node_id, message_id)
        found = self._find(node, message_id)
        if found is not None:
            self._changed(*found, lambda invocation: invocation.end(Details.FAILED))

    # -- inside

    def _find(self, node: ManagedNode, message_id: str) -> tuple[Command, Invocation] | None:
        try:
            command_id, node_id = message.parse_message_id(message_id)
        except ValueError:
            return None
        command = self._commands.get(command_id)
        if command is None or node_id != node.node_id or node_id not in command.invocations:
            return None
        return command, command.invocations[node_id]

    def _silent(self, message_id: str) -> None:
        """An agent did not take a message at once."""
        command = self._commands.get(message_id.split(".")[2])
        invocation = command.invocations.get(message_id.split(".", 3)[3]) if command is not None else None
        if command is not None and invocation is not None:
            self._changed(command, invocation, Invocation.delay)

    def _release(self, command: Command) -> None:
        """Send to as many as may have it now."""
        if command.releasing:
            return  # by something that ended at once; the loop below goes on
        command.releasing = True
        try:
            while released := command.schedule.release():
                for invocation in released:
                    self._send(command, invocation)
        finally:
            command.releasing = False
        self._settle(command)

    def _send(self, command: Command, invocation: Invocation) -> None:
        invocation.released = True
        node = self._nodes.get(invocation.node_id)
        if invocation.final:  # cancelled while it waited
            command.schedule.finished(error=False)
        elif node is None or node.gone:
            self._changed(command, invocation, lambda each: each.end(Details.UNDELIVERABLE))
        elif node.spec.kind is NodeKind.SIMULATED:
            if not node.away:
                self._simulate(command, invocation, node)
        else:
            self._post(command, node)

    def _post(self, command: Command, node: ManagedNode) -> None:
        output = command.output
        payload = message.command_payload(
            command_id=command.command_id,
            document_name=command.document_name,
            content=command.content,
            parameters=command.message_parameters,
            bucket=output.bucket,
            prefix=output.prefix,
            log_group=output.log_group,
            log_enabled=output.log_enabled,
        )
        topic = message.topic(message.SEND, command.region, node.node_id)
        self.delivery.post(node, message.message_id(command.command_id, node.node_id), topic, payload)

    def _simulate(self, command: Command, invocation: Invocation, node: ManagedNode) -> None:
        """Answers that are due together are one entry of the agenda."""
        answer = simulation.answer(node, command, self._settings.simulated_seconds)
        if answer is None:
            return
        batch = self._simulated.get(answer.seconds)
        if batch is None:
            batch = self._simulated[answer.seconds] = []
            seconds = answer.seconds

            def reply_all() -> None:
                for of, each, its in self._simulated.pop(seconds):
                    self._apply(of, each, its.reply())

            self.agenda.after(seconds, reply_all)
        self._changed(command, invocation, Invocation.accept)
        batch.append((command, invocation, answer))

    def _apply(self, command: Command, invocation: Invocation, reply: Reply) -> None:
        self._changed(command, invocation, lambda each: each.reply(reply))

    def _cancel(self, command: Command, invocation: Invocation) -> None:
        sent = message.message_id(command.command_id, invocation.node_id)
        self._changed(command, invocation, Invocation.cancel)
        self.delivery.withdraw(invocation.node_id, sent)
        node = self._nodes.get(invocation.node_id)
        if invocation.details is Details.CANCELLING and node is not None and node.spec.kind is not NodeKind.SIMULATED:
            topic = message.topic(message.CANCEL, command.region, node.node_id)
            order = message.message_id(str(uuid.uuid4()), node.node_id)
            self.delivery.post(node, order, topic, message.cancel_payload(sent))

    def _expire(self, command: Command, *, undelivered: bool) -> None:
        """TimeoutSeconds is over for what no agent has; later, ExpiresAfter for everything."""
        for invocation in command.invocations.values():
            if invocation.final or (undelivered and invocation.accepted):
                continue
            self._changed(command, invocation, lambda each: each.end(Details.DELIVERY_TIMED_OUT))
            self.delivery.withdraw(invocation.node_id, message.message_id(command.command_id, invocation.node_id))

    def _changed(self, command: Command, invocation: Invocation, change: Callable[[Invocation], bool]) -> None:
        """Change an invocation, and do what follows for its command."""
        before = invocation.details
        if not change(invocation):
            return
        command.summary.change(before, invocation.details)
        self.listener(command, invocation)
        if invocation.final and invocation.released:
            command.schedule.finished(error=invocation.details.is_error)
            if command.schedule.exceeded:
                for waiting in command.schedule.abandon():
                    self._changed(command, waiting, lambda each: each.end(Details.TERMINATED))
            else:
                self._release(command)
        self._settle(command)

    def _settle(self, command: Command) -> None:
        """Tell of the command's own status if it is another than before."""
        details = command.details
        if details is not command.told:
            command.told = details
            self.listener(command, None)


def newest_first(commands: Sequence[Command]) -> Iterator[tuple[int, Command]]:
    """Positions and commands: a position says where the next page begins, also when newer commands have come."""
    return zip(range(len(commands) - 1, -1, -1), reversed(commands), strict=True)
