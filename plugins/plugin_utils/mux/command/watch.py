# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for the ends of commands: all that are open are looked at together, less often the longer they take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ...runcommand import polling
from ...runcommand.invocation import Invocation
from ...runcommand.status_events import Early, End
from .. import errors
from ..aws.helper import CredentialsError
from ..aws.identity import Identity
from ..errors import RequestError
from ..protocol import ErrorKind

_PATIENCE = 60.0
"""Seconds for which one look may be throttled; the next one follows."""

_FAILURES = 20
"""Looks that fail in a row, for reasons that may pass, until the outcome counts as unknown: the longest pause between them is ten seconds."""


@dataclass
class _Watched:
    command_id: str
    sent: float
    requested: datetime
    look_at: float
    """When it is looked at, whatever events tell."""
    ends: dict[str, asyncio.Future[Invocation]]
    invocations: dict[str, Invocation] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    """Nodes on which it has ended, as events say, whose results are to be read."""
    unread: polling.Ends | None = None
    """Their ends, since the last look."""

    @property
    def due(self) -> float:
        if self.unread is None:
            return self.look_at
        return self.unread.first if len(self.told) >= self.open else min(self.look_at, self.unread.read_at(self.sent))

    @property
    def open(self) -> int:
        return sum(not end.done() for end in self.ends.values())


class Watch:
    """The open commands of one identity."""

    def __init__(self, identity: Identity, log: logging.Logger) -> None:
        self._identity = identity
        self._log = log
        self._watched: dict[str, _Watched] = {}
        self._looking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._failed = 0
        self.events = False
        """Whether ends are told by events, so that looks are but a backstop."""
        self.is_used = asyncio.Event()
        """Set while an end is awaited."""
        self._early = Early()

    def follow(self, command_id: str, node_ids: Sequence[str], requested: datetime) -> dict[str, asyncio.Future[Invocation]]:
        """The end of a command on each of its nodes. :raises RequestError: (in the future) it cannot be known."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        watched = _Watched(
            command_id, now, requested, polling.next_look(now, now, events=self.events),
            {node_id: loop.create_future() for node_id in node_ids}, {node_id: Invocation(node_id) for node_id in node_ids},
        )  # fmt: skip
        self._watched[command_id] = watched
        for node_id in self._early.take(command_id, list(node_ids)):
            self.ended(End(command_id, node_id))
        self.is_used.set()
        self._wake.set()
        if self._looking is None:
            self._looking = loop.create_task(self._look_until_none_is_left())
        return watched.ends

    def ended(self, end: End) -> None:
        """An event says that a command has ended on a node: its result is read, with those of the nodes that end just now."""
        watched = self._watched.get(end.command_id)
        if watched is None:
            self._early.add(end)
        elif (result := watched.ends.get(end.node_id)) is not None and not result.done():
            now = asyncio.get_running_loop().time()
            watched.told.add(end.node_id)
            if watched.unread is None:
                watched.unread = polling.Ends(now)
            watched.unread.add(now)
            self._wake.set()

    def awaited(self, command_id: str) -> set[str]:
        """The nodes on which a command has not ended yet."""
        watched = self._watched.get(command_id)
        return {node_id for node_id, end in watched.ends.items() if not end.done()} if watched is not None else set()

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look_until_none_is_left(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._watched:
                self._wake.clear()
                pause = min(watched.due for watched in self._watched.values()) - loop.time()
                if pause > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._wake.wait()
                    continue
                await self._look()
        finally:
            self._looking = None
            self.is_used.clear()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = [watched for watched in self._watched.values() if watched.due <= now]
        for watched in due:
            watched.unread = None
        try:
            if polling.by_listing({watched.command_id: watched.open for watched in due}):
                since = min(watched.requested for watched in due) - timedelta(seconds=2)
                await self._read(due, Filters=[{"key": "InvokedAfter", "value": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}])
            else:
                await asyncio.gather(*(self._read([watched], CommandId=watched.command_id) for watched in due))
            self._failed = 0
        except Exception as error:
            self._failed += 1
            passing = (errors.is_throttling(error) or errors.is_transient(error)) and self._failed < _FAILURES
            text = str(error) if isinstance(error, CredentialsError) else self._identity.explain(error, "ssm:ListCommandInvocations", "*")
            self._log.info("looking at commands failed: %s", text)
            if not passing:
                self._give_up(RequestError(ErrorKind.UNKNOWN_OUTCOME, f"what became of the command cannot be known: {text}"))
        now = loop.time()
        for watched in due:
            if not watched.open:
                self._watched.pop(watched.command_id, None)
            else:
                watched.look_at = polling.next_look(watched.sent, now, events=self.events and not watched.told)
                if self._failed:
                    watched.look_at = max(watched.look_at, now + min(10.0, 0.5 * 2.0**self._failed))

    async def _read(self, wanted: Sequence[_Watched], **which: Any) -> None:
        """A listing, until everything wanted was seen or it ends."""
        by_id = {watched.command_id: watched for watched in wanted}
        left = {(watched.command_id, node_id) for watched in wanted for node_id, end in watched.ends.items() if not end.done()}
        more: dict[str, Any] = {}
        while True:
            page = await self._identity.call(
                "ssm", "list_command_invocations", deadline=asyncio.get_running_loop().time() + _PATIENCE, resource="*",
                Details=True, MaxResults=polling.PAGE, **which, **more,
            )  # fmt: skip
            for entry in page["CommandInvocations"]:
                watched = by_id.get(entry["CommandId"])
                if watched is None or (invocation := watched.invocations.get(entry["InstanceId"])) is None:
                    continue
                left.discard((watched.command_id, invocation.node_id))
                end = watched.ends[invocation.node_id]
                if invocation.hear(entry) and not end.done():
                    watched.told.discard(invocation.node_id)
                    end.set_result(invocation)
            if not page.get("NextToken") or not left:
                return
            more = {"NextToken": page["NextToken"]}

    def _give_up(self, error: RequestError) -> None:
        for watched in self._watched.values():
            for end in watched.ends.values():
                if not end.done():
                    end.set_exception(error)
                    end.exception()  # it may be that nobody waits any more
        self._watched.clear()
