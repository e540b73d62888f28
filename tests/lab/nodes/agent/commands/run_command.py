# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command in the agent: orders in, acknowledgements and replies out, by either way."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import subprocess
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from ..config import AgentConfig
from ..message import AGENT_JOB_ACK, AGENT_JOB_REPLY, Message, id_text, pack
from .agent_update import installed_version
from .ec2messages import Ec2Messages
from .execution import Execution
from .order import SEND_COMMAND, CancelOrder, CommandOrder, InvalidDocumentError, command_of, parse_order
from .pool import BUFFER_FULL, DUPLICATE, Pool
from .replies import Replies, reply_payload
from .result import FAILED, IN_PROGRESS, SUCCESS_AND_REBOOT, AgentInfo, result_content, status_content
from .store import DocumentState, Store

_log = logging.getLogger(__name__)
_CODES = {
    "": ("200", "Successful"),
    BUFFER_FULL: ("51402", BUFFER_FULL),
    DUPLICATE: ("51405", DUPLICATE),
    "AgentJobMessageParseError": ("51408", "AgentJobMessageParseError"),
}
_FULL_PAUSE = 10.0  #: seconds between two tries to place a message of ec2messages
_RUNS = 15  #: how often an agent takes up a command that it finds running
_EXPIRES = 48 * 3600.0
_REBOOT = ("/sbin/shutdown", "-r", "+1")


