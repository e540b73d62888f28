# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the option `host` says to a runner that is ready: credentials, the node's id, the ladder of documents, and how long all that is tried."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ...runner.client import RunnerClient, RunnerSettings
from ...runner.events import Ready
from .. import errors
from ..aws import targets
from ..aws.helper import CredentialsError
from ..aws.identity import Identity
from ..errors import PassingError, ServiceFault, unreachable
from ..request import ConnectionOptions
from ..tasks import Tasks
from ..work import Work
from .documents import Rung, ladder
from .known_nodes import KnownNodes
from .node_channel import NodeChannel
from .patience import Patience
from .sessions import NodeNotConnected, NodeSessions
from .warm import Warmth

ASK_AFTER = 6.0
"""Seconds without READY after which AWS is asked whether the node is connected at all."""

RETURNING = 5.0
"""Seconds in which a node that was connected a moment ago may come back (an agent that restarts) before it counts as unreachable."""

AT_MOST = 4
"""Times the option connection_timeout in which a runner must be ready, whatever its session says and others take."""

SLOWER = 2
"""So many times as long as the node that was opened last one may be silent, if that is more than connection_timeout: they meet the same load."""

REASON_WITHIN = 2.5
"""Seconds that the search for the reason may take beyond the time in which a node is to be called unreachable."""

_RECENT = 60.0
_TARGET_KEPT = 300.0
_SESSIONS_APART = 0.05
"""Seconds between the two sessions of a node that is known: agents stall when many come at once. First commands wait for it."""
_SECOND_LATE = 3.0
"""Seconds for which the second session is waited for when the first one brought READY, to know that they are of one user (another one's may have been made)."""


class Surroundings(Protocol):
    """What routes share."""

    log: logging.Logger
    warmth: Warmth
    node_locks: dict[tuple[str | None, str], asyncio.Lock]
    """Sessions on one node are started one after another: several at once stall the agent's control channel for seconds."""
    known_nodes: KnownNodes

    def make_room(self) -> None:
        """Called while a node is being opened."""


