# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS's API by HTTP, and sessions by websocket that are processes on this machine: what a route needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pty
import signal
import subprocess
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from websockets.asyncio.server import ServerConnection

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import StartedSession
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
from tests.unit.plugin_utils.datachannel.agent import Agent
from tests.unit.plugin_utils.datachannel.service import Service

SHELL = "SSM-SessionManagerRunShell"
"""A document whose sessions come alone."""
PUBLIC = "AWS-StartInteractiveCommand"
"""A document with a second session for the output."""


class Refusal(Exception):
    """What an action answers instead."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


class LocalSession(Service):
    """The other side of a SessionClient: a process on this machine, which has a terminal, or gives its output alone."""

    def __init__(self, service: LocalService, session_id: str, document: str, command: str) -> None:
        super().__init__(Agent(session_type="InteractiveCommands"), echo=self._input, session_id=session_id)
        self.alter: Callable[[bytes], bytes] = bytes
        """What becomes of its output on the way."""
        self._service = service
        self._has_terminal = document in (SHELL, PUBLIC)
        self._line = ["sh"] if document == SHELL else ["sh", "-c", command]
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._terminal: asyncio.WriteTransport | None = None
        self._fd = -1
        self._deaf = False
        self._ending: asyncio.Task[None] | None = None

    async def __aexit__(self, *exc: object) -> None:
        self.kill()
        if self._ending is not None:
            self._ending.cancel()
        await super().__aexit__(*exc)

    async def admit(self, connection: ServerConnection, request: Any) -> Any:
        if self._service.on_open is not None:
            await self._service.on_open(self)
        if self._process is None and self.session_id in self._service.open:
            await self._begin()
        return await super().admit(connection, request)

    @property
    def deaf(self) -> bool:
        """Whether the client hears nothing of what the process says, until it may."""
        return self._deaf

    @deaf.setter
    def deaf(self, value: bool) -> None:
        self._deaf = value
        if self._process is not None and value:
            self._loop.remove_reader(self._fd)
        elif self._process is not None:
            self._loop.add_reader(self._fd, self._readable)

    def away(self) -> None:
        """The way to it is lost, until it is back."""
        self.refuse_with = 503
        self.cut()

    def back(self) -> None:
        self.refuse_with = None

    def over(self, reason: str) -> None:
        """The service ends it."""
        self._service.open.discard(self.session_id)
        self._ending = self._loop.create_task(self.end(reason))

    def kill(self) -> None:
        """What runs in it."""
        if self._process is None:
            return
        self._loop.remove_reader(self._fd)
        if self._terminal is not None:
            self._terminal.abort()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._fd)
        self._process.wait()
        self._process = None

    async def _begin(self) -> None:
        if self._has_terminal:
            self._fd, its = pty.openpty()
            self._process = subprocess.Popen(self._line, stdin=its, stdout=its, stderr=its, start_new_session=True)
            self._terminal, _unused = await self._loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(os.dup(self._fd), "wb", buffering=0))
        else:
            self._fd, its = os.pipe()
            self._process = subprocess.Popen(self._line, stdin=subprocess.DEVNULL, stdout=its, start_new_session=True)
        os.close(its)
        self.deaf = self._deaf

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        if data:
            self.output(self.alter(data))
        else:
            self._loop.remove_reader(self._fd)
            self.over("its process has ended")

    def _input(self, data: bytes) -> bytes:
        if self._terminal is not None:
            self._terminal.write(data)
        return b""


class LocalService:
    """Answers actions; what a test wants otherwise it puts into ``rules``: a function of the parameters that raises, waits, or answers `None`.

    ``on_open`` is awaited before a websocket is opened.
    """

    def __init__(self) -> None:
        self.rules: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.on_open: Callable[[LocalSession], Awaitable[None]] | None = None
        self.open: set[str] = set()
        self.sessions: list[LocalSession] = []
        self._loop = asyncio.get_running_loop()
        self._running = contextlib.AsyncExitStack()
        self._endpoint = Endpoint(self._answer)
        self.url = self._endpoint.url

    async def __aenter__(self) -> LocalService:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._running.aclose()
        self._endpoint.close()

    def count(self, action: str) -> int:
        return self._endpoint.actions.count(action)

    def _answer(self, action: str, _key: str, parameters: dict[str, Any]) -> Answer:
        try:
            found = self.rules[action](parameters) if action in self.rules else None
            return 200, getattr(self, f"_{action}")(parameters) if found is None else found
        except Refusal as refusal:
            return refusal.status, {"__type": refusal.code, "message": f"{refusal.code} it is"}

    def _StartSession(self, parameters: dict[str, Any]) -> dict[str, Any]:
        async def start() -> StartedSession:
            command = parameters.get("Parameters", {}).get("command", [""])[0]
            session = LocalSession(self, f"session-{len(self.sessions)}", parameters.get("DocumentName", ""), command)
            self.sessions.append(session)
            self.open.add(session.session_id)
            await self._running.enter_async_context(session)
            return session.started()

        return self._started(start())

    def _ResumeSession(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["SessionId"] not in self.open:
            raise Refusal("DoesNotExistException")
        return self._started(self._session(parameters).resume())

    def _TerminateSession(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.open.discard(parameters["SessionId"])
        self._loop.call_soon_threadsafe(self._session(parameters).kill)
        return {"SessionId": parameters["SessionId"]}

    def _started(self, starting: Coroutine[Any, Any, StartedSession]) -> dict[str, Any]:
        started = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        return {"SessionId": started.session_id, "StreamUrl": started.stream_url, "TokenValue": started.token}

    def _session(self, parameters: dict[str, Any]) -> LocalSession:
        return next(session for session in self.sessions if session.session_id == parameters["SessionId"])

    def _DescribeInstanceInformation(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        return {"InstanceInformationList": []}

    def _GetConnectionStatus(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"Target": parameters["Target"], "Status": "connected"}

    def _DescribeInstances(self, parameters: dict[str, Any]) -> dict[str, Any]:
        ids = [value for name, value in parameters.items() if name.startswith("Filter.1.Value.")]
        return {"Reservations": [{"Instances": [{"InstanceId": name, "State": {"Name": "stopped"}} for name in ids]}]}


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
