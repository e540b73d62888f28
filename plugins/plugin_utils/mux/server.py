# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mux itself: its socket, its workers, the nodes it is connected to, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...module_utils.pace import Pace
from .aws.identity import Identity, threads
from .aws.identity_key import IdentityKey
from .aws.service_models import preload
from .command.journal import Journal
from .controllers import Controllers
from .log import log_to
from .places import code_digest
from .request import ConnectionOptions
from .route import Route
from .session.known_nodes import KnownNodes
from .session.route import SessionRoute
from .session.warm import Warmth
from .start import peer_credentials
from .tasks import Tasks
from .worker import WorkerConnection

if TYPE_CHECKING:
    from .command.commands import Commands
    from .command.route import CommandRoute

SIGN_OF_LIFE = 15.0
"""Seconds between signs of life to workers that wait."""

_CLOSING = 10.0
"""Seconds that the end may take; sessions that are not closed by then are left to the runner's dead-man timer."""


class Mux:
    """Everything one process holds open."""

    def __init__(self, listener: socket.socket, path: str, log: logging.Logger) -> None:
        self.log = log
        self.digest = code_digest()
        self.pid = os.getpid()
        self.retired = False
        self.node_locks: dict[tuple[str | None, str], asyncio.Lock] = {}
        """Sessions on one node are started one after another: several at once stall the agent's control channel for seconds."""
        self.known_nodes = KnownNodes(os.path.join(os.path.dirname(path), "nodes"))
        self.warmth = Warmth()
        self.controllers = Controllers()
        self._listener = listener
        self._path = path
        self._inode = os.stat(path).st_ino
        self._server: asyncio.Server | None = None
        self._workers: set[WorkerConnection] = set()
        self._identities: dict[IdentityKey, Identity] = {}
        self._paces: dict[tuple[str, str, str], Pace] = {}
        self._routes: dict[tuple[Any, ...], Route] = {}
        self._commands: dict[IdentityKey, Commands] = {}
        self._journal = Journal(path)
        self._tasks = Tasks()
        self._stopping = asyncio.Event()
        self._last_used = time.monotonic()
        self._started = time.time()
        self._persist = 60
        self._limit = _session_limit()
        self._max_sessions = 0
        self._requests = 0

    async def serve(self) -> None:
        """Run until nobody has used the mux for the longest `control_persist` asked for, or until stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, functools.partial(self.stop, f"signal {number.name}"))
        threads.submit(preload)
        self._server = await loop.create_unix_server(lambda: WorkerConnection(self), sock=self._listener, backlog=1024)
        housekeeping = loop.create_task(self._housekeeping())
        await self._stopping.wait()
        housekeeping.cancel()
        self._stop_listening()
        for worker in list(self._workers):
            if not worker.awaits_end:
                worker.hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await asyncio.gather(*(route.close() for route in self._routes.values()), return_exceptions=True)
                await asyncio.gather(self._tasks.drain(), *(commands.close() for commands in self._commands.values()), return_exceptions=True)
        self._journal.close()
        self.log.info("ended")

    # Workers

    def may_connect(self, peer: socket.socket) -> bool:
        """Whether the other end is this user (or root)."""
        uid = peer_credentials(peer)[1]
        if uid in (os.getuid(), 0):
            return True
        self.log.warning("refused a process of uid %d", uid)
        return False

    def joined(self, worker: WorkerConnection) -> None:
        """A worker connected."""
        self._workers.add(worker)

    def left(self, worker: WorkerConnection) -> None:
        """A worker is gone."""
        self._workers.discard(worker)
        self._last_used = time.monotonic()
        if self.retired and not self._workers:
            self.stop("retired and unused")

    # Requests

    def route(self, options: ConnectionOptions, environment: Mapping[str, str]) -> Route:
        """The route to a node for an identity; made if there is none."""
        self._requests += 1
        if options.mux_log:
            log_to(self.log, options.mux_log)
        self._persist = max(self._persist, options.control_persist) if self._routes else options.control_persist
        self._max_sessions = options.max_sessions
        key = self._route_key(options, environment)
        route = self._routes.get(key)
        if route is None:
            who = self._identity(IdentityKey.of(options, environment))
            route = self._routes[key] = self._command_route(who, options) if options.route == "run_command" else SessionRoute(self, who, options)
        return route

    def _command_route(self, who: Identity, options: ConnectionOptions) -> CommandRoute:
        # Imported when it is asked for: the first session waits for all that is imported before it.
        from .command.commands import Commands
        from .command.route import CommandRoute

        commands = self._commands.get(who.key)
        if commands is None:
            commands = self._commands[who.key] = Commands(who, self.log, self._journal, self.controllers)
        return CommandRoute(commands, options, self.log, self.warmth.salt)

    def reset(self, options: ConnectionOptions, environment: Mapping[str, str]) -> bool:
        """The next request for this node gets new sessions; commands that run keep theirs. Whether there was something to reset."""
        route = self._routes.get(self._route_key(options, environment))
        return route.reset() if route is not None else False

    def make_room(self) -> None:
        """Close the idle nodes used least recently, if more are open or being opened than may be."""
        in_use = [route for route in self._routes.values() if route.is_open or route.is_opening]
        excess = len(in_use) - min(self._limit, self._max_sessions or self._limit)
        if excess > 0:
            idle = [(since, route) for route in in_use if (since := route.idle_since) is not None]
            for _since, route in sorted(idle, key=lambda found: found[0])[:excess]:
                self.log.info("%s is closed: used least recently, and too many are open", route.node_id)
                route.reset()

    # Life

    def stop(self, reason: str) -> None:
        """End now; what runs is cancelled."""
        self.log.info("ending: %s", reason)
        self._stopping.set()

    def retire(self, reason: str) -> None:
        """Take no further workers, and end when the present ones have gone.

        One that runs nothing is no less present: its request may be on its way.
        """
        if not self.retired:
            self.log.info("retiring: %s", reason)
            self.retired = True
            self._stop_listening()
        if not self._workers:
            self.stop("retired and unused")

    def status(self) -> dict[str, Any]:
        """What is open, for people; holds no secret."""
        return {
            "pid": self.pid,
            "uptime": round(time.time() - self._started, 1),
            "socket": self._path,
            "memory_mb": _memory_mb(),
            "workers": len(self._workers),
            "requests": self._requests,
            "nodes": [route.status() for route in self._routes.values() if route.is_open or route.busy],
            "identities": [
                {"who": found.label, "region": found.region, "api_calls": dict(sorted(found.calls.items()))} for found in self._identities.values()
            ],
            "limits": [
                {"action": action, "account": account, "region": region, "gap": round(pace.gap, 3), "calls": pace.calls, "throttled": pace.throttled}
                for (action, account, region), pace in self._paces.items()
            ],
        }

    async def _housekeeping(self) -> None:
        next_sign = time.monotonic() + SIGN_OF_LIFE
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            if now >= next_sign:
                next_sign = now + SIGN_OF_LIFE
                for worker in self._workers:
                    worker.sign_of_life()
            used = bool(self._workers)
            for key, route in list(self._routes.items()):
                route.close_if_idle(now)
                if route.is_open or route.busy:
                    used = True
                elif route.forgettable(now):
                    self._forget(key)
            self.make_room()
            if not used and now - self._last_used >= self._persist:
                self.stop("unused")
            if not self._still_reachable() and not used:
                self.stop("the socket is gone")

    def _forget(self, key: tuple[Any, ...]) -> None:
        """Drop a route, and its identity with the last of its routes: automation brings other credentials with every job."""
        del self._routes[key]
        if not any(other[0] == key[0] for other in self._routes):
            self._identities.pop(key[0], None)
            if (commands := self._commands.pop(key[0], None)) is not None:
                self._tasks.start(commands.close())

    def _still_reachable(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._still_reachable():
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _identity(self, key: IdentityKey) -> Identity:
        found = self._identities.get(key)
        if found is None:
            found = self._identities[key] = Identity(key, self._paces)
        return found

    @staticmethod
    def _route_key(options: ConnectionOptions, environment: Mapping[str, str]) -> tuple[Any, ...]:
        who = IdentityKey.of(options, environment)
        return (who, options.host, options.document, options.output_document, options.run_as, options.python, options.route == "run_command")


def _session_limit() -> int:
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, (soft - 128) // 4)  # a node takes two websockets, and a worker a socket


def _memory_mb() -> float:
    """Resident memory of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as source:
            return round(int(source.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    except OSError:  # macOS
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
