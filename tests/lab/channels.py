# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The message gateway: /v1/control-channel/{node} and /v1/data-channel/{session}, first POSTed to, then websockets."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import WSMessage, WSMsgType, web

from .auth import Principal, RawRequest, authenticate, parse_signature
from .control_channel import ControlChannel
from .errors import AwsError, WireProtocol
from .faults import Side
from .relay import Peer
from .request_log import LoggedRequest, timestamp
from .state import ManagedNode
from .world import World

#: How long a websocket may take to say its token.
_FIRST_FRAME_SECONDS = 10.0
#: Close code for a token that opens nothing.
_POLICY_VIOLATION = 1008
_LARGEST_FRAME = 4 * 1024 * 1024


class Gateway:
    """Both kinds of channels."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._control_tokens: dict[str, str] = {}

    def add_routes(self, application: web.Application) -> None:
        """Serve the channels."""
        for kind, on_post, on_get in (
            ("control-channel", self._create_control, self._open_control),
            ("data-channel", self._create_data, self._open_data),
        ):
            application.router.add_post(f"/v1/{kind}/{{id}}", on_post)
            application.router.add_get(f"/v1/{kind}/{{id}}", on_get)

    # -- the agent asks for a token

    async def _create_control(self, request: web.Request) -> web.Response:
        async def token(node: ManagedNode, channel_id: str) -> str:
            if channel_id != node.node_id:
                raise AwsError("AccessDeniedException", "The channel belongs to another node", 403)
            if node.only_polls:
                raise AwsError("AccessDeniedException", f"{node.node_id} may not open a control channel", 403)
            if node.registered is None:
                raise AwsError("ResourceNotFoundException", f"{node.node_id} is not registered", 404)
            value = secrets.token_urlsafe(32)
            self._control_tokens[value] = channel_id
            return value

        return await self._create(request, "CreateControlChannel", token)

    async def _create_data(self, request: web.Request) -> web.Response:
        async def token(node: ManagedNode, session_id: str) -> str:
            return self._world.sessions.agent_token(session_id, node)

        return await self._create(request, "CreateDataChannel", token)

    async def _create(
        self, request: web.Request, action: str, make: Callable[[ManagedNode, str], Awaitable[str]]
    ) -> web.Response:
        begun, body = time.monotonic(), await request.read()
        principal, status, error = None, 201, ""
        try:
            await self._world.faults.call(f"ssmmessages:{action}", None, "", WireProtocol.JSON)
            principal = self._authenticate(request, body)
            node = self._world.nodes.get(principal.node_id or "")
            if node is None or node.gone:
                raise AwsError("AccessDeniedException", f"{principal.arn} is no node", 403)
            self._world.permissions.check(principal, f"ssmmessages:{action}", ("*",), WireProtocol.JSON)
            token = await make(node, unquote(request.match_info["id"]))
            text = (
                f"<{action}Response><MessageSchemaVersion>1.0</MessageSchemaVersion>"
                f"<TokenValue>{escape(token)}</TokenValue></{action}Response>"
            )
        except AwsError as problem:
            status, error = problem.status, problem.code
            # The agent looks for the code as an element's name.
            text = f"<{problem.code}><Message>{escape(problem.message)}</Message></{problem.code}>"
        self._note(action, principal, status, error, begun, len(body), len(text), by_node=True)
        return web.Response(status=status, text=text, content_type="application/xml")

    def _authenticate(self, request: web.Request, body: bytes) -> Principal:
        raw = RawRequest(request.method, request.raw_path, request.headers, body)
        verify = self._world.settings.verify_signatures
        return authenticate(self._world.vault, raw, parse_signature(raw), WireProtocol.JSON, verify=verify)

    def _note(
        self,
        action: str,
        principal: Principal | None,
        status: int,
        error: str,
        begun: float,
        received: int,
        sent: int,
        *,
        by_node: bool,
    ) -> None:
        self._world.log.add(
            LoggedRequest(
                time=timestamp(),
                account=principal.account if principal else "",
                region="",
                action=f"ssmmessages:{action}",
                principal=principal.arn if principal else "",
                status=status,
                error=error,
                milliseconds=round((time.monotonic() - begun) * 1000, 1),
                request_bytes=received,
                response_bytes=sent,
                by_node=by_node,
            )
        )

    # -- websockets

    def _admit(self, request: web.Request, action: str, resource: str) -> web.Response | None:
        """The refusal of a request for a websocket, if it is one.

        Whether the service takes unsigned requests from old clients is its secret; they are taken here while nobody's
        permissions are looked at. Tokens are what lets a client in then, as it is on AWS.
        """
        begun, principal, status, error, message = time.monotonic(), None, 101, "", ""
        try:
            if _is_signed(request) or self._world.permissions.rules:
                principal = self._authenticate(request, b"")
                self._world.permissions.check(principal, f"ssmmessages:{action}", (resource,), WireProtocol.JSON)
        except AwsError as problem:
            status, error, message = 403, problem.code, problem.message
        by_node = bool(principal and principal.node_id)
        self._note(action, principal, status, error, begun, 0, len(message), by_node=by_node)
        return web.json_response({"message": message}, status=status) if error else None

    async def _open_control(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._admit(request, "OpenControlChannel", "*"):
            return refusal
        socket = await _accept(request)
        token = await _first_token(socket)
        node = self._world.nodes.get(self._control_tokens.pop(token, ""))
        if node is None or node.gone or node.node_id != unquote(request.match_info["id"]):
            await socket.close(code=_POLICY_VIOLATION, message=b"unknown token")
            return socket
        channel = ControlChannel(
            node, self._peer(Side.AGENT, socket, request), self._world.sessions.task_complete, self._world.run_command
        )
        node.channel = channel
        node.last_ping = time.time()
        self._world.agent_came.set()
        self._world.run_command.delivery.connected(node)
        try:
            await channel.run()
        finally:
            if node.channel is channel:
                node.channel, node.channel_lost = None, time.time()
        return socket

    async def _open_data(self, request: web.Request) -> web.StreamResponse:
        session_id = unquote(request.match_info["id"])
        known = self._world.sessions.get(session_id)
        owner = f"{known.region}:{known.account}" if known is not None else ":"
        if refusal := self._admit(request, "OpenDataChannel", f"arn:aws:ssm:{owner}:session/{session_id}"):
            return refusal
        socket = await _accept(request)
        opened = self._world.sessions.redeem(session_id, await _first_token(socket))
        if opened is None or opened[0].relay is None or known is None:
            await socket.close(code=_POLICY_VIOLATION, message=b"unknown token")
            return socket
        session, side = opened
        back = self._world.faults.away_until(side, session.node.names)
        if back:
            await asyncio.sleep(back - asyncio.get_running_loop().time())
        assert session.relay is not None
        await session.relay.run(self._peer(side, socket, request))
        return socket

    def _peer(self, side: Side, socket: web.WebSocketResponse, request: web.Request) -> Peer:
        return Peer(side, socket, request.transport)


def _is_signed(request: web.Request) -> bool:
    return "Authorization" in request.headers or any(name.startswith("X-Amz-") for name in request.query)


async def _accept(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(compress=False, max_msg_size=_LARGEST_FRAME, timeout=2.0)
    await socket.prepare(request)
    return socket


async def _first_token(socket: web.WebSocketResponse) -> str:
    """The token of the first frame, which is JSON text; empty if there is none."""
    try:
        message: WSMessage = await asyncio.wait_for(socket.receive(), _FIRST_FRAME_SECONDS)
        if message.type is not WSMsgType.TEXT:
            return ""
        return str(json.loads(message.data).get("TokenValue", ""))
    except (TimeoutError, ValueError, AttributeError):
        return ""
