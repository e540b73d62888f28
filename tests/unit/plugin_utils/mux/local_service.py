# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS's API by HTTP, and sessions that are processes on this machine: what a route needs, without data channels between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pty
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import ChannelError, StartedSession
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, Output
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity_key import IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Lifecycle
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import FrameType
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.known_nodes import KnownNodes
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.warm import Warmth
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.work import Exec, Work
from tests.unit.aws_endpoint import Answer, Endpoint

SHELL = "SSM-SessionManagerRunShell"
"""A document whose sessions come alone."""
PUBLIC = "AWS-StartInteractiveCommand"
"""A document with a second session for the output."""


class Refusal(Exception):
    """What an action answers instead."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


class LocalSession:
    """What is used of a SessionClient; its process has a terminal, or gives its output alone."""

    def __init__(self, service: LocalService, started: StartedSession, *, terminate: Callable[[], Any], **_unused: Any) -> None:
        self.session_id = started.session_id
        self.reconnecting = False
        self.deaf = False
        self.closed = False
        self._document, self._command = service.ordered[started.session_id]
        self._service = service
        self._terminate = terminate
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Output | Closed] = asyncio.Queue()
        self._held: list[Output] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._fd = -1

    async def open(self) -> None:
        if self._service.on_open is not None:
            await self._service.on_open(self)
        line = ["sh"] if self._document == SHELL else ["sh", "-c", self._command]
        if self._document in (SHELL, PUBLIC):
            self._fd, its = pty.openpty()
            self._process = subprocess.Popen(line, stdin=its, stdout=its, stderr=its, start_new_session=True)
        else:
            self._fd, its = os.pipe()
            self._process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=its, start_new_session=True)
        os.close(its)
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        if data:
            (self._held if self.deaf else _Puts(self._events)).append(Output("stdout", data))
        else:
            self._loop.remove_reader(self._fd)
            self.end("its process has ended")

    def hear(self) -> None:
        """Be no longer deaf."""
        self.deaf = False
        for event in self._held:
            self._events.put_nowait(event)
        self._held.clear()

    def end(self, reason: str) -> None:
        """The service ends it."""
        self._events.put_nowait(Closed(reason, clean=True))

    def program_runs(self) -> None:
        """Nothing is written before this anyway."""

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise ChannelError("the channel has ended")
        await asyncio.to_thread(_write_all, self._fd, data)

    async def events(self) -> AsyncIterator[Output | Closed]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Closed):
                return

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        await self._terminate()
        if self._process is not None:
            self._loop.remove_reader(self._fd)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            os.close(self._fd)
            self._process.wait()


class _Puts:
    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self.append = queue.put_nowait


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class LocalService:
    """Answers actions; what a test wants otherwise it puts into ``rules``: a function of the parameters that raises, waits, or answers `None`."""

    def __init__(self) -> None:
        self.rules: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.on_open: Callable[[LocalSession], Any] | None = None
        self.ordered: dict[str, tuple[str, str]] = {}
        self.open: set[str] = set()
        self.sessions: list[LocalSession] = []
        self._lock = threading.Lock()
        self._endpoint = Endpoint(self._answer)
        self.url = self._endpoint.url

    def close(self) -> None:
        self._endpoint.close()

    def client(self, started: StartedSession, **values: Any) -> Any:
        """In the place of SessionClient."""
        session = LocalSession(self, started, **values)
        self.sessions.append(session)
        return session

    def count(self, action: str) -> int:
        return self._endpoint.actions.count(action)

    def _answer(self, action: str, _key: str, parameters: dict[str, Any]) -> Answer:
        try:
            found = self.rules[action](parameters) if action in self.rules else None
            return 200, getattr(self, f"_{action}")(parameters) if found is None else found
        except Refusal as refusal:
            return refusal.status, {"__type": refusal.code, "message": f"{refusal.code} it is"}

    def _StartSession(self, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            session_id = f"session-{len(self.ordered)}"
            self.ordered[session_id] = (parameters.get("DocumentName", ""), parameters.get("Parameters", {}).get("command", [""])[0])
            self.open.add(session_id)
        return {"SessionId": session_id, "StreamUrl": "ws://127.0.0.1:9/", "TokenValue": "token"}

    def _TerminateSession(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.open.discard(parameters["SessionId"])
        return {"SessionId": parameters["SessionId"]}

    def _DescribeInstanceInformation(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        return {"InstanceInformationList": []}

    def _GetConnectionStatus(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"Target": parameters["Target"], "Status": "connected"}

    def _DescribeInstances(self, parameters: dict[str, Any]) -> str:
        return instances([value for name, value in parameters.items() if name.startswith("Filter.1.Value.")], "stopped")


def instances(ids: list[str], state: str) -> str:
    """EC2's answer."""
    items = "".join(f"<item><instanceId>{name}</instanceId><instanceState><name>{state}</name></instanceState></item>" for name in ids)
    return f"<DescribeInstancesResponse><reservationSet><item><instancesSet>{items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"


def identity(**endpoints: str) -> Identity:
    """By endpoint URLs: `ssm`, and `ec2` if it is another one."""
    ssm = endpoints["ssm"]
    environment = {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "secret"}
    values = {"host": "i-1", "region": "eu-central-1", "endpoint_url": ssm, "ec2_endpoint_url": endpoints.get("ec2", ssm)}
    return Identity(IdentityKey.of(ConnectionOptions.from_mapping(values), environment), {})


class Surroundings:
    """Of routes, as the mux is."""

    def __init__(self) -> None:
        self.log = logging.getLogger("test")
        self.known_nodes = KnownNodes(None)
        self.warmth = Warmth()
        self.node_locks: dict[tuple[str | None, str], asyncio.Lock] = {}

    def make_room(self) -> None:
        pass


class Gathered:
    """The sink of one work."""

    def __init__(self) -> None:
        self.result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.stderr = bytearray()
        self.returncode: object = None
        self._output = bytearray()

    def output(self, kind: FrameType, data: bytes) -> None:
        if kind is FrameType.STDOUT:
            self._output += data
        elif kind is FrameType.STDERR:
            self.stderr += data

    def credit(self, count: int) -> None:
        pass

    def done(self, kind: FrameType, **fields: object) -> None:
        self.returncode = fields.get("returncode")
        self.result.set_result(bytes(self._output))

    def failed(self, error: RequestError) -> None:
        self.result.set_exception(error)


def command(line: str, *, silence: float = 60.0, retries: int = 3) -> tuple[Work, asyncio.Future[bytes]]:
    """A command for a route or a channel, and its output to come."""
    sink = Gathered()
    return Work(Exec(line, tty=False, takes_input=False), sink, Lifecycle(retries), silence=silence), sink.result
