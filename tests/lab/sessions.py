# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions: started, resumed, ended; which token opens which data channel; time-outs."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .auth import Principal
from .errors import AwsError
from .faults import Faults, Side
from .relay import Relay, Traffic, channel_closed
from .settings import Settings
from .state import ManagedNode, Session, random_hex

#: How long after "Terminating" the agent may take to say that the task is complete, before the session is ended anyway.
_COMPLETE_SECONDS = 3.0
_NAME = re.compile(r"[^\w+=,.@-]")


@dataclass(frozen=True)
class NewSession:
    """What StartSession has made of its parameters."""

    account: str
    region: str
    node: ManagedNode
    owner: Principal
    document_name: str
    content: dict[str, Any]
    parameters: Mapping[str, Any]
    reason: str | None
    run_as: str
    idle_minutes: float
    max_minutes: float | None


class Sessions:
    """All sessions of the lab, ended ones included."""

    def __init__(self, faults: Faults, settings: Settings) -> None:
        self._faults, self._settings = faults, settings
        self._sessions: dict[str, Session] = {}
        self._agent_tokens: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self) -> list[Session]:
        """In the order in which they began."""
        return list(self._sessions.values())

    def get(self, session_id: str) -> Session | None:
        """By id."""
        return self._sessions.get(session_id)

    async def start(self, new: NewSession, stream_base: str) -> Session:
        """Order a session from the node's agent; raises `AwsError` if no agent is connected."""
        channel = new.node.channel
        if channel is None:
            raise not_connected(new.node.node_id)
        session = Session(
            session_id=f"{session_prefix(new.owner)}-{random_hex(17)}",
            account=new.account,
            region=new.region,
            node=new.node,
            owner=new.owner.arn,
            document_name=new.document_name,
            content=new.content,
            parameters=dict(new.parameters),
            reason=new.reason,
            run_as=new.run_as,
            idle_minutes=new.idle_minutes,
            max_minutes=new.max_minutes,
            stream_base=stream_base,
        )
        session.relay = Relay(session, self._faults, self._settings, self._is_terminating)
        session.new_token(self._settings.token_seconds)
        self._sessions[session.session_id] = session
        if not await channel.start_session(session):
            self._mark_ended(session, "Failed", "the control channel broke")
            raise not_connected(new.node.node_id)
        self._spawn(self._watch(session))
        return session

    def resume(self, session_id: str) -> Session:
        """A new token for a living session."""
        session = self._sessions.get(session_id)
        if session is None or not session.active:
            raise AwsError("DoesNotExistException", f"Session {session_id} does not exist or is no longer active.")
        session.new_token(self._settings.token_seconds)
        return session

    async def terminate(self, session_id: str, reason: str) -> None:
        """End a session for both sides. Ending one that has ended is no error, as on AWS."""
        session = self._sessions.get(session_id)
        if session is not None and session.ended is None:
            await self._order_end(session)
            await self._end(session, "Terminated", reason)

    async def task_complete(self, session_id: str, status: str, output: str) -> None:
        """The agent says that a session is over."""
        session = self._sessions.get(session_id)
        if session is None or session.ended is not None:
            return
        final = "Terminated" if status in ("Success", "Cancelled") else "Failed"
        await self._end(session, final, f"the agent ended it: {status}", output)

    async def node_gone(self, node: ManagedNode) -> None:
        """End the sessions of a node that will not come back."""
        for session in self.all():
            if session.node is node and session.ended is None:
                await self._end(session, "Failed", "the node is gone")

    def traffic(self) -> Traffic:
        """The sum over all sessions."""
        total = Traffic()
        for session in self._sessions.values():
            if session.relay is not None:
                for name, value in vars(session.relay.traffic).items():
                    setattr(total, name, getattr(total, name) + value)
        return total

    # -- tokens

    def agent_token(self, session_id: str, node: ManagedNode) -> str:
        """Let a node's agent open its side of a data channel."""
        session = self._sessions.get(session_id)
        if session is None or session.node is not node:
            raise AwsError("ResourceNotFoundException", f"Session {session_id} does not exist", 404)
        token = secrets.token_urlsafe(32)
        self._agent_tokens[token] = session_id
        return token

    def redeem(self, session_id: str, token: str) -> tuple[Session, Side] | None:
        """Whose token this is; None if it opens nothing."""
        session = self._sessions.get(session_id)
        if session is None or not token:
            return None
        if self._agent_tokens.get(token) == session_id:
            return session, Side.AGENT
        fresh = session.active and time.time() <= session.client_token_expires
        if fresh and secrets.compare_digest(token, session.client_token):
            return session, Side.CLIENT
        return None

    # -- the end

    async def close(self) -> None:
        """End all that waits."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_terminating(self, session: Session) -> None:
        self._spawn(self._end_later(session))

    async def _end_later(self, session: Session) -> None:
        await asyncio.sleep(_COMPLETE_SECONDS)
        if session.ended is None:
            await self._end(session, "Terminated", "the agent ended it")

    async def _watch(self, session: Session) -> None:
        """Idle time-out and longest duration: both are the service's business."""
        assert session.relay is not None
        begun = time.monotonic()
        while session.ended is None:
            now, minute = time.monotonic(), self._settings.minute_seconds
            idle_end = session.relay.last_use + session.idle_minutes * minute
            last_end = begun + session.max_minutes * minute if session.max_minutes else idle_end
            if now >= min(idle_end, last_end):
                await self._order_end(session)
                await self._end(session, "Terminated", "idle time-out" if now >= idle_end else "longest duration reached")
            else:
                # Waking now and then lets a changed length of minutes take effect.
                await asyncio.sleep(min(min(idle_end, last_end) - now + 0.01, 5.0))

    async def _order_end(self, session: Session) -> None:
        """Tell the agent: by the control channel, as recorded; by the data channel if that is all there is."""
        channel = session.node.channel
        if channel is not None and await channel.end_session(session):
            return
        if session.relay is not None and session.relay.agent is not None:
            await session.relay.agent.send(channel_closed(session))

    async def _end(self, session: Session, status: str, reason: str, output: str = "") -> None:
        self._mark_ended(session, status, reason)
        if session.relay is not None:
            await session.relay.end(output)

    def _mark_ended(self, session: Session, status: str, reason: str) -> None:
        session.status, session.end_reason, session.ended = status, reason, time.time()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def session_prefix(owner: Principal) -> str:
    """What the ids of someone's sessions begin with, before a hyphen."""
    return _NAME.sub("-", owner.name)[:60]


def not_connected(target: str) -> AwsError:
    """StartSession's answer for everything that has no agent at the other end."""
    return AwsError("TargetNotConnected", f"{target} is not connected.")
