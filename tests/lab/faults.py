# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on demand: what happens to API calls, to frames of data channels, and to the network.

Frames pass a `Link` for each direction of each session. Without a fault a link is a plain call; with one, frames wait in
a queue ordered by the time at which they are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from .errors import AwsError, WireProtocol, failed, throttled

#: Frames due within this many seconds go together: a timer for each costs more than it is exact.
_GRAIN = 0.0003


class Direction(StrEnum):
    """Where frames go."""

    TO_AGENT = "to_agent"
    TO_CLIENT = "to_client"


class Side(StrEnum):
    """Whose network or websocket a fault is about."""

    CLIENT = "client"
    AGENT = "agent"


@dataclass
class FrameFault:
    """What happens to the frames of data channels, acknowledgements included. Ratios are 0–1, times in seconds."""

    direction: Direction | None = None  #: None: both
    node: str | None = None  #: id or name; None: every node
    latency: float = 0.0
    jitter: float = 0.0  #: added at random between 0 and this; order is kept
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  #: ratio of frames that are held back by `reorder_delay` while others overtake
    reorder_delay: float = 0.02
    count: int | None = None  #: ends after this many frames were lost, doubled or reordered

    def concerns(self, direction: Direction, names: frozenset[str]) -> bool:
        """Whether frames of a session with a node of these names are meant."""
        return (self.direction in (None, direction)) and (self.node is None or self.node in names)

    def strikes(self, ratio: float, dice: random.Random) -> bool:
        """Throw the dice for one kind of damage."""
        if not ratio or self.count == 0 or dice.random() >= ratio:
            return False
        if self.count is not None:
            self.count -= 1
        return True


@dataclass
class CallFault:
    """What happens to API calls of an action (a pattern such as `ssm:StartSession` or `ssm:*`)."""

    action: str
    account: str | None = None
    region: str | None = None
    delay: float = 0.0  #: seconds
    status: int | None = None  #: answer with this status, 500 or 503
    code: str | None = None  #: an error code of one's own, with status 400 unless given
    message: str = "An error that the lab was told to give"  #: with `code`
    ratio: float = 1.0
    count: int | None = None  #: ends after this many calls were hit
    lost: bool = False  #: the call is served, then the connection is closed without an answer
    rate: float | None = None  #: throttle: calls a second of each action, account and region …
    burst: float = 1.0  #: … and how many at once
    _buckets: dict[tuple[str, str | None, str], tuple[float, float]] = field(default_factory=dict, init=False)

    def concerns(self, action: str, account: str | None, region: str) -> bool:
        """Whether a call is meant."""
        return (
            fnmatchcase(action.lower(), self.action.lower())
            and self.account in (None, account)
            and self.region in (None, region)
        )

    def allows(self, action: str, account: str | None, region: str, now: float) -> bool:
        """Take a token from the bucket; False if there is none."""
        assert self.rate is not None
        tokens, filled = self._buckets.get((action, account, region), (self.burst, now))
        tokens = min(self.burst, tokens + (now - filled) * self.rate)
        allowed = tokens >= 1
        self._buckets[action, account, region] = (tokens - allowed, now)
        return allowed


@dataclass
class EventFault:
    """What happens to the events of Run Command: lost, or late. Ratios are 0–1, times in seconds."""

    way: str | None = None  #: eventbridge | sns; None: both
    account: str | None = None
    region: str | None = None
    loss: float = 0.0
    delay: float = 0.0
    count: int | None = None  #: ends after this many events were lost or late

    def __post_init__(self) -> None:
        if self.way not in (None, "eventbridge", "sns"):
            raise ValueError("way must be eventbridge or sns")

    def concerns(self, way: str, account: str, region: str) -> bool:
        """Whether an event is meant."""
        return self.way in (None, way) and self.account in (None, account) and self.region in (None, region)


