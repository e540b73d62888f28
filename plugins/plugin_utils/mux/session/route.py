# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session route: Session Manager's data channels. Opens a node when it is needed, and decides with each work's lifecycle what follows a loss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...runner.events import Ready
from ..aws.identity import Identity
from ..errors import RequestError, unreachable
from ..lifecycle import Verdict
from ..protocol import ErrorKind
from ..request import ConnectionOptions
from ..tasks import Tasks
from ..work import Work
from .node_channel import NodeChannel
from .opening import NodeOpener, Surroundings

_FORGET_AFTER = 600.0


class SessionRoute:
    """One node by one identity, document and user; at most one channel takes new work at a time."""

    def __init__(self, mux: Surroundings, identity: Identity, options: ConnectionOptions) -> None:
        self._mux = mux
        self._identity = identity
        self._options = options
        self._log = mux.log
        self._reason = "fleet.ssm"
        self._tasks = Tasks()
        self._opener = NodeOpener(mux, identity, self._tasks, on_lost=self._lost, on_carrier_wanted=self._carrier_wanted, on_estranged=self._estranged)
        self._channel: NodeChannel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Work] = []
        self._old: set[NodeChannel] = set()
        self._last_used = time.monotonic()
        self._missed_at = float("-inf")
        self._closing = False
        self.needs_tty = False
        """Whether sudo on the node was found to demand a terminal; workers are told, so that one attempt is enough."""

    # What workers ask for

    async def open(self, options: ConnectionOptions, reason: str) -> Mapping[str, Any]:
        """Be connected; what is known of the node.

        :raises RequestError: it cannot be reached.
        """
        self._use(options)
        self._reason = reason
        if self._closing:
            raise _ending()
        if self._channel is None:
            await asyncio.shield(self._ensure_opening())
        channel = self._channel
        if channel is None or channel.ready is None:
            raise unreachable(f"the connection to {self.node_id} was lost again at once")
        return self._facts(channel.ready)

    def submit(self, work: Work, options: ConnectionOptions) -> None:
        """Carry out a work; its sink hears the rest."""
        self._use(options)
        if self._channel is not None:
            self._channel.submit(work)
        elif self._closing:
            work.fail(_ending())
        else:
            self._waiting.append(work)
            self._ensure_opening()

    def reset(self) -> bool:
        """Give up the present channel: at once if it is idle, else when its commands have ended."""
        self._opener.forget_node()
        self._missed_at = float("-inf")
        channel, self._channel = self._channel, None
        if channel is None:
            return False
        self._retire(channel)
        return True

    async def close(self) -> None:
        """Close everything; what is being opened as well, so that no session is left."""
        self._closing = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        channels = [*self._old, *([self._channel] if self._channel is not None else [])]
        self._channel = None
        await asyncio.gather(self._opener.close(), *(channel.close() for channel in channels), return_exceptions=True)
        await self._tasks.drain()

    # What the mux asks

    @property
    def node_id(self) -> str:
        """Once it is known."""
        return self._opener.node_id

    @property
    def is_open(self) -> bool:
        """Whether a session is open."""
        return self._channel is not None or bool(self._old)

    @property
    def is_opening(self) -> bool:
        """Whether a session is on its way."""
        return self._opening is not None

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self._opening is not None or bool(self._waiting) or bool(self._tasks) or any(channel.busy for channel in self._channels())

    @property
    def idle_since(self) -> float | None:
        """When it was last used (monotonic); `None` while it is in use."""
        return None if self.busy else self._last_used

    def close_if_idle(self, now: float) -> None:
        """Close the channel after `control_persist` without work, and retired channels that have become idle."""
        if self.busy:
            self._last_used = now
        elif self._channel is not None and now - self._last_used >= self._options.control_persist:
            channel, self._channel = self._channel, None
            self._retire(channel)
        for channel in [old for old in self._old if not old.busy]:
            self._old.discard(channel)
            self._tasks.start(channel.close())

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return now - self._last_used > _FORGET_AFTER

    def status(self) -> dict[str, Any]:
        """Figures for people."""
        described: dict[str, Any] = {
            "host": self._options.host, "node": self.node_id, "who": self._identity.label, "region": self._identity.region,
            "document": self._channel.rung.label if self._channel else None, "opening": self._opening is not None, "waiting": len(self._waiting),
        }  # fmt: skip
        if self._channel is not None:
            described.update(self._channel.status())
            if self._channel.ready is not None:
                described.update(user=self._channel.ready.user, runner=self._channel.ready.kind, python=self._channel.ready.python)
        described["retired_sessions"] = len(self._old)
        return described

    # Opening

    def _ensure_opening(self) -> asyncio.Task[None]:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_and_submit())
            self._opening.add_done_callback(_seen)
        return self._opening

    async def _open_and_submit(self) -> None:
        """Open a channel and give it what waits; a failure goes to everyone who waits."""
        try:
            self._channel = await self._opener.open(self._options, self._reason, self._missed_at)
        except RequestError as error:
            self._fail_waiting(error)
            raise
        except asyncio.CancelledError:  # by `close`, and nobody else
            ending = _ending()
            self._fail_waiting(ending)
            raise ending from None
        except Exception as error:  # a defect, which must not leave workers waiting
            self._log.exception("opening failed")
            failure = unreachable(f"internal error while opening the node: {type(error).__name__}: {error}")
            self._fail_waiting(failure)
            raise failure from error
        finally:
            self._opening = None
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self.submit(work, self._options)

    def _fail_waiting(self, error: RequestError) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work.fail(error)

    # Losing

    def _lost(self, channel: NodeChannel, reason: str, works: Sequence[Work]) -> None:
        """A channel is gone, or takes no more: what becomes of each work is its lifecycle's verdict."""
        self._log.info("%s: %s (%d works)", self.node_id, reason, len(works))
        if self._channel is channel:
            self._channel = None
            self._missed_at = channel.missed_at
            self._retire(channel)
        retry = []
        for work in works:
            verdict = Verdict.UNREACHABLE if work.cancelled else work.lifecycle.lost()
            if verdict is Verdict.RETRY and self._closing:
                work.fail(_ending())
            elif verdict is Verdict.RETRY:
                retry.append(work)
            elif verdict is Verdict.UNKNOWN:
                work.fail(RequestError(ErrorKind.UNKNOWN_OUTCOME, f"{reason}. The outcome of the command on {self.node_id} is unknown; it was not run again"))
            elif verdict is Verdict.UNREACHABLE:
                work.fail(unreachable(f"{reason} ({self.node_id}); nothing was run"))
        if retry:
            self._waiting.extend(retry)
            self._ensure_opening()

    def _retire(self, channel: NodeChannel) -> None:
        if channel.busy:
            self._old.add(channel)  # housekeeping closes it when its commands have ended
        else:
            self._tasks.start(channel.close())

    def _estranged(self, channel: NodeChannel) -> None:
        """The node's user has another number now: further work goes to a new channel, what is under way ends here."""
        self._log.info("%s: two users of one name were made at once", self.node_id)
        if self._channel is channel:
            self._channel = None
            self._retire(channel)

    def _carrier_wanted(self, channel: NodeChannel) -> None:
        self._opener.replace_carrier(channel, self._reason, self._options, wanted=lambda: channel is self._channel and channel.usable)

    # Small things

    def _use(self, options: ConnectionOptions) -> None:
        self._last_used = time.monotonic()
        self._options = options

    def _facts(self, ready: Ready) -> dict[str, Any]:
        if self._channel is None:
            raise AssertionError
        return {
            "user": ready.user, "home": ready.home, "uid": ready.uid, "python": ready.python, "executable": ready.executable, "kind": ready.kind,
            "platform": ready.platform, "node": self.node_id, "region": self._identity.region, "session": self._channel.session.session_id,
            "document": self._channel.rung.label, "needs_tty": self.needs_tty, "interactive": True,
            "salt": self._mux.warmth.salt.hex(),
        }  # fmt: skip

    def _channels(self) -> list[NodeChannel]:
        return [*self._old, *([self._channel] if self._channel is not None else [])]


def _ending() -> RequestError:
    return unreachable("the mux is ending")


def _seen(task: asyncio.Task[None]) -> None:
    """Its error goes to those who wait for it; if nobody does, it has gone to the works."""
    if not task.cancelled():
        task.exception()
