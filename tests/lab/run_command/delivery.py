# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How agents get their messages: pushed over the control channel, or fetched by the long poll of ec2messages.

A message stays in the node's outbox until the agent acknowledges it; either channel may bring it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..settings import Settings
from ..state import ManagedNode
from . import message
from .agenda import Agenda
from .outbox import Letter, Outbox

_log = logging.getLogger(__name__)


class Delivery:
    """The outboxes of all nodes, and what moves their messages."""

    def __init__(self, settings: Settings, agenda: Agenda, on_silence: Callable[[str], None]) -> None:
        self._settings, self._agenda, self._on_silence = settings, agenda, on_silence
        self._outboxes: dict[str, Outbox] = {}
        self._arrivals: dict[str, asyncio.Event] = {}
        self._pushing: set[asyncio.Task[None]] = set()

    def post(self, node: ManagedNode, message_id: str, topic: str, payload: str) -> None:
        """A message for a node's agent, now or whenever it comes."""
        outbox = self._outboxes.setdefault(node.node_id, Outbox())
        outbox.put(Letter(message_id, topic, payload, time.time()))
        self.move(node)

    def move(self, node: ManagedNode) -> None:
        """Bring what is due: called when there is something new, and when the agent is back."""
        if node.node_id in self._arrivals:
            self._arrivals[node.node_id].set()
        if node.node_id in self._outboxes and node.channel is not None:
            task = asyncio.create_task(self._push(node))
            self._pushing.add(task)
            task.add_done_callback(self._pushing.discard)

    def connected(self, node: ManagedNode) -> None:
        """The agent has a new control channel: what an earlier one was sent may be lost."""
        outbox = self._outboxes.get(node.node_id)
        if outbox is not None:
            outbox.expose()
            self.move(node)

    def acknowledge(self, node_id: str, message_id: str) -> bool:
        """The agent has a message; False if there was none."""
        outbox = self._outboxes.get(node_id)
        if outbox is None or not outbox.remove(message_id):
            return False
        if not outbox:
            del self._outboxes[node_id]
        return True

    withdraw = acknowledge

    def again(self, node: ManagedNode, message_id: str) -> None:
        """The agent could not take a message: bring it later."""
        outbox = self._outboxes.get(node.node_id)
        if outbox is not None and outbox.again(message_id, self._now() + self._settings.redelivery_seconds):
            self._agenda.after(self._settings.redelivery_seconds, lambda: self.move(node))

    async def poll(self, node: ManagedNode, seconds: float) -> list[dict[str, Any]]:
        """GetMessages: what is due, or what comes within some seconds."""
        arrival = self._arrivals.setdefault(node.node_id, asyncio.Event())
        node.polling += 1
        try:
            ends = self._now() + seconds
            while True:
                arrival.clear()
                # An agent that has both gets its messages over the channel.
                outbox = self._outboxes.get(node.node_id) if node.channel is None else None
                letters = outbox.take(self._now(), self._settings.visibility_seconds) if outbox is not None else []
                if letters:
                    return [_as_message(node.node_id, letter) for letter in letters]
                until = min(ends, (outbox.next_due if outbox is not None else None) or ends)
                try:
                    await asyncio.wait_for(arrival.wait(), max(0.0, until - self._now()))
                except TimeoutError:
                    if self._now() >= ends:
                        return []
        finally:
            node.polling -= 1
            node.last_ping = time.time()

    def close(self) -> None:
        """Bring nothing more."""
        for task in self._pushing:
            task.cancel()

    async def _push(self, node: ManagedNode) -> None:
        outbox, channel = self._outboxes.get(node.node_id), node.channel
        if outbox is None or channel is None:
            return
        for letter in outbox.take(self._now(), self._settings.redelivery_seconds):
            if letter.attempts > 1:
                self._on_silence(letter.message_id)
            if not await channel.send_job(message.job(letter.message_id, letter.topic, letter.payload)):
                _log.info("%s: a broken control channel", node.node_id)
            self._agenda.after(self._settings.redelivery_seconds, lambda: self.move(node))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _as_message(node_id: str, letter: Letter) -> dict[str, Any]:
    created = datetime.fromtimestamp(letter.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "CreatedDate": created,
        "Destination": node_id,
        "MessageId": letter.message_id,
        "Payload": letter.payload,
        "Topic": letter.topic,
    }