class NodeOpener:
    """Opens one node, again and again.

    :param tasks: where sessions that are not needed any more are closed.
    :param on_lost: for :class:`NodeChannel`.
    :param on_carrier_wanted: for :class:`NodeChannel`.
    :param on_estranged: for :class:`NodeChannel`.
    """

    def __init__(
        self,
        mux: Surroundings,
        identity: Identity,
        tasks: Tasks,
        *,
        on_lost: Callable[[NodeChannel, str, Sequence[Work]], None],
        on_carrier_wanted: Callable[[NodeChannel], None],
        on_estranged: Callable[[NodeChannel], None],
    ) -> None:
        self.node_id = ""
        """Once it is known."""
        self._mux = mux
        self._identity = identity
        self._tasks = tasks
        self._on_lost = on_lost
        self._on_carrier_wanted = on_carrier_wanted
        self._on_estranged = on_estranged
        self._log = mux.log
        self._node_known_at = float("-inf")
        self._carriers = Tasks()

    def forget_node(self) -> None:
        """Look for the node again at the next opening."""
        self._node_known_at = float("-inf")

    async def open(self, options: ConnectionOptions, reason: str, missed_at: float) -> NodeChannel:
        """A channel that takes work.

        :param missed_at: when the node was missed first that was connected until then.
        :raises RequestError: it cannot be reached; within ten seconds, unless AWS throttles, lets others in, or the node has been connected just before.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        patience = Patience.of(began, missed_at=missed_at, silence=options.silence_timeout)
        while True:
            tried_at = clock()
            try:
                if clock() - self._node_known_at > _TARGET_KEPT:
                    await targets.settle(self._identity)
                    self.node_id = await targets.resolve(self._identity, options.host, clock() + options.connection_timeout)
                    self._node_known_at = clock()
                self._mux.make_room()
                async with self.lock():
                    return await self._start_sessions(options, reason, patience)
            except NodeNotConnected as error:
                if began - missed_at < _RECENT and clock() + 1.0 - began < RETURNING:
                    await asyncio.sleep(1.0)
                    continue
                self.forget_node()
                until = max(began + Patience.FRESH, clock() + REASON_WITHIN)
                raise unreachable(await targets.why_not_connected(self._identity, self.node_id, until)) from error
            except PassingError as error:
                others_came_in = self._identity.connected_at > tried_at
                pause = patience.pause(tried_at, clock(), answered=errors.http_status(error) > 0 or others_came_in)
                if pause is None:
                    raise
                self._log.info("%s is tried again in %.1f s: %s", self.node_id or options.host, pause, error)
                await asyncio.sleep(pause)

    def lock(self) -> asyncio.Lock:
        """Held while sessions are started on the node."""
        return self._mux.node_locks.setdefault((self._identity.region, self.node_id), asyncio.Lock())

    def replace_carrier(self, channel: NodeChannel, reason: str, options: ConnectionOptions, *, wanted: Callable[[], bool]) -> None:
        """Start another output session for a channel, if it is still wanted when its turn comes."""

        async def replace() -> None:
            async with self.lock():  # held while a channel is opened: it is known then which one is in use
                if wanted():
                    await self._start_carrier(channel, reason, options)

        self._carriers.start(replace())

    async def close(self) -> None:
        """Give up what is being started beside channels."""
        self._carriers.cancel()
        await self._carriers.drain()

    # Steps

    async def _start_sessions(self, options: ConnectionOptions, reason: str, patience: Patience) -> NodeChannel:
        """The ladder: the first document that can be used."""
        refused: list[str] = []
        known = self._identity.documents
        sessions = NodeSessions(self._identity, self.node_id, self._tasks, waited=patience.waited)
        for rung in ladder(options.document, options.output_document, options.run_as):
            mark = f"{rung.document}/{rung.typed}"
            await known.learn(mark)
            if known.is_refused(mark, time.monotonic()):
                refused.append(f"{rung.label}: not usable, as seen before")
                continue
            runner = RunnerClient(RunnerSettings(interpreter=options.python, fifo=bool(rung.output_document)))
            with known.trying(mark):
                try:
                    session = await sessions.start(rung.document, {} if rung.typed else {"command": [runner.session_command()]}, reason, options)
                except Exception as error:
                    if not _is_about_document(error):
                        failure = self._start_failed(error, rung)
                        if isinstance(failure, NodeNotConnected):
                            known.used(mark)  # it is not the document that is refused
                        raise failure from error
                    if errors.is_no_document(error) or "document/" in errors.error_message(error):
                        known.refused(mark, time.monotonic())
                    refused.append(self._identity.explain(error, "ssm:StartSession", rung.label))
                    continue
                known.used(mark)
            channel = NodeChannel(
                session, runner, self._mux.warmth, rung=rung, on_connected=self._connected, on_lost=self._on_lost, on_carrier_wanted=self._on_carrier_wanted,
                on_estranged=self._on_estranged, log=self._log,
            )  # fmt: skip
            return await self._connect(channel, sessions, reason, options)
        raise unreachable(f"no session document can be used on {self.node_id}: " + "; ".join(refused))

    def _connected(self) -> None:
        self._identity.connected_at = asyncio.get_running_loop().time()

    def _start_failed(self, error: BaseException, rung: Rung) -> Exception:
        if isinstance(error, CredentialsError):
            return unreachable(str(error))
        text = self._identity.explain(error, "ssm:StartSession", f"{self.node_id} with {rung.label}")
        if errors.error_code(error) == "TargetNotConnected":
            return NodeNotConnected(text)
        if errors.is_transient(error):
            return ServiceFault(text, error)
        return unreachable(text)

    async def _connect(self, channel: NodeChannel, sessions: NodeSessions, reason: str, options: ConnectionOptions) -> NodeChannel:
        """Wait for the runner; with a second session beside it where the document has one, or behind it on a node that may have no `ssm-user` yet."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        ready = loop.create_task(channel.open())
        together = channel.rung.output_document and self.node_id in self._mux.known_nodes
        carrier = self._carriers.start(self._start_carrier(channel, reason, options)) if together else None
        try:
            await asyncio.wait([ready], timeout=min(ASK_AFTER, options.connection_timeout))
            if not ready.done() and (unknown := await sessions.require_connected()):
                self._log.info("%s: the connection status is not known: %s", self.node_id, unknown)
            while not ready.done():
                silence = max(options.connection_timeout, SLOWER * self._identity.opening_took)
                until = min(channel.last_received + silence, began + AT_MOST * options.connection_timeout)
                if until <= loop.time():
                    wrote = f"; the session wrote: {channel.banner}" if channel.banner else " and the session wrote nothing"
                    raise unreachable(f"the runner on {self.node_id} was not ready within {loop.time() - began:.0f} s{wrote}")
                await asyncio.wait([ready], timeout=until - loop.time())
            self._check_user(said := await ready, options)
            if carrier is not None and said.kind == "python":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(channel.output.settled.wait(), _SECOND_LATE)
            if not channel.usable:  # its session's end came right behind, or its user has lost the name
                raise PassingError(f"the connection to {self.node_id} was lost again at once")
            self._identity.opening_took = channel.opening_took
        except BaseException:
            ready.cancel()
            if carrier is not None:
                carrier.cancel()
            self._tasks.start(channel.close())
            raise
        self._mux.known_nodes.add(self.node_id)
        if channel.rung.output_document and not together:
            self.replace_carrier(channel, reason, options, wanted=lambda: channel.usable)
        return channel

    async def _start_carrier(self, channel: NodeChannel, reason: str, options: ConnectionOptions) -> None:
        document = channel.rung.output_document
        if document is None or self._identity.documents.is_refused(document, time.monotonic()):
            channel.output.settled.set()
            return
        number, command = channel.runner.open_carrier()
        await asyncio.sleep(_SESSIONS_APART)
        sessions = NodeSessions(self._identity, self.node_id, self._tasks)
        try:
            session = await sessions.start(document, {"command": [command], **channel.rung.output_parameters}, reason, options)
        except Exception as error:
            self._log.info("%s: no fast way for output: %s", self.node_id, self._identity.explain(error, "ssm:StartSession", document))
            if _is_about_document(error):
                self._identity.documents.refused(document, time.monotonic())
                channel.output.settled.set()
            else:
                channel.output.failed()
            return
        await channel.output.attach(session, number)

    def _check_user(self, ready: Ready, options: ConnectionOptions) -> None:
        wanted = options.run_as
        if wanted and ready.user != wanted:
            raise unreachable(
                f"the session on {self.node_id} runs as {ready.user}, not as {wanted} (option run_as): set Run As in Session Manager's preferences or by"
                " the tag SSMSessionRunAs, or, for root, create the documents FleetSSM-RootInput and FleetSSM-RootOutput; or use become"
            )


def _is_about_document(error: BaseException) -> bool:
    """Whether another rung may work: the document is missing, may not be used, or takes no such parameter."""
    return errors.is_no_document(error) or errors.is_denied(error) or errors.error_code(error) in ("InvalidParameters", "UnsupportedParameter")