class RunCommand:
    """The commands of one agent. `send` takes a frame for the control channel and drops it if there is none."""

    def __init__(
        self, config: AgentConfig, context: ssl.SSLContext, messages: Ec2Messages, send: Callable[[bytes], None]
    ) -> None:
        self._config, self._context, self._messages, self._send = config, context, messages, send
        folder = config.state / "commands"
        self._store = Store(folder)
        self._pool = Pool(self._start)
        self._replies = Replies(folder / "replies", config.reply_retry, self._send_reply)
        self._executions: dict[str, Execution] = {}
        self._held: dict[str, list[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.channel_opened = False  #: told with replies by ec2messages

    def resume(self) -> None:
        """Take up what an agent before this one left: what ran, then what waited."""
        for state in self._store.current():
            if state.runs >= _RUNS or _age(state.order.created) > _EXPIRES:
                self._store.remove(state.order.command_id)
                continue
            state.runs += 1
            self._store.save(state)
            self._pool.submit(state.order)
        for state in self._store.pending():
            self._pool.submit(state.order)
        self._spawn(self._replies.resend())
        self._spawn(self._messages.resend(self._config.reply_retry))

    # The control channel

    def take_job(self, message: Message, created_ms: int) -> None:
        """An agent_job: place it, and say what became of it."""
        given = json.loads(message.payload)
        job_id, topic = str(given.get("JobId", "")), str(given.get("Topic", ""))
        created = _iso(created_ms)
        try:
            order = parse_order(topic, job_id, given.get("Content") or "", self._config.node_id, created, "mgs")
        except InvalidDocumentError as error:
            _log.warning("job %s: %s", job_id, error)
            self._acknowledge(message, job_id, created, "AgentJobMessageParseError")
            self._send_once(job_id, SEND_COMMAND, status_content(self._agent, FAILED))
            return
        error_code = self.submit(order)
        self._acknowledge(message, job_id, created, error_code)
        if not error_code:
            self._send_once(job_id, order.topic, status_content(self._agent, IN_PROGRESS))

    def take_reply_acknowledgement(self, message: Message) -> None:
        self._replies.acknowledge(json.loads(message.payload).get("acknowledgedMessageId", ""))

    def _acknowledge(self, message: Message, job_id: str, created: str, error_code: str) -> None:
        code, text = _CODES[error_code]
        payload = {
            "jobId": job_id,
            "acknowledgedMessageId": id_text(message.message_id).decode(),
            "createdDate": created,
            "statusCode": code,
            "errorMessage": text,
        }
        self._send(pack(AGENT_JOB_ACK, json.dumps(payload, separators=(",", ":")).encode(), flags=0))

    def _send_once(self, job_id: str, topic: str, content: dict[str, Any]) -> None:
        """A reply that nobody waits to be acknowledged."""
        self._send(pack(AGENT_JOB_REPLY, reply_payload(job_id, topic, content), flags=0))

    def _send_reply(self, message_id: bytes, payload: bytes) -> None:
        self._send(pack(AGENT_JOB_REPLY, payload, flags=0, message_id=message_id))

    # ec2messages

    async def take_message(self, message: dict[str, Any]) -> None:
        """One message of GetMessages. While there is no room the agent waits, and takes no other."""
        job_id, topic = message.get("MessageId") or "", message.get("Topic") or ""
        if not (job_id and topic and message.get("Destination") and message.get("CreatedDate")):
            _log.warning("ec2messages: a message that is none: %r", message)
            return
        try:
            order = parse_order(
                topic, job_id, message.get("Payload") or "", message["Destination"], message["CreatedDate"], "mds"
            )
        except InvalidDocumentError as error:
            if topic.startswith(SEND_COMMAND):
                self._reply_by_messages(job_id, status_content(self._agent, FAILED, str(error)))
            else:
                self._messages.fail(job_id)
            return
        while self.submit(order) == BUFFER_FULL:
            await asyncio.sleep(_FULL_PAUSE)
        # One that came before is acknowledged like a new one.
        self._reply_by_messages(job_id, status_content(self._agent, IN_PROGRESS))
        self._messages.acknowledge(job_id)

    def _reply_by_messages(self, job_id: str, content: dict[str, Any]) -> None:
        content["additionalInfo"]["ableToOpenMGSConnection"] = self.channel_opened
        self._messages.reply(job_id, content)

    # Both

    def submit(self, order: CommandOrder | CancelOrder) -> str:
        """Place an order; empty, or the name of what is wrong."""
        command_id = command_of(order.job_id)
        if not self._store.first_seen(command_id):
            return DUPLICATE
        if isinstance(order, CancelOrder):
            running = self._pool.cancel(order.cancelled_job_id)
            if running is not None and running.command_id in self._executions:
                self._executions[running.command_id].cancel()
            return ""
        error_code = self._pool.submit(order, admit=lambda: self._store.add_pending(DocumentState(order)))
        if error_code:
            self._store.forget_seen(command_id)
        return error_code

    def _start(self, order: CommandOrder) -> None:
        try:
            state = self._store.load(order.command_id)
        except FileNotFoundError:
            state = DocumentState(order)
        self._store.begin(state)
        execution = Execution(self._config, self._context, self._store, state, self._on_result)
        self._executions[order.command_id] = execution
        self._spawn(self._execute(execution))

    async def _execute(self, execution: Execution) -> None:
        order = execution.state.order
        try:
            await execution.run()
            if execution.state.status == SUCCESS_AND_REBOOT:
                self._store.save(execution.state)
                _log.info("command %s asks for a reboot", order.command_id)
                subprocess.Popen(_REBOOT, stdin=subprocess.DEVNULL, process_group=0)
            else:
                self._store.remove(order.command_id)
        finally:
            del self._executions[order.command_id]
            self._pool.done(order.job_id)

    def _on_result(self, state: DocumentState, step: str) -> None:
        order = state.order
        content = result_content(self._agent, step, state.results)
        if self._config.replies_reversed and step:
            self._held.setdefault(order.command_id, []).append(content)
            return
        for reply in (content, *self._held.pop(order.command_id, ())):
            if order.upstream == "mds":
                self._reply_by_messages(order.job_id, reply)
            else:
                self._replies.put(order.job_id, order.topic, reply)

    @property
    def _agent(self) -> AgentInfo:
        version = installed_version(self._config.state_dir, self._config.agent_version)
        return AgentInfo(version, self._config.platform.lower())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("run command: %r", task.exception(), exc_info=task.exception())


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _age(created: str) -> float:
    """Seconds since a time that a message named; 0 if it is none."""
    try:
        return time.time() - datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0
