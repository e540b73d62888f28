# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ec2messages, the older way to commands: a long poll, and one call for each thing that is said.

The agent polls from its start, stops a minute after its control channel was opened, and begins again only if that is
refused with AccessDenied.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..service import Service, ServiceError
from ..signing import Credentials, sign

_log = logging.getLogger(__name__)
_TARGET = "EC2WindowsMessageDeliveryService"
_POLL_LIMIT = 20.0  #: seconds; then the agent hangs up and polls again
_STOP_AFTER = 60.0  #: seconds after the control channel was opened
_QUICK = 1.0  #: seconds; after an answer as quick as this the agent pauses
_PAUSE = 2.0, 2.5
_ERRORS = 10  #: in a row, then no polls for
_ERROR_PAUSE = 900.0

#: Takes a message as GetMessages gives it.
OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


class Ec2Messages:
    """The calls and the poll of one node."""

    def __init__(
        self, service: Service, context: ssl.SSLContext, credentials: Callable[[], Credentials], folder: Path
    ) -> None:
        self._service, self._context, self._credentials = service, context, credentials
        self._folder = folder  #: of replies that did not get through
        self._wanted = asyncio.Event()
        self._stopping: asyncio.TimerHandle | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Poll, from now on."""
        if self._stopping is not None:
            self._stopping.cancel()
            self._stopping = None
        self._wanted.set()

    def stop_soon(self) -> None:
        """There is a control channel: poll for a minute more."""
        if self._wanted.is_set() and self._stopping is None:
            self._stopping = asyncio.get_running_loop().call_later(_STOP_AFTER, self._wanted.clear)

    async def poll(self, on_message: OnMessage) -> None:
        """Poll while it is wanted, for ever."""
        errors = 0
        while True:
            await self._wanted.wait()
            began = time.monotonic()
            try:
                messages = await self._get_messages()
                errors = 0
            except (OSError, TimeoutError, ValueError) as error:
                if time.monotonic() - began < _QUICK:
                    _log.warning("ec2messages: %s", error)
                    errors += 1
                messages = []
            for message in messages:
                await on_message(message)
            if errors >= _ERRORS:
                errors = 0
                await asyncio.sleep(_ERROR_PAUSE)
            elif time.monotonic() - began < _QUICK:
                await asyncio.sleep(random.uniform(*_PAUSE))

    async def resend(self, interval: float) -> None:
        """Send replies that did not get through, now and then."""
        while True:
            for path in sorted(self._folder.glob("*.json")):
                with contextlib.suppress(ServiceError):
                    self._call("SendReply", json.loads(path.read_text()))
                    path.unlink()
            await asyncio.sleep(interval)

    def acknowledge(self, message_id: str) -> None:
        with contextlib.suppress(ServiceError):
            self._call("AcknowledgeMessage", {"MessageId": message_id})

    def fail(self, message_id: str) -> None:
        """The message is of no form that the agent knows."""
        with contextlib.suppress(ServiceError):
            self._call("FailMessage", {"MessageId": message_id, "FailureType": "InternalHandlerException"})

    def reply(self, message_id: str, content: dict[str, Any]) -> None:
        """Send a reply, or keep it for later."""
        payload = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        arguments = {"MessageId": message_id, "Payload": payload, "ReplyId": str(uuid.uuid4())}
        try:
            self._call("SendReply", arguments)
        except ServiceError as error:
            _log.warning("a reply is kept: %s", error)
            (self._folder / f"{time.time_ns():020}.json").write_text(json.dumps(arguments))

    def _call(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._service.call(f"{_TARGET}.{action}", arguments, self._credentials(), service="ec2messages")

    async def _get_messages(self) -> list[dict[str, Any]]:
        """One long poll, without blocking the agent. Raises OSError, TimeoutError, ValueError."""
        config = self._service.config
        arguments = {
            "Destination": config.node_id,
            "MessagesRequestId": str(uuid.uuid4()),
            "VisibilityTimeoutInSeconds": 10,
        }
        body = json.dumps(arguments).encode()
        url = config.api_url.rstrip("/") + "/"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{_TARGET}.GetMessages",
            "User-Agent": f"amazon-ssm-agent/{config.agent_version} (fleet.ssm lab)",
        }
        headers = sign(
            "POST", url, headers, body, credentials=self._credentials(), service="ec2messages", region=config.region
        )
        async with asyncio.timeout(_POLL_LIMIT):
            answer = await self._exchange(url, headers, body)
        messages: list[dict[str, Any]] = json.loads(answer or b"{}").get("Messages") or []
        return messages

    async def _exchange(self, url: str, headers: dict[str, str], body: bytes) -> bytes:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if secure else 80), ssl=self._context if secure else None
        )
        try:
            head = "".join(
                f"{name}: {value}\r\n"
                for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items()
            )
            writer.write(f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            status = int((await reader.readline()).split()[1:2][0])
            length = 0
            while (line := (await reader.readline()).strip()) != b"":
                name, _colon, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            answer = await reader.readexactly(length)
        except (EOFError, IndexError) as error:
            raise ServiceError(0, f"ec2messages: no whole answer: {error!r}") from error
        finally:
            writer.close()
        if status != 200:
            raise ServiceError(status, answer.decode(errors="replace")[:500])
        return answer
