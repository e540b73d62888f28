# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests of the agent to the service: its HTTP calls and the opening of channels.

All calls block, for ten seconds at most: the service is on the loopback, and whoever calls has nothing else to do.
"""

from __future__ import annotations

import json
import ssl
import uuid
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from .config import AgentConfig
from .signing import Credentials, sign
from .websocket import WebSocket

_TIMEOUT = 10.0
_USER_AGENT = "amazon-ssm-agent/{version} (fleet.ssm lab)"


class ServiceError(ConnectionError):
    """The service refused. `status` is the HTTP status, 0 if there was none."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}" if status else text)
        self.status = status


class Service:
    """The service as one node sees it."""

    def __init__(self, config: AgentConfig, context: ssl.SSLContext) -> None:
        self.config = config
        self._context = context

    def _now(self) -> datetime:
        """The node's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.config.clock_offset)

    def request(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        """One HTTP exchange: status and body. Raises ServiceError if there is no answer."""
        status, _headers, answer = self.exchange(method, url, headers, body)
        return status, answer

    def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """One HTTP exchange, on a connection of its own: status, headers in lower case, body. Raises ServiceError."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(host, port, timeout=_TIMEOUT, context=self._context)
        else:
            connection = HTTPConnection(host, port, timeout=_TIMEOUT)
        path = parts.path or "/"
        try:
            connection.request(method, f"{path}?{parts.query}" if parts.query else path, body, headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        except (OSError, HTTPException) as error:
            raise ServiceError(0, f"{method} {url}: {error!r}") from error
        finally:
            connection.close()

    def call(
        self,
        target: str,
        arguments: dict[str, Any],
        credentials: Credentials | None,
        *,
        service: str = "ssm",
        extra: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """One call of a JSON API (`AmazonSSM.UpdateInstanceInformation`). Raises ServiceError."""
        body = json.dumps(arguments).encode()
        url = self.config.api_url.rstrip("/") + "/"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "User-Agent": _USER_AGENT.format(version=self.config.agent_version),
            **(extra or {}),
        }
        if credentials is not None:
            headers = sign(
                "POST", url, headers, body, credentials=credentials, service=service, region=self.config.region, at=self._now()
            )
        status, answer = self.request("POST", url, headers, body)
        if status != 200:
            raise ServiceError(status, answer.decode(errors="replace")[:500])
        result: dict[str, Any] = json.loads(answer or b"{}")
        return result

    def open_control_channel(self, credentials: Credentials) -> WebSocket:
        """POST for a token, then the websocket and its first frame. Raises OSError."""
        path = f"/v1/control-channel/{self.config.node_id}"
        token = self._token(path, {}, credentials)
        channel = self._websocket(f"{path}?role=subscribe&stream=input", credentials)
        channel.send_text(
            json.dumps(
                {
                    "Cookie": None,
                    "MessageSchemaVersion": "1.0",
                    "RequestId": str(uuid.uuid4()),
                    "TokenValue": token,
                    "AgentVersion": self.config.agent_version,
                    "PlatformType": self.config.platform.lower(),
                }
            )
        )
        channel.flush()
        return channel

    def open_data_channel(self, session_id: str, client_id: str, credentials: Credentials) -> WebSocket:
        """As `open_control_channel`, for a session. Raises OSError."""
        path = f"/v1/data-channel/{session_id}"
        token = self._token(path, {"ClientId": client_id}, credentials)
        channel = self._websocket(f"{path}?role=publish_subscribe", credentials)
        channel.send_text(
            json.dumps(
                {
                    "MessageSchemaVersion": "1.0",
                    "RequestId": str(uuid.uuid4()),
                    "TokenValue": token,
                    "ClientInstanceId": self.config.node_id,
                    "ClientId": client_id,
                }
            )
        )
        channel.flush()
        return channel

    def _token(self, path: str, arguments: dict[str, str], credentials: Credentials) -> str:
        body = json.dumps({"MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4()), **arguments}).encode()
        url = self.config.agent_url.rstrip("/") + path
        headers = {"Content-Type": "application/json"}
        headers = sign(
            "POST", url, headers, body, credentials=credentials, service="ssmmessages", region=self.config.region, at=self._now()
        )
        status, answer = self.request("POST", url, headers, body)
        if status != 201:  # the agent takes nothing else
            raise ServiceError(status, answer.decode(errors="replace")[:500])
        for element in ElementTree.fromstring(answer).iter():
            if element.tag.rpartition("}")[2] == "TokenValue":
                return element.text or ""
        raise ServiceError(status, "an answer without TokenValue")

    def _websocket(self, path: str, credentials: Credentials) -> WebSocket:
        url = self.config.agent_url.rstrip("/") + path
        region = self.config.region
        headers = sign("GET", url, {}, b"", credentials=credentials, service="ssmmessages", region=region, at=self._now())
        return WebSocket("wss" + url.removeprefix("https"), headers, self._context)
