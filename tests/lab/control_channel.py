# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control channels: one websocket of each agent, over which sessions and commands are started.

The agent answers `agent_task_complete` when a session is over, `agent_job_reply` when a command gets on; it repeats both
until they are acknowledged.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType

from .codec import MalformedMessage, Message, decode
from .relay import Peer, channel_closed
from .run_command.message import job_reply_ack
from .run_command.service import RunCommand
from .state import ManagedNode, Session

_log = logging.getLogger(__name__)

#: Answers to a complete task: session id, status and output text.
TaskComplete = Callable[[str, str, str], Awaitable[None]]


class ControlChannel:
    """The control channel of a node while its agent is connected."""

    def __init__(self, node: ManagedNode, peer: Peer, on_complete: TaskComplete, run_command: RunCommand) -> None:
        self.node, self.peer, self._on_complete, self._run_command = node, peer, on_complete, run_command

    async def run(self) -> None:
        """Serve the websocket to its end."""
        async for message in self.peer.socket:
            if message.type is not WSMsgType.BINARY:
                continue  # audit messages and the like
            try:
                await self._receive(decode(message.data))
            except (MalformedMessage, ValueError) as problem:
                _log.warning("control channel of %s: %s", self.node.node_id, problem)

    async def start_session(self, session: Session) -> bool:
        """Send the order to start a session; False if the channel is broken."""
        content = {
            "DocumentName": session.document_name,
            "DocumentContent": session.content,
            "SessionId": session.session_id,
            "Parameters": session.parameters,
            "RunAsUser": session.run_as,
            "SessionOwner": session.owner,
        }
        payload = {
            "Content": json.dumps(content),
            "TaskId": session.session_id,
            "Topic": "aws.ssm.startSession",
            "SchemaVersion": 1,
        }
        return await self.peer.send(Message("interactive_shell", json.dumps(payload).encode()).encode())

    async def end_session(self, session: Session) -> bool:
        """Send the order to end a session; False if the channel is broken."""
        return await self.peer.send(channel_closed(session))

    async def send_job(self, payload: bytes) -> bool:
        """Send an order of Run Command; False if the channel is broken."""
        return await self.peer.send(Message("agent_job", payload).encode())

    async def _receive(self, message: Message) -> None:
        if message.message_type == "agent_task_complete":
            await self._task_complete(message)
        elif message.message_type == "agent_job_ack":
            job = json.loads(message.payload)
            self._run_command.acknowledged(self.node, job.get("jobId", ""), str(job.get("statusCode", "")))
        elif message.message_type == "agent_job_reply":
            job = json.loads(message.payload)
            answer = job_reply_ack(job.get("jobId", ""), str(message.message_id))
            await self.peer.send(Message("agent_job_reply_ack", answer).encode())
            self._run_command.replied(self.node, job.get("jobId", ""), job.get("content", ""))

    async def _task_complete(self, message: Message) -> None:
        task: dict[str, Any] = json.loads(message.payload)
        await self._acknowledge(message.message_id, task)
        await self._on_complete(task.get("TaskId", ""), task.get("FinalTaskStatus", ""), task.get("Output", ""))

    async def _acknowledge(self, message_id: uuid.UUID, task: dict[str, Any]) -> None:
        payload = {
            "SchemaVersion": 1,
            "MessageId": str(message_id),
            "TaskId": task.get("TaskId", ""),
            "Topic": task.get("Topic", ""),
        }
        await self.peer.send(Message("agent_task_acknowledge", json.dumps(payload).encode()).encode())