class Faults:
    """All that is switched on now."""

    def __init__(self, seed: int = 1) -> None:
        self.dice = random.Random(seed)
        self._frame_faults: dict[int, FrameFault] = {}
        self._call_faults: dict[int, CallFault] = {}
        self._event_faults: dict[int, EventFault] = {}
        self._ids = itertools.count(1)
        self._away: dict[tuple[Side, str | None], float] = {}
        self.version = 0  #: changes with every change of frame faults; links compare it

    def add(self, fault: FrameFault | CallFault | EventFault) -> int:
        """Switch a fault on; the number switches it off."""
        number = next(self._ids)
        if isinstance(fault, FrameFault):
            self._frame_faults[number] = fault
            self.version += 1
        elif isinstance(fault, CallFault):
            self._call_faults[number] = fault
        else:
            self._event_faults[number] = fault
        return number

    def clear(self, number: int | None = None) -> None:
        """Switch off one fault, or all of frames, calls and events."""
        if number is None:
            self._frame_faults.clear()
            self._call_faults.clear()
            self._event_faults.clear()
        else:
            self._frame_faults.pop(number, None)
            self._call_faults.pop(number, None)
            self._event_faults.pop(number, None)
        self.version += 1

    def describe(self) -> list[dict[str, Any]]:
        """What is on, for people and for JSON."""
        found: list[dict[str, Any]] = []
        kinds: tuple[tuple[str, Mapping[int, object]], ...] = (
            ("frames", self._frame_faults),
            ("calls", self._call_faults),
            ("events", self._event_faults),
        )
        for kind, faults in kinds:
            for number, fault in faults.items():
                shown = {key: value for key, value in vars(fault).items() if not key.startswith("_")}
                found.append({"id": number, "kind": kind, **shown})
        return found

    def frames(self, direction: Direction, names: frozenset[str]) -> list[FrameFault]:
        """The faults that a link has to apply."""
        return [fault for fault in self._frame_faults.values() if fault.concerns(direction, names)]

    async def call(self, action: str, account: str | None, region: str, protocol: WireProtocol) -> bool:
        """Delay or refuse an API call, raising `AwsError`; otherwise whether its answer is to be lost."""
        lost = False
        for fault in list(self._call_faults.values()):
            if fault.count == 0 or not fault.concerns(action, account, region):
                continue
            if fault.rate is not None:
                if fault.allows(action, account, region, asyncio.get_running_loop().time()):
                    continue
                raise throttled(protocol)
            if fault.ratio < 1 and self.dice.random() >= fault.ratio:
                continue
            if fault.count is not None:
                fault.count -= 1
            if fault.delay:
                await asyncio.sleep(fault.delay)
            if fault.code == "throttle":
                raise throttled(protocol)
            if fault.code:
                raise AwsError(fault.code, fault.message, fault.status or 400)
            if fault.status:
                raise failed(protocol, fault.status)
            lost = lost or fault.lost
        return lost

    def event_delay(self, way: str, account: str, region: str) -> float | None:
        """How late an event is, in seconds; None if it is lost."""
        delay = 0.0
        for fault in self._event_faults.values():
            if fault.count == 0 or not fault.concerns(way, account, region):
                continue
            lost = bool(fault.loss) and self.dice.random() < fault.loss
            if fault.count is not None and (lost or fault.delay):
                fault.count -= 1
            if lost:
                return None
            delay += fault.delay
        return delay

    # -- the network as a whole

    def go_away(self, side: Side, node: str | None, seconds: float) -> None:
        """Nothing passes from or to a side until `seconds` from now."""
        self._away[side, node] = asyncio.get_running_loop().time() + seconds

    def away_until(self, side: Side, names: frozenset[str] = frozenset()) -> float:
        """The loop's time at which the network of a side is back; 0 if it is there."""
        now = asyncio.get_running_loop().time()
        ends = [end for (of, node), end in self._away.items() if of is side and (node is None or node in names)]
        return max((end for end in ends if end > now), default=0.0)


class Link:
    """One direction of one session."""

    def __init__(
        self,
        faults: Faults,
        direction: Direction,
        names: frozenset[str],
        deliver: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._faults, self._direction, self._names, self._deliver = faults, direction, names, deliver
        self._known_version = -1
        self._active: list[FrameFault] = []
        self._queue: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self._last_due = 0.0
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._delivering = False  # the pump holds a frame that nothing may overtake

    async def push(self, frame: bytes, *, exempt: bool = False) -> None:
        """Pass a frame on, at once or when it is due; an `exempt` one waits its turn but takes no damage."""
        if self._known_version != self._faults.version:
            self._active = self._faults.frames(self._direction, self._names)
            self._known_version = self._faults.version
        if not self._active and not self._queue and not self._delivering:
            await self._deliver(frame)
            return
        copies, due = (1, self._due_last()) if exempt else self._suffer()
        for _turn in range(copies):
            heapq.heappush(self._queue, (due, next(self._order), frame))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run())
        self._wake.set()

    def close(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        if self._pump is not None:
            self._pump.cancel()

    def _due_last(self) -> float:
        return max([self._last_due, *(due for due, _number, _frame in self._queue)])

    def _suffer(self) -> tuple[int, float]:
        """How many copies of a frame arrive, and when."""
        dice, copies, held = self._faults.dice, 1, 0.0
        due = asyncio.get_running_loop().time()
        for fault in self._active:
            due += fault.latency + (dice.random() * fault.jitter if fault.jitter else 0.0)
            if fault.strikes(fault.loss, dice):
                copies = 0
            elif fault.strikes(fault.duplicate, dice):
                copies += 1
            elif fault.strikes(fault.reorder, dice):
                held = max(held, fault.reorder_delay)
        # Jitter alone does not change the order, as on one TCP connection; reordering is a fault of its own.
        self._last_due = due = max(due, self._last_due)
        return copies, due + held

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            wait = self._queue[0][0] - loop.time()
            if wait > _GRAIN:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait)
                continue
            self._delivering = True
            try:
                await self._deliver(heapq.heappop(self._queue)[2])
            finally:
                self._delivering = False


def frame_fault(values: Mapping[str, Any]) -> FrameFault:
    """From JSON; raises `ValueError` or `TypeError` for what a frame fault has not."""
    chosen = dict(values)
    if chosen.get("direction") in ("both", "", None):
        chosen["direction"] = None
    else:
        chosen["direction"] = Direction(chosen["direction"])
    return FrameFault(**chosen)


def call_fault(values: Mapping[str, Any]) -> CallFault:
    """From JSON; an action without a service means SSM."""
    chosen = dict(values)
    if ":" not in chosen["action"]:
        chosen["action"] = f"ssm:{chosen['action']}"
    return CallFault(**chosen)
