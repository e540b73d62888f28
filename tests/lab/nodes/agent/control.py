# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent itself: credentials, presence, and the control channel over which sessions are ordered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import ssl
from collections.abc import Callable

from .commands.agent_update import installed_version
from .commands.ec2messages import Ec2Messages
from .commands.run_command import RunCommand
from .config import AgentConfig
from .document import DocumentError, SessionOrder
from .identity import Identity
from .message import (
    AGENT_JOB,
    AGENT_JOB_REPLY_ACK,
    AGENT_TASK_ACKNOWLEDGE,
    AGENT_TASK_COMPLETE,
    CHANNEL_CLOSED,
    INTERACTIVE_SHELL,
    Message,
    MessageError,
    created_ms,
    id_text,
    new_message_id,
    pack,
    unpack,
)
from .plugin import Result
from .service import Service, ServiceError
from .signing import Credentials
from .waiting import readable, reaped
from .websocket import WebSocket, WebSocketClosed
from .worker import living_sessions, start_worker, take_result

_log = logging.getLogger(__name__)
_PING_INTERVAL = 54.0
_RECONNECT_JITTER = 2.5  #: seconds, at most, before a lost control channel is opened again
_RETRY = 5.0, 2400.0  #: first (up to twice that) and longest wait after a failure
_WINDOWS = {"NAME": "Microsoft Windows Server 2022 Datacenter", "VERSION_ID": "10.0.20348"}
_ATTEMPTS = 4  #: to tell the service that a session is complete


