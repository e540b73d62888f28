# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node, connected: a session with a runner in it, perhaps a second session for its output, and the work that they carry.

All of it runs in the mux's event loop. The runner client and the lifecycle of each work do no I/O; here bytes move between
them and the sessions, and time passes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from ...datachannel.client import ChannelError, SessionClient
from ...datachannel.events import Closed, ExitCode, Output, Resending
from ...runner import events as runner_events
from ...runner.client import PTY, RunnerClient
from ..errors import PassingError, RequestError, unreachable
from ..lifecycle import Verdict
from ..protocol import ErrorKind, FrameType
from ..work import Exec, Get, Put, Work
from .documents import Rung
from .output_session import OutputSession
from .warm import Fate, WarmNode, Warmth, Way

KEEPALIVE = 30.0
"""Seconds of quiet after which the runner is pinged, so that its dead-man timer (180 s) does not strike."""

PROBE_AFTER = 5.0
"""Seconds without a byte from the node after which it is asked for a sign of life before it is given new work."""

PROBE_TIMEOUT = 5.0
"""Seconds in which it must give one, or as many as its opening took: where everything is slow, a new session would be no faster."""

_INPUT_STEP = 128 * 1024
_PROMPT_QUIET = 0.3
"""Seconds of quiet after a shell's first output that mean it waits at its prompt."""


