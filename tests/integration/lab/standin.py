# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a session, in the least that the lab's service needs: to see what it does between them."""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from xml.etree import ElementTree

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.lab import Lab, LabNode
from tests.lab.codec import Message, decode


class Channel:
    """A websocket that carries messages."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, message: Message) -> None:
        """Send one."""
        await self.socket.send_bytes(message.encode())

    async def receive(self, seconds: float = 10.0) -> Message:
        """The next one; raises `ConnectionError` at the end of the websocket."""
        found = await self.socket.receive(seconds)
        if found.type is not WSMsgType.BINARY:
            raise ConnectionError(f"{found.type.name} {found.data} {self.socket.close_code}")
        return decode(found.data)


class StandInAgent:
    """An agent that only says yes: it registers its node, and opens the data channels that it is told to."""

    def __init__(self, lab: Lab, node: LabNode, http: ClientSession) -> None:
        self._lab, self._node, self._http = lab, node, http
        self._tls = ssl.create_default_context(cafile=str(lab.ca_path))
        self._credentials: Credentials | None = None
        self.control: Channel

    async def come_online(self) -> None:
        """Credentials from the metadata service, one ping, then the control channel."""
        base = f"{self._lab.api_url}/imds/{self._node.node_id}/latest/meta-data/iam/security-credentials/"
        async with self._http.get(base) as answer:
            role = await answer.text()
        async with self._http.get(base + role) as answer:
            given = json.loads(await answer.text())
        self._credentials = Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"])
        await self.call("UpdateInstanceInformation", InstanceId=self._node.node_id, AgentVersion="3.3.0.0", PlatformType="Linux")
        path = f"/v1/control-channel/{self._node.node_id}"
        self.control = await self._open(path, "role=subscribe&stream=input")
        self._node.wait_online()

    async def call(self, action: str, **parameters: Any) -> tuple[int, dict[str, Any]]:
        """One call of SSM's API: status and answer."""
        body = json.dumps(parameters).encode()
        headers = {"X-Amz-Target": f"AmazonSSM.{action}", "Content-Type": "application/x-amz-json-1.1"}
        url = f"{self._lab.api_url}/"
        async with self._http.post(url, data=body, headers=self._signed("POST", url, body, headers, "ssm")) as answer:
            return answer.status, json.loads(await answer.read())

    async def accept_session(self) -> tuple[dict[str, Any], Channel]:
        """Wait for the order to start a session and open its data channel; the order's content."""
        order = json.loads((await self.control.receive()).payload)
        content = json.loads(order["Content"])
        return content, await self.open_data(content["SessionId"])

    async def open_data(self, session_id: str) -> Channel:
        """Open a data channel, again too, and say so."""
        channel = await self._open(f"/v1/data-channel/{session_id}", "role=publish_subscribe")
        state = {"SchemaVersion": 1, "SessionState": "Connected", "SessionId": session_id}
        await channel.send(Message("agent_session_state", json.dumps(state).encode(), flags=3))
        return channel

    async def complete(self, session_id: str, output: str = "") -> None:
        """Say that a session is over."""
        task = {"SchemaVersion": 1, "TaskId": session_id, "FinalTaskStatus": "Success", "Output": output}
        await self.control.send(Message("agent_task_complete", json.dumps(task).encode()))

    async def _open(self, path: str, query: str) -> Channel:
        url = f"{self._lab.https_url}{path}"
        body = json.dumps({"MessageSchemaVersion": "1.0", "RequestId": str(uuid.uuid4())}).encode()
        headers = self._signed("POST", url, body, {}, "ssmmessages")
        async with self._http.post(url, data=body, headers=headers, ssl=self._tls) as answer:
            text = await answer.text()
            if answer.status != 201:
                raise ConnectionError(text)
        token = next(element.text for element in ElementTree.fromstring(text) if element.tag == "TokenValue")
        socket = await self._http.ws_connect(f"{url}?{query}", ssl=self._tls)
        await socket.send_str(json.dumps({"MessageSchemaVersion": "1.0", "TokenValue": token}))
        return Channel(socket)

    def _signed(self, method: str, url: str, body: bytes, headers: dict[str, str], service: str) -> dict[str, str]:
        request = AWSRequest(method, url, headers=headers, data=body)
        SigV4Auth(self._credentials, service, self._node.region).add_auth(request)
        return dict(request.headers.items())


async def open_client(http: ClientSession, started: dict[str, Any], headers: dict[str, str] | None = None) -> Channel:
    """The client's side of what StartSession or ResumeSession has answered."""
    socket = await http.ws_connect(started["StreamUrl"], headers=headers)
    await socket.send_str(json.dumps({"MessageSchemaVersion": "1.0", "TokenValue": started["TokenValue"]}))
    return Channel(socket)


@asynccontextmanager
async def agent_of(lab: Lab, node: LabNode) -> AsyncIterator[tuple[StandInAgent, ClientSession]]:
    """An agent that is online."""
    async with ClientSession() as http:
        agent = StandInAgent(lab, node, http)
        await agent.come_online()
        yield agent, http


async def in_thread(function: Any, *arguments: Any, **parameters: Any) -> Any:
    """Call something that blocks, such as boto3."""
    return await asyncio.to_thread(function, *arguments, **parameters)