class Agent:
    """One run of the agent, from start to SIGTERM."""

    def __init__(self, config: AgentConfig, context: ssl.SSLContext) -> None:
        self._config, self._context = config, context
        self._service = Service(config, context)
        self._identity = Identity(self._service)
        self._channel: WebSocket | None = None
        self._workers: dict[str, int] = {}
        self._acknowledged: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._polls = Ec2Messages(self._service, context, self._identity.credentials, config.state / "ec2messages")
        self._commands = RunCommand(config, context, self._polls, self._send)

    async def run(self) -> None:
        """Until SIGTERM. Session workers go on."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        for session_id, pid in living_sessions(self._config).items():
            self._watch(session_id, pid)
        work = asyncio.create_task(self._serve())
        work.add_done_callback(lambda done: stop.set())
        await stop.wait()
        if work.done():
            work.result()
        work.cancel()
        if self._channel is not None:
            self._channel.close()

    async def _serve(self) -> None:
        credentials = await self._first_credentials()
        self._update(credentials, brief=True)
        self._update(credentials)
        self._commands.resume()
        self._polls.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._config.health_interval, self._report_health))
            tasks.create_task(self._repeat(_PING_INTERVAL, self._ping))
            tasks.create_task(self._polls.poll(self._commands.take_message))
            if self._config.message_channel != "ec2messages":
                tasks.create_task(self._keep_channel())

    async def _first_credentials(self) -> Credentials:
        delay = self._config.credentials_retry
        while True:
            try:
                return self._identity.credentials()
            except ServiceError as error:
                _log.warning("no credentials, next try in %.0f s: %s", delay, error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, self._config.credentials_retry_max)

    # Presence

    def _update(self, credentials: Credentials, *, brief: bool = False) -> None:
        config = self._config
        about = {
            "AgentName": "amazon-ssm-agent",
            "AgentVersion": installed_version(config.state_dir, config.agent_version),
            "InstanceId": config.node_id,
            "PlatformType": config.platform,
        }
        if not brief:
            release = _WINDOWS if config.platform == "Windows" else _os_release()
            about |= {
                "AgentStatus": "Active",
                "AvailabilityZone": "",
                "AvailabilityZoneId": "",
                "ComputerName": os.uname().nodename,
                "IPAddress": config.address,
                "PlatformName": release.get("NAME", "Linux"),
                "PlatformVersion": release.get("VERSION_ID", ""),
                "SSMConnectionChannel": "ssmmessages" if self._channel is not None else "",
            }
        try:
            self._service.call("AmazonSSM.UpdateInstanceInformation", about, credentials)
        except ServiceError as error:
            _log.warning("UpdateInstanceInformation: %s", error)

    def _report_health(self) -> None:
        try:
            self._update(self._identity.credentials())
        except ServiceError as error:
            _log.warning("no credentials: %s", error)

    async def _repeat(self, interval: float, action: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            action()

    # Control channel

    def _ping(self) -> None:
        if self._channel is not None:
            self._channel.ping()
            self._flush()

    async def _keep_channel(self) -> None:
        delay = random.uniform(_RETRY[0], 2 * _RETRY[0])
        while True:
            try:
                self._channel = self._service.open_control_channel(self._identity.credentials())
            except OSError as error:
                _log.warning("control channel: %s; next try in %.1f s", error, delay)
                self._commands.channel_opened = False
                if isinstance(error, ServiceError) and error.status == 403:
                    self._polls.start()
                await asyncio.sleep(delay * random.uniform(1, 1.5))
                delay = min(2 * delay, _RETRY[1])
                continue
            _log.info("control channel open")
            self._commands.channel_opened = True
            self._polls.stop_soon()
            delay = random.uniform(_RETRY[0], 2 * _RETRY[0])
            try:
                await self._read(self._channel)
            except WebSocketClosed as error:
                _log.info("control channel lost: %s", error)
            self._channel.close()
            self._channel = None
            await asyncio.sleep(random.uniform(0, _RECONNECT_JITTER))

    async def _read(self, channel: WebSocket) -> None:
        """Handle messages until the channel is closed, which raises WebSocketClosed."""
        while True:
            messages, more = channel.receive()
            for data in messages:
                try:
                    self._handle(unpack(data), data)
                except (MessageError, DocumentError, ValueError) as error:
                    _log.warning("control channel: %s", error)
            self._flush()
            if not more:
                await readable(channel.fileno())

    def _send(self, frame: bytes) -> None:
        """Send at once, or drop it if there is no channel."""
        if self._channel is not None:
            self._channel.send(frame)
            self._flush()

    def _flush(self) -> None:
        """Send; these messages are few and small, the socket takes them at once."""
        if self._channel is not None:
            with contextlib.suppress(WebSocketClosed):  # the reader notices too
                self._channel.flush()

    def _handle(self, message: Message, data: bytes) -> None:
        if message.kind == INTERACTIVE_SHELL:
            order = SessionOrder.parse(message.payload)
            if order.session_id in self._workers:
                return
            _log.info("session %s: %s", order.session_id, order.session_type)
            self._watch(order.session_id, start_worker(self._config, self._context, order))
        elif message.kind == CHANNEL_CLOSED:
            pid = self._workers.get(json.loads(message.payload)["SessionId"])
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        elif message.kind == AGENT_TASK_ACKNOWLEDGE:
            event = self._acknowledged.get(json.loads(message.payload)["TaskId"])
            if event is not None:
                event.set()
        elif message.kind == AGENT_JOB:
            self._commands.take_job(message, created_ms(data))
        elif message.kind == AGENT_JOB_REPLY_ACK:
            self._commands.take_reply_acknowledgement(message)
        else:
            _log.warning("control channel: unknown message %r", message.kind)

    # Sessions

    def _watch(self, session_id: str, pid: int) -> None:
        self._workers[session_id] = pid
        task = asyncio.create_task(self._until_complete(session_id, pid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_complete(self, session_id: str, pid: int) -> None:
        await reaped(pid)
        del self._workers[session_id]
        result = take_result(self._config, session_id)
        event = self._acknowledged[session_id] = asyncio.Event()
        try:
            for attempt in range(1, _ATTEMPTS):
                self._complete(session_id, result, attempt)
                try:
                    await asyncio.wait_for(event.wait(), attempt)
                    return
                except TimeoutError:
                    continue
        finally:
            del self._acknowledged[session_id]

    def _complete(self, session_id: str, result: Result, attempt: int) -> None:
        if self._channel is None:
            return
        payload = {
            "SchemaVersion": 1,
            "TaskId": session_id,
            "Topic": "agent_task_complete",
            "FinalTaskStatus": result.status,
            "IsRoutingFailure": False,
            "AwsAccountId": "",
            "InstanceId": self._config.node_id,
            "Output": result.output,
            "S3Bucket": "",
            "S3UrlSuffix": "",
            "CwlGroup": "",
            "CwlStream": "",
            "RetryNumber": attempt,
        }
        message_id = new_message_id()
        _log.info("session %s: %s, told by %s", session_id, result.status, id_text(message_id).decode())
        body = json.dumps(payload, separators=(",", ":")).encode()
        self._channel.send(pack(AGENT_TASK_COMPLETE, body, flags=0, message_id=message_id))
        self._flush()


def _os_release() -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            for line in file:
                name, _unused, value = line.strip().partition("=")
                found[name] = value.strip('"')
    except OSError:
        pass
    return found