class NodeChannel:
    """A runner on a node and what it is doing.

    :param on_lost: called once, with the reason and the works that were not finished, when the channel is no more.
    :param on_connected: called when the first session's websocket is open.
    :param on_carrier_wanted: called when work would profit from a second session in the place of one that was lost.
    :param on_estranged: called when the node has another user of the session's name: what needs the name, as sudo does, will fail.
    """

    def __init__(
        self,
        session: SessionClient,
        runner: RunnerClient,
        warmth: Warmth,
        *,
        rung: Rung,
        on_connected: Callable[[], None],
        on_lost: Callable[[NodeChannel, str, Sequence[Work]], None],
        on_carrier_wanted: Callable[[NodeChannel], None],
        on_estranged: Callable[[NodeChannel], None],
        log: logging.Logger,
    ) -> None:
        self.session = session
        self.runner = runner
        self.rung = rung
        self.ready: runner_events.Ready | None = None
        self.opened_at = 0.0
        self.opening_took = 0.0
        """Seconds from the first step to the runner's being ready."""
        self._loop = asyncio.get_running_loop()
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_estranged = on_estranged
        self._log = log
        self._warm = WarmNode(runner, warmth)
        self._wake = asyncio.Event()
        self.output = OutputSession(
            runner, session.session_id, read=lambda opened, number: self._task(self._read(opened, number)), changed=self._wake.set,
            is_useful=lambda: self.busy, on_wanted=lambda: on_carrier_wanted(self), log=log,
        )  # fmt: skip
        self._is_ready: asyncio.Future[runner_events.Ready] = self._loop.create_future()
        self._first_output = asyncio.Event()
        self._works: dict[int, Work] = {}
        self._probed: list[Work] = []
        self._held: dict[int, list[tuple[Work, Callable[[], None]]]] = {}
        """By the request whose answer they wait for: works, and what is then to be done with them."""
        self._probe: asyncio.TimerHandle | None = None
        self._reconnecting = False
        self._missed_at: float | None = None
        self._pinged_at: float | None = None
        """While an answer to a ping is to come: when it was sent, on the loop's clock."""
        self._starting: list[Work] = []
        self._unconfirmed: list[Work] = []
        self._last_received = self._last_sent = self._last_work = self._loop.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._estranged = False
        self._banner = bytearray()
        self.done_count = 0

    # Opening and closing

    async def open(self) -> runner_events.Ready:
        """Connect and wait until the runner is ready; the caller sets the time limit and closes the channel if this fails.

        :raises RequestError: the session ended before that; the text holds what it wrote.
        """
        began = self._loop.time()
        try:
            await self.session.open()
        except ChannelError as error:
            raise unreachable(str(error)) if error.permanent else PassingError(str(error)) from error
        self._last_received = self._loop.time()
        self._on_connected()
        self._task(self._read(self.session, PTY))
        if self.rung.typed:
            await self._first_output.wait()
            while self._loop.time() - self._last_received < _PROMPT_QUIET:
                await asyncio.sleep(_PROMPT_QUIET / 3)
            await self.session.write(self.runner.session_command().encode() + b"\n")
        self._task(self._write())
        self.ready = await self._is_ready
        self._warm.foresight.lasting.add(self.ready.user)
        self.opened_at = self._last_work = self._loop.time()
        self.opening_took = self.opened_at - began
        self._tick()
        return self.ready

    async def close(self) -> None:
        """End the runner and the sessions in order, within some seconds. Works that are left are reported as lost."""
        if not self._ended and self.ready is not None:
            self.runner.shutdown()
            data = self.runner.data_to_send()
            try:
                async with asyncio.timeout(1.0):
                    await self.session.write(data)
            except (ChannelError, TimeoutError):
                pass
        self._end("the connection to the node was closed")
        await asyncio.gather(self.session.close(), self.output.close(), return_exceptions=True)
        for task in self._tasks:
            task.cancel()

    # Work

    @property
    def usable(self) -> bool:
        """Whether it takes work."""
        return self.ready is not None and not self._ended and not self._estranged

    @property
    def last_received(self) -> float:
        """When the node was heard of last, or its session connected, on the loop's clock."""
        return self._last_received

    @property
    def busy(self) -> bool:
        """Whether it has work."""
        return bool(self._works or self._probed or self._held)

    @property
    def missed_at(self) -> float:
        """Once it is lost: when the node was missed first, on the loop's clock."""
        return self._loop.time() if self._missed_at is None else self._missed_at

    @property
    def idle_since(self) -> float | None:
        """When its last work ended, on the loop's clock; `None` while it has work."""
        return None if self.busy else self._last_work

    def submit(self, work: Work) -> None:
        """Start a work now; or, after a time without a sign from the node, as soon as it gives one."""
        if self._ended:
            self._on_lost(self, "the connection to the node had ended", [work])
            return
        now = self._loop.time()
        if now - self._last_received > PROBE_AFTER:
            self._probed.append(work)
            if self._probe is None:
                self._missed_at = now
                self._ping(PROBE_AFTER)
                within = min(work.silence, max(PROBE_TIMEOUT, self.opening_took))
                self._probe = self._loop.call_later(within, self._probe_failed)
        else:
            self._start(work)
        self.output.wanted()

    def _start(self, work: Work) -> None:
        if work.cancelled:
            work.fail(RequestError(ErrorKind.FAILED, "cancelled before it started"))
            return
        try:
            self._begin(work)
        except ValueError as error:
            work.fail(RequestError(ErrorKind.FAILED, f"{error}; nothing was run"))

    def _begin(self, work: Work) -> None:
        """:raises ValueError: no node can have such a command or path."""
        action = work.action
        runner = self.runner
        if self.ready is None:
            raise AssertionError
        if failure := self._warm.foresight.failure(action):
            work.fail(RequestError(ErrorKind.FAILED, failure))
            return
        if isinstance(action, Exec):
            begun = self._warm.begin(action, able=self.ready.kind == "python")
            if begun is None:
                self._hold(work, lambda: self._start(work))
                return
            number = begun.number
            work.payload = action.payload if begun.way is Way.COLD else b""
            if begun.answer is not None:
                work.sink.output(FrameType.STDOUT, begun.answer)
                work.finish(FrameType.EXITED, returncode=0, signal=None, left_open=False)
                self._wake.set()
                return
        elif isinstance(action, Put):
            checksum = bytes.fromhex(action.sha256) if action.sha256 else None
            number = runner.put(action.path.encode("utf-8", "surrogateescape"), mode=action.mode, size=action.size, sha256=checksum)
        else:
            number = runner.get(action.path.encode("utf-8", "surrogateescape"))
        self._works[number] = work
        work.input_passed_on = False
        work.lifecycle.handed_over()
        work.changed = lambda: self._changed(number)
        work.consumed = lambda count: self._consumed(number, count)
        self._changed(number)
        if work.tell_start is not None:
            self._starting.append(work)
            self._confirm_starts()
        self._wake.set()

    def _confirm_starts(self) -> None:
        """Whatever was sent before a ping is known to have arrived by its answer."""
        if self._starting and self._ping():
            self._unconfirmed, self._starting = self._starting, []

    def _ping(self, patience: float = math.inf) -> bool:
        """Ask the node for a sign of life, unless the last one asked for may still come; whether it was asked.

        :param patience: seconds in which it may. After two pings without an answer, the session for output counts as silent, and is left.
        """
        now = self._loop.time()
        if self._pinged_at is not None and now - self._pinged_at < patience:
            return False
        self._pinged_at = now
        self.runner.ping()
        self._wake.set()
        return True

    def _changed(self, number: int) -> None:
        """Move input to the runner as far as it may go, and grant the worker as much again."""
        work = self._works.get(number)
        if work is None:
            return
        if work.cancelled:
            work.cancelled = False
            self.runner.cancel(number)
            self._wake.set()
            return
        moved = 0
        while (room := min(self.runner.writable(number), _INPUT_STEP)) and (piece := work.take_input(room)):
            self.runner.stdin(number, piece)
            moved += len(piece)
        if moved:
            work.lifecycle.input_passed_on()
            if not work.input_ended:
                work.sink.credit(moved)
        if work.tty_input:
            self.runner.tty_input(number, bytes(work.tty_input))
            work.tty_input.clear()
        if work.input_ended and not work.input and not work.payload and not work.input_passed_on:
            work.input_passed_on = True
            self.runner.stdin_eof(number)
        self._wake.set()

    def _consumed(self, number: int, count: int) -> None:
        self.runner.consumed(number, count)
        self._wake.set()

    def _probe_failed(self) -> None:
        now = self._loop.time()
        reconnected, self._reconnecting = self._reconnecting, self.session.reconnecting
        left = min(work.silence for work in self._probed) - (now - self.missed_at)
        if left > 0 and (reconnected or self._reconnecting):
            # Our own network is away, or the service, or was until just now: a session that comes back is better than a new one.
            self._probe = self._loop.call_later(min(left, PROBE_TIMEOUT), self._probe_failed)
            return
        self._probe = None
        waiting, self._probed = self._probed, []
        self._log.info("no sign of life")
        if self._works:
            # Commands run there: silence decides about them, later. New work goes elsewhere.
            self._on_lost(self, "the node gives no sign of life", waiting)
        else:
            self._end("the node gives no sign of life", waiting)

    # Bytes

    async def _read(self, session: SessionClient, carrier: int) -> None:
        receive, dispatch = self.runner.receive, self._dispatch
        async for event in session.events():
            if isinstance(event, Output):
                self._last_received = self._loop.time()
                if self.ready is None:
                    self._note_banner(event.data)
                if carrier and event.stream != "stdout":
                    continue
                for found in receive(event.data, carrier):
                    dispatch(found)
                if carrier:
                    self.output.settled.set()
                if carrier and self.ready is None and self.runner.started:
                    self.session.program_runs()
                self._wake.set()
            elif isinstance(event, ExitCode):
                continue
            elif isinstance(event, Resending):
                # Without work it is about acknowledgements that the agent missed: nobody waits for them.
                if self._works:
                    self.output.lost(session, carrier, "the agent sends again what it could not send before")
            elif not carrier:
                self._end(self._closed_reason(event))
            else:
                self.output.lost(session, carrier, event.reason)

    async def _write(self) -> None:
        """Send what the runner client has to say, in pieces, so that the session's own back-pressure works."""
        runner, session, wake = self.runner, self.session, self._wake
        try:
            while True:
                data = runner.data_to_send()
                if data:
                    self._last_sent = self._loop.time()
                    await session.write(data)
                else:
                    await wake.wait()
                    wake.clear()
        except ChannelError as error:
            self._end(str(error))

    def _dispatch(self, event: runner_events.Event) -> None:
        if isinstance(event, runner_events.Stdout):
            self._output(event.id, FrameType.STDOUT, event.data)
        elif isinstance(event, runner_events.Stderr):
            self._output(event.id, FrameType.STDERR, event.data)
        elif isinstance(event, runner_events.Exited):
            left = self._warm.foresight.left(event.id)
            self._errand_ended(event.id, event.returncode)
            if work := self._take(event.id):
                if left:
                    work.sink.output(FrameType.STDERR, left)
                work.finish(FrameType.EXITED, returncode=event.returncode or int(bool(left)), signal=event.signal, left_open=event.left_open)
        elif isinstance(event, runner_events.Credit):
            if event.id in self._works:
                self._changed(event.id)
        elif isinstance(event, runner_events.Tty):
            self._output(event.id, FrameType.TTY, event.data)
        elif isinstance(event, runner_events.PutFile | runner_events.GotFile):
            if work := self._take(event.id):
                mode = event.mode if isinstance(event, runner_events.GotFile) else None
                work.finish(FrameType.DONE, size=event.size, sha256=event.sha256.hex() if event.sha256 else None, mode=mode)
        elif isinstance(event, runner_events.Failed):
            self._errand_ended(event.id, 1)
            fate = self._warm.failed(event)
            if work := self._take(event.id):
                if self._warm.foresight.awaited_by(work.action):
                    self._hold(work, lambda: self._failed(work, event, fate))
                else:
                    self._failed(work, event, fate)
        elif isinstance(event, runner_events.Pong):
            self._answered()
        elif isinstance(event, runner_events.Ready):
            if not self._is_ready.done():
                self._is_ready.set_result(event)
        elif isinstance(event, runner_events.ProtocolError):
            self._end(event.message)
        elif isinstance(event, runner_events.Estranged):
            self._estranged = True
            self._on_estranged(self)

    def _failed(self, work: Work, event: runner_events.Failed, fate: Fate) -> None:
        action = work.action
        if fate is Fate.NOT_STARTED and isinstance(action, Exec):
            verdict = work.lifecycle.refused()
            self._log.info("%s by a warm interpreter: %s", verdict.name, event.message)
            if verdict is Verdict.RETRY:
                work.action = dataclasses.replace(action, warm=False)
                self._start(work)
                return
            if verdict is Verdict.REPEAT:
                work.fail(RequestError(ErrorKind.REPEAT, event.message))
                return
        elif fate is Fate.UNKNOWN and work.lifecycle.lost() is Verdict.UNKNOWN:
            work.fail(RequestError(ErrorKind.UNKNOWN_OUTCOME, f"{event.message}; it was not run again"))
            return
        work.lifecycle.finished()
        missing = event.code == "ENOENT" and isinstance(action, Get)
        message = self._warm.foresight.failure(action) or event.message
        if isinstance(action, Put | Get) and action.path not in message:
            message = f"{action.path}: {message}"
        work.fail(RequestError(ErrorKind.NOT_FOUND if missing else ErrorKind.FAILED, message))

    def _hold(self, work: Work, then: Callable[[], None]) -> None:
        """It builds on a directory of which is not known whether it is there."""
        self._held.setdefault(self._warm.foresight.awaited_by(work.action), []).append((work, then))

    def _errand_ended(self, number: int, returncode: int) -> None:
        """Go on with what was held for it."""
        if failure := self._warm.foresight.end(number, returncode):
            self._log.warning("a command around a file transfer failed after it was taken for done: %s", failure)
        for _work, then in self._held.pop(number, ()):
            then()

    def _output(self, number: int, kind: FrameType, data: bytes) -> None:
        self._warm.foresight.output(number, data, error=kind is FrameType.STDERR)
        work = self._works.get(number)
        if work is None:
            self.runner.consumed(number, len(data))
            return
        work.lifecycle.output_passed_on()
        work.sink.output(kind, data)

    def _take(self, number: int) -> Work | None:
        self._last_work = self._loop.time()
        self.done_count += 1
        self._warm.ended(number)
        return self._works.pop(number, None)

    def _answered(self) -> None:
        """A ping was: the node is there, and knows what was sent before."""
        self._pinged_at = None
        started, self._unconfirmed = self._unconfirmed, []
        for work in started:
            if work.tell_start is not None:
                work.tell_start()
        if self._probe is not None:
            self._probe.cancel()
            self._probe = self._missed_at = None
            self._reconnecting = False
            waiting, self._probed = self._probed, []
            for work in waiting:
                self._start(work)
        self._confirm_starts()

    # Time and end

    def _tick(self) -> None:
        """Ping in quiet times; give up a channel that is silent for longer than its works allow."""
        if self._ended:
            return
        now = self._loop.time()
        silent = now - self._last_received
        patience = min((work.silence for work in self._works.values()), default=0.0)
        if self._works and silent > patience:
            self._end(f"the node was silent for {silent:.0f} s")
            return
        quiet_limit = min(KEEPALIVE, max(1.0, patience / 3)) if self._works else KEEPALIVE
        pause = min(quiet_limit, 5.0)
        if silent >= quiet_limit or now - self._last_sent >= KEEPALIVE:
            self._ping(pause)
        self._timer = self._loop.call_later(pause, self._tick)

    def _end(self, reason: str, undelivered: Sequence[Work] = ()) -> None:
        """The channel is no more: everything that it carried is reported, once."""
        if self._ended:
            return
        self._ended = True
        self.output.end()
        for timer in (self._timer, self._probe):
            if timer is not None:
                timer.cancel()
        if not self._is_ready.done():
            self._is_ready.set_exception(unreachable(reason))
            self._is_ready.exception()  # it may be that nobody waits any more
        self._log.info("commands: %s", self._warm.counts_text)
        works = [*self._works.values(), *self._probed, *(work for held in self._held.values() for work, _then in held), *undelivered]
        self._works.clear()
        self._probed.clear()
        self._held.clear()
        self._starting.clear()
        self._unconfirmed.clear()
        for work in works:
            work.detach()
        self._on_lost(self, reason, works)

    def _note_banner(self, data: bytes) -> None:
        """Keep what the session wrote before it was ready: if it never is, that says why."""
        if len(self._banner) < 4096:
            self._banner += data[:4096]
        self._first_output.set()

    @property
    def banner(self) -> str:
        """What the session wrote before it was ready, printable, one line."""
        text = bytes(self._banner).decode("utf-8", "replace")
        return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:500]

    def _closed_reason(self, event: Closed) -> str:
        if self.ready is None:
            wrote = f"; it wrote: {self.banner}" if self.banner else ""
            return f"the session ended before the runner was ready: {event.reason or 'no reason given'}{wrote}"
        return f"the session ended: {event.reason or 'no reason given'}"

    def _task(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task of the channel failed", exc_info=error)
            self._end(f"internal error: {type(error).__name__}: {error}")

    def status(self) -> dict[str, Any]:
        """Figures for people."""
        stats = self.session.stats
        carrier = self.output.session
        return {
            "session": self.session.session_id,
            "output_session": carrier.session_id if carrier is not None else None,
            "running": len(self._works),
            "finished": self.done_count,
            "commands": dict(self._warm.counts),
            "rtt_ms": round(stats.rtt_ms, 2),
            "bytes_sent": stats.bytes_sent,
            "bytes_received": stats.bytes_received + (carrier.stats.bytes_received if carrier is not None else 0),
            "retransmissions": stats.retransmissions,
            "reconnects": stats.reconnects,
            "silent_s": round(self._loop.time() - self._last_received, 1),
        }
