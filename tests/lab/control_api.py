# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own API: JSON over a unix socket that only its owner can open. For `Lab`, the command line, and curl.

Answers are JSON; a mistake of the caller is status 400 with `{"error": …}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from . import moto_bridge
from .faults import EventFault, Side, call_fault, frame_fault
from .fleet import Fleet
from .permissions import Rule, rules_of_policy
from .relay import Peer
from .spec import NodeDefinition
from .state import ManagedNode, Session
from .world import World, trust

_Handler = Callable[[web.Request, dict[str, Any]], Awaitable[Any]]


class ControlApi:
    """The handlers."""

    def __init__(self, world: World, fleet: Fleet, stop: asyncio.Event) -> None:
        self._world, self._fleet, self._stop = world, fleet, stop

    def application(self) -> web.Application:
        """To be served on a unix socket."""
        application = web.Application(client_max_size=64 * 1024 * 1024)
        routes: list[tuple[str, str, _Handler]] = [
            ("GET", "/status", self._status),
            ("GET", "/nodes", self._nodes),
            ("POST", "/nodes", self._add_nodes),
            ("POST", "/nodes/{name}/{verb}", self._command),
            ("GET", "/faults", self._faults),
            ("POST", "/faults/frames", self._fault_frames),
            ("POST", "/faults/calls", self._fault_calls),
            ("POST", "/faults/events", self._fault_events),
            ("POST", "/faults/cut", self._cut),
            ("POST", "/faults/away", self._away),
            ("DELETE", "/faults", self._clear_faults),
            ("POST", "/credentials/expire", self._expire),
            ("POST", "/permissions", self._permissions),
            ("DELETE", "/permissions", self._clear_permissions),
            ("POST", "/endpoint-policy", self._endpoint_policy),
            ("POST", "/roles", self._role),
            ("POST", "/settings", self._settings),
            ("GET", "/requests", self._requests),
            ("DELETE", "/requests", self._reset_requests),
            ("GET", "/sessions", self._sessions),
            ("POST", "/shutdown", self._shutdown),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, _as_json(handler))
        return application

    async def _status(self, request: web.Request, body: dict[str, Any]) -> Any:
        active = [session for session in self._world.sessions.all() if session.ended is None]
        return {
            "pid": os.getpid(),
            "accounts": list(self._world.accounts),
            "regions": list(self._world.regions),
            "nodes": len(self._world.nodes),
            "connected": sum(node.connected for node in self._world.nodes),
            "open_sessions": len(active),
            "traffic": vars(self._world.sessions.traffic()),
            "faults": self._world.faults.describe(),
            "settings": vars(self._world.settings),
        }

    # -- nodes

    async def _nodes(self, request: web.Request, body: dict[str, Any]) -> Any:
        return [self._described(node) for node in self._world.nodes]

    async def _add_nodes(self, request: web.Request, body: dict[str, Any]) -> Any:
        definitions = [NodeDefinition.of(values) for values in body["nodes"]]
        return [self._described(node) for node in await self._fleet.add(definitions)]

    async def _command(self, request: web.Request, body: dict[str, Any]) -> Any:
        node, verb = self._world.nodes.find(request.match_info["name"]), request.match_info["verb"]
        if verb == "wait":
            await self._fleet.wait_online([node], float(body.get("seconds", 60)))
        elif verb == "enter":
            if node.runtime is None:
                raise ValueError(f"{node.spec.name} is a {node.spec.kind} node: nothing runs there")
            return {"argv": node.runtime.enter_command(*body.get("command", ()))}
        elif verb == "show":
            pass
        else:
            await self._fleet.command(node, verb)
        return self._described(node)

    # -- faults

    async def _faults(self, request: web.Request, body: dict[str, Any]) -> Any:
        return self._world.faults.describe()

    async def _fault_frames(self, request: web.Request, body: dict[str, Any]) -> Any:
        return {"id": self._world.faults.add(frame_fault(body))}

    async def _fault_calls(self, request: web.Request, body: dict[str, Any]) -> Any:
        return {"id": self._world.faults.add(call_fault(body))}

    async def _fault_events(self, request: web.Request, body: dict[str, Any]) -> Any:
        return {"id": self._world.faults.add(EventFault(**body))}

    async def _clear_faults(self, request: web.Request, body: dict[str, Any]) -> Any:
        number = request.query.get("id")
        self._world.faults.clear(int(number) if number else None)
        return {}

    async def _cut(self, request: web.Request, body: dict[str, Any]) -> Any:
        peers = self._peers(Side(body.get("side", "client")), body.get("node"), body.get("session"))
        for peer in peers:
            peer.cut()
        return {"cut": len(peers)}

    async def _away(self, request: web.Request, body: dict[str, Any]) -> Any:
        """The network of a side is away: connections hang (as without RST), or break first if `mode` is "cut"."""
        side, seconds, named = Side(body.get("side", "client")), float(body["seconds"]), body.get("node")
        mode = body.get("mode", "hang")
        if mode not in ("hang", "cut"):
            raise ValueError("mode must be hang or cut")
        node = self._world.nodes.find(named) if named else None
        self._world.faults.go_away(side, node.node_id if node else None, seconds)
        peers = self._peers(side, named, None)
        if side is Side.AGENT:
            nodes = [node] if node is not None else list(self._world.nodes)
            peers += [each.channel.peer for each in nodes if each.channel is not None]
        for peer in peers:
            if mode == "cut":
                peer.cut()
            else:
                peer.hold(seconds)
        return {"connections": len(peers)}

    def _peers(self, side: Side, named: str | None, session_id: str | None) -> list[Peer]:
        node = self._world.nodes.find(named) if named else None
        found = []
        for session in self._world.sessions.all():
            if session.relay is None or (node is not None and session.node is not node):
                continue
            if session_id is None or session.session_id == session_id:
                peer = session.relay.client if side is Side.CLIENT else session.relay.agent
                if peer is not None:
                    found.append(peer)
        return found

    # -- credentials and permissions

    async def _expire(self, request: web.Request, body: dict[str, Any]) -> Any:
        return {"expired": self._world.vault.expire(role=body.get("role"), access_key=body.get("access_key"))}

    async def _permissions(self, request: web.Request, body: dict[str, Any]) -> Any:
        if "policy" in body:
            self._world.permissions.rules += rules_of_policy(body.get("principal", "*"), body["policy"])
        else:
            rule = Rule(**body)
            if rule.effect not in ("allow", "deny"):
                raise ValueError("effect must be allow or deny")
            self._world.permissions.rules.append(rule)
        return [vars(rule) for rule in self._world.permissions.rules]

    async def _clear_permissions(self, request: web.Request, body: dict[str, Any]) -> Any:
        self._world.permissions.rules.clear()
        self._world.permissions.endpoint.clear()
        return []

    async def _endpoint_policy(self, request: web.Request, body: dict[str, Any]) -> Any:
        self._world.permissions.endpoint = list(rules_of_policy("*", body["policy"]))
        return {}

    async def _role(self, request: web.Request, body: dict[str, Any]) -> Any:
        principals = body.get("trusted") or [f"arn:aws:iam::{account}:root" for account in self._world.accounts]
        policy = trust(*principals)
        if body.get("external_id"):
            policy["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": body["external_id"]}}
        moto_bridge.create_role(body["account"], body["name"], policy)
        return {"arn": f"arn:aws:iam::{body['account']}:role/{body['name']}"}

    async def _settings(self, request: web.Request, body: dict[str, Any]) -> Any:
        self._world.settings.update(body)
        return vars(self._world.settings)

    # -- books

    async def _requests(self, request: web.Request, body: dict[str, Any]) -> Any:
        return self._world.log.summary(entries="entries" in request.query)

    async def _reset_requests(self, request: web.Request, body: dict[str, Any]) -> Any:
        self._world.log.reset()
        return {}

    async def _sessions(self, request: web.Request, body: dict[str, Any]) -> Any:
        return [_session(session) for session in self._world.sessions.all()]

    async def _shutdown(self, request: web.Request, body: dict[str, Any]) -> Any:
        self._stop.set()
        return {}

    def _described(self, node: ManagedNode) -> dict[str, Any]:
        spec = node.spec
        return {
            "node_id": spec.node_id,
            "name": spec.name,
            "account": spec.account,
            "region": spec.region,
            "kind": spec.kind,
            "hybrid": spec.hybrid,
            "tags": dict(spec.tags),
            "status": node.runtime.status if node.runtime is not None else "terminated" if node.gone else "none",
            "connected": node.connected,
            "ping_status": "Online" if node.is_online(self._world.settings) else "ConnectionLost",
            "registered": node.registered is not None,
        }


def _session(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "node_id": session.node.node_id,
        "node": session.node.spec.name,
        "account": session.account,
        "region": session.region,
        "document": session.document_name,
        "owner": session.owner,
        "reason": session.reason,
        "status": session.status,
        "active": session.ended is None,
        "end_reason": session.end_reason,
        "seconds": round((session.ended or time.time()) - session.started, 3),
        "client_connected": session.relay is not None and session.relay.client is not None,
        "agent_connected": session.relay is not None and session.relay.agent is not None,
        "traffic": vars(session.relay.traffic) if session.relay is not None else {},
    }


def _as_json(handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = json.loads(await request.read() or b"{}")
            return web.json_response(await handler(request, body))
        except (ValueError, TypeError, LookupError, TimeoutError, RuntimeError) as problem:
            text = str(problem.args[0]) if problem.args else type(problem).__name__
            return web.json_response({"error": text}, status=400)

    return handle
