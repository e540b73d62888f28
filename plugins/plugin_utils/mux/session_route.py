# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session route: Session Manager's data channels. Opens a node when it is needed, and decides with each work's lifecycle what follows a loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..datachannel.client import DataKey, SessionClient, SessionGone, StartedSession
from ..datachannel.settings import ChannelSettings
from ..runner.client import RunnerClient, RunnerSettings
from ..runner.events import Ready
from . import errors, targets
from .documents import Rung, ladder
from .errors import RequestError, unreachable
from .identity import CredentialsError, Identity
from .lifecycle import Verdict
from .node_channel import NodeChannel
from .protocol import ErrorKind
from .request import ConnectionOptions
from .warm import Warmth
from .work import Work

ASK_AFTER = 6.0
"""Seconds without READY after which AWS is asked whether the node is connected at all."""

RETURNING = 8.0
"""Seconds in which a node that was connected a moment ago may come back (an agent that restarts) before it counts as unreachable."""

THROTTLING_PATIENCE = 180.0
"""Seconds for which a StartSession that AWS refuses for its rate is tried, beside the time that the session then has."""

_SESSIONS_APART = 0.15
"""Seconds between the two sessions of a node: agents stall when sessions come at once, and two that both find no `ssm-user` both make one."""
_FAULTS_PATIENCE = 10.0
"""Seconds in which faults of the service are met with further tries, however many those are."""

_FORGET_AFTER = 600.0
_TARGET_KEPT = 300.0
_LONGEST_CARRIER_PAUSE = 60.0
_CARRIERS_FORGIVEN = 120.0
"""Seconds without the loss of an output session after which the next loss is the first again, and met at once."""


class Surroundings(Protocol):
    """What routes share."""

    log: logging.Logger
    warmth: Warmth
    node_locks: dict[tuple[str | None, str], asyncio.Lock]
    """Sessions on one node are started one after another: several at once stall the agent's control channel for seconds."""

    def make_room(self) -> None:
        """Called while a node is being opened."""


class SessionRoute:
    """One node by one identity, document and user; at most one channel takes new work at a time."""

    def __init__(self, mux: Surroundings, identity: Identity, options: ConnectionOptions) -> None:
        self._mux = mux
        self._identity = identity
        self._options = options
        self._log = mux.log
        self._reason = "fleet.ssm"
        self._channel: NodeChannel | None = None
        self._rung: Rung | None = None
        self._node_id = ""
        self._node_known_at = float("-inf")
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Work] = []
        self._old: set[NodeChannel] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_used = time.monotonic()
        self._connected_at = float("-inf")
        self._carriers_lost = 0
        self._carrier_lost_at = float("-inf")
        self.needs_tty = False
        """Whether sudo on the node was found to demand a terminal; workers are told, so that one attempt is enough."""

    # What workers ask for

    async def open(self, options: ConnectionOptions, reason: str) -> Mapping[str, Any]:
        """Be connected; what is known of the node.

        :raises RequestError: it cannot be reached.
        """
        self._use(options)
        self._reason = reason
        if self._channel is None:
            await asyncio.shield(self._ensure_opening())
        channel = self._channel
        if channel is None or channel.ready is None:
            raise unreachable(f"the connection to {self._node_id} was lost again at once")
        return self._facts(channel.ready)

    def submit(self, work: Work, options: ConnectionOptions) -> None:
        """Carry out a work; its sink hears the rest."""
        self._use(options)
        if self._channel is not None and self._channel.usable:
            self._channel.submit(work)
        else:
            self._waiting.append(work)
            self._ensure_opening()

    def reset(self) -> bool:
        """Give up the present channel: at once if it is idle, else when its commands have ended."""
        self._node_known_at = float("-inf")
        self._connected_at = float("-inf")
        channel, self._channel = self._channel, None
        if channel is None:
            return False
        self._retire(channel)
        return True

    async def close(self) -> None:
        """Close everything."""
        if self._opening is not None:
            self._opening.cancel()
        channels = [*self._old, *([self._channel] if self._channel is not None else [])]
        self._channel = None
        await asyncio.gather(*(channel.close() for channel in channels), *self._tasks, return_exceptions=True)

    # What the mux asks

    @property
    def node_id(self) -> str:
        """Once it is known."""
        return self._node_id

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
            self._task(channel.close())

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return now - self._last_used > _FORGET_AFTER

    def status(self) -> dict[str, Any]:
        """Figures for people."""
        described: dict[str, Any] = {
            "host": self._options.host, "node": self._node_id, "who": self._identity.label, "region": self._identity.region,
            "document": self._rung.label if self._rung else None, "opening": self._opening is not None, "waiting": len(self._waiting),
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
            self._channel = await self._open_channel()
        except RequestError as error:
            self._fail_waiting(error)
            raise
        except asyncio.CancelledError:
            self._fail_waiting(unreachable("the mux is ending"))
            raise
        except Exception as error:  # a defect, which must not leave workers waiting
            self._log.exception("opening failed")
            failure = unreachable(f"internal error while opening the node: {type(error).__name__}: {error}")
            self._fail_waiting(failure)
            raise failure from error
        finally:
            self._opening = None
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            self._channel.submit(work)

    def _fail_waiting(self, error: RequestError) -> None:
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work.fail(error)

    async def _open_channel(self) -> NodeChannel:
        loop = asyncio.get_running_loop()
        options = self._options
        deadline = loop.time() + options.connection_timeout
        if loop.time() - self._node_known_at > _TARGET_KEPT:
            await self._settle()
            self._node_id = await targets.resolve(self._identity, options.host, deadline)
            self._node_known_at = loop.time()
        self._mux.make_room()
        attempt = 0
        began = loop.time()
        while True:
            attempt += 1
            try:
                async with self._node_lock():
                    channel = await self._start_sessions()
                self._connected_at = time.monotonic()
                return channel
            except _NotConnected as error:
                returning = time.monotonic() - self._connected_at < 60.0
                if returning and attempt <= RETURNING:
                    await asyncio.sleep(1.0)
                    continue
                self._node_known_at = float("-inf")
                why = await targets.why_not_connected(self._identity, self._node_id, loop.time() + RETURNING)
                raise unreachable(why) from error
            except _Transient as error:
                if attempt > options.reconnection_retries and loop.time() - began > _FAULTS_PATIENCE:
                    raise unreachable(str(error)) from error
                await asyncio.sleep(min(0.2 * 2**attempt, 5.0))

    async def _settle(self) -> None:
        """Know region, endpoints and credentials, or say why not."""
        try:
            settings = await self._identity.settings()
        except (CredentialsError, ValueError) as error:
            raise unreachable(str(error)) from error
        except Exception as error:
            raise unreachable(self._identity.explain(error, "sts:GetCallerIdentity", self._identity.label)) from error
        if not settings.region:
            raise RequestError(ErrorKind.OPTION, "no region is known: set the option 'region' (ansible_ssm_region), AWS_REGION, or a region in the profile")

    async def _start_sessions(self) -> NodeChannel:
        """The ladder: the first document that can be used."""
        refused: list[str] = []
        known = self._identity.documents
        rungs = ladder(self._options.document, self._options.output_document, self._options.run_as)
        for rung in rungs:
            mark = f"{rung.document}/{rung.typed}"
            if known.is_refused(mark, time.monotonic()):
                refused.append(f"{rung.label}: not usable, as seen before")
                continue
            runner = RunnerClient(RunnerSettings(interpreter=self._options.python, fifo=bool(rung.output_document)))
            try:
                async with contextlib.nullcontext() if known.is_usable(mark) else self._identity.document_lock:
                    if known.is_refused(mark, time.monotonic()):  # found out by another one, meanwhile
                        refused.append(f"{rung.label}: not usable, as seen before")
                        continue
                    started = await self._start_session(rung.document, {} if rung.typed else {"command": [runner.session_command()]})
                    known.used(mark)
            except Exception as error:
                if not _is_about_document(error):
                    raise self._start_failed(error, rung) from error
                if errors.is_no_document(error) or "document/" in errors.error_message(error):
                    known.refused(mark, time.monotonic())
                refused.append(self._identity.explain(error, "ssm:StartSession", rung.label))
                continue
            self._rung = rung
            return await self._connect(started, runner, rung)
        raise unreachable(f"no session document can be used on {self._node_id}: " + "; ".join(refused))

    def _start_failed(self, error: BaseException, rung: Rung) -> Exception:
        code = errors.error_code(error)
        if isinstance(error, CredentialsError):
            return unreachable(str(error))
        text = self._identity.explain(error, "ssm:StartSession", f"{self._node_id} with {rung.label}")
        if code == "TargetNotConnected":
            return _NotConnected(text)
        if errors.is_transient(error):
            return _Transient(text)
        return unreachable(text)

    async def _start_session(self, document: str, document_parameters: Mapping[str, list[str]]) -> StartedSession:
        deadline = asyncio.get_running_loop().time() + THROTTLING_PATIENCE
        parameters: dict[str, Any] = {"Target": self._node_id, "Reason": self._reason}
        if document:
            parameters["DocumentName"] = document
        if document_parameters:
            parameters["Parameters"] = dict(document_parameters)
        answer = await self._identity.call("ssm", "start_session", deadline=deadline, resource=self._node_id, **parameters)
        return StartedSession(answer["SessionId"], answer["StreamUrl"], answer["TokenValue"], self._node_id)

    async def _connect(self, started: StartedSession, runner: RunnerClient, rung: Rung) -> NodeChannel:
        """Wait for the runner; with a second session beside it where the document has one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.connection_timeout
        channel = NodeChannel(
            self._session(started), runner, self._mux.warmth, typed=rung.typed, on_lost=self._lost, on_carrier_lost=self._carrier_lost, log=self._log
        )
        ready = loop.create_task(channel.open())
        carrier = loop.create_task(self._start_carrier(rung, runner, channel)) if rung.output_document else None
        try:
            done, _pending = await asyncio.wait([ready], timeout=min(ASK_AFTER, max(0.0, deadline - loop.time())))
            if not done:
                await self._require_connected()
                done, _pending = await asyncio.wait([ready], timeout=max(0.0, deadline - loop.time()))
            if not done:
                wrote = f"; the session wrote: {channel.banner}" if channel.banner else " and the session wrote nothing"
                raise _Transient(f"the runner on {self._node_id} was not ready within {self._options.connection_timeout} s{wrote}")
            self._check_user(await ready)
        except BaseException:
            ready.cancel()
            if carrier is not None:
                carrier.cancel()
            self._task(channel.close())
            raise
        if carrier is not None:
            self._task(_finish(carrier))
        return channel

    async def _start_carrier(self, rung: Rung, runner: RunnerClient, channel: NodeChannel) -> None:
        if rung.output_document is None:
            raise AssertionError
        if self._identity.documents.is_refused(rung.output_document, time.monotonic()):
            return
        number, command = runner.open_carrier()
        await asyncio.sleep(_SESSIONS_APART)
        try:
            started = await self._start_session(rung.output_document, {"command": [command], **rung.output_parameters})
        except Exception as error:
            self._log.info("%s: no fast way for output: %s", self._node_id, self._identity.explain(error, "ssm:StartSession", rung.output_document))
            if _is_about_document(error):
                self._identity.documents.refused(rung.output_document, time.monotonic())
            else:
                self._carrier_lost(channel)
            return
        await channel.attach(self._session(started), number)

    def _carrier_lost(self, channel: NodeChannel) -> None:
        """Output goes on by the first session; a new second one makes it fast again."""
        if self._rung is not None and self._rung.output_document:
            self._carriers_lost += 1
            self._task(self._replace_carrier(channel, self._rung, min(0.5 * 2**self._carriers_lost, _LONGEST_CARRIER_PAUSE)))

    async def _replace_carrier(self, channel: NodeChannel, rung: Rung, pause: float) -> None:
        await asyncio.sleep(pause)
        async with self._node_lock():  # held while a channel is opened: it is known then which one is in use
            if channel is self._channel and channel.usable:
                await self._start_carrier(rung, channel.runner, channel)

    def _node_lock(self) -> asyncio.Lock:
        return self._mux.node_locks.setdefault((self._identity.region, self._node_id), asyncio.Lock())

    async def _require_connected(self) -> None:
        """:raises _NotConnected: AWS says that the node has no connection."""
        loop = asyncio.get_running_loop()
        try:
            answer = await self._identity.call("ssm", "get_connection_status", deadline=loop.time() + 5.0, resource=self._node_id, Target=self._node_id)
        except Exception as error:  # the permission is not needed otherwise, so it may be missing
            self._log.info("the connection status is not known: %s", errors.error_code(error) or type(error).__name__)
            return
        if answer.get("Status") not in ("connected", "Connected"):
            raise _NotConnected(f"{self._node_id} is not connected to Session Manager")

    def _check_user(self, ready: Ready) -> None:
        wanted = self._options.run_as
        if wanted and ready.user != wanted:
            raise unreachable(
                f"the session on {self._node_id} runs as {ready.user}, not as {wanted} (option run_as): set Run As in Session Manager's preferences or by"
                " the tag SSMSessionRunAs, or, for root, create the documents FleetSSM-RootInput and FleetSSM-RootOutput; or use become"
            )

    def _session(self, started: StartedSession) -> SessionClient:
        settings = self._identity.known_settings
        return SessionClient(
            started,
            resume=lambda: self._resume(started.session_id),
            terminate=lambda: self._terminate(started.session_id),
            generate_data_key=self._generate_data_key,
            sign=self._identity.sign,
            network=settings.network,
            settings=ChannelSettings(input_waits=True, max_payload=self._options.payload_size, max_window=self._options.send_window),
        )

    async def _resume(self, session_id: str) -> StartedSession:
        deadline = asyncio.get_running_loop().time() + 10.0
        try:
            answer = await self._identity.call("ssm", "resume_session", deadline=deadline, resource=session_id, SessionId=session_id)
        except Exception as error:
            if errors.error_code(error) == "DoesNotExistException":
                raise SessionGone(self._identity.explain(error, "ssm:ResumeSession", session_id)) from error
            raise
        return StartedSession(session_id, answer.get("StreamUrl", ""), answer.get("TokenValue", ""), self._node_id)

    async def _terminate(self, session_id: str) -> None:
        deadline = asyncio.get_running_loop().time() + 2.0
        await self._identity.call("ssm", "terminate_session", deadline=deadline, resource=session_id, SessionId=session_id)

    async def _generate_data_key(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        deadline = asyncio.get_running_loop().time() + 10.0
        try:
            answer = await self._identity.call(
                "kms", "generate_data_key", deadline=deadline, resource=key_id, KeyId=key_id, NumberOfBytes=64, EncryptionContext=dict(context)
            )
        except Exception as error:
            raise unreachable(self._identity.explain(error, "kms:GenerateDataKey", key_id)) from error
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])

    # Losing

    def _lost(self, channel: NodeChannel, reason: str, works: Sequence[Work]) -> None:
        """A channel is gone, or takes no more: what becomes of each work is its lifecycle's verdict."""
        self._log.info("%s: %s (%d works)", self._node_id, reason, len(works))
        if self._channel is channel:
            self._channel = None
            self._retire(channel)
        retry = []
        for work in works:
            verdict = Verdict.UNREACHABLE if work.cancelled else work.lifecycle.lost()
            if verdict is Verdict.RETRY:
                retry.append(work)
            elif verdict is Verdict.UNKNOWN:
                work.fail(RequestError(ErrorKind.UNKNOWN_OUTCOME, f"{reason}. The outcome of the command on {self._node_id} is unknown; it was not run again"))
            elif verdict is Verdict.UNREACHABLE:
                work.fail(unreachable(f"{reason} ({self._node_id}); nothing was run"))
        if retry:
            self._waiting.extend(retry)
            self._ensure_opening()

    def _retire(self, channel: NodeChannel) -> None:
        if channel.busy:
            self._old.add(channel)  # housekeeping closes it when its commands have ended
        else:
            self._task(channel.close())

    # Small things

    def _use(self, options: ConnectionOptions) -> None:
        self._last_used = time.monotonic()
        self._options = options

    def _facts(self, ready: Ready) -> dict[str, Any]:
        if self._channel is None:
            raise AssertionError
        return {
            "user": ready.user, "home": ready.home, "uid": ready.uid, "python": ready.python, "executable": ready.executable, "kind": ready.kind,
            "platform": ready.platform, "node": self._node_id, "region": self._identity.region, "session": self._channel.session.session_id,
            "document": self._rung.label if self._rung else "", "needs_tty": self.needs_tty,
            "salt": self._mux.warmth.salt.hex(),
        }  # fmt: skip

    def _channels(self) -> list[NodeChannel]:
        return [*self._old, *([self._channel] if self._channel is not None else [])]

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _NotConnected(Exception):
    """Session Manager has no connection to the node."""


class _Transient(Exception):
    """Another try may work; nothing was run."""


def _is_about_document(error: BaseException) -> bool:
    """Whether another rung may work: the document is missing, may not be used, or takes no such parameter."""
    return errors.is_no_document(error) or errors.is_denied(error) or errors.error_code(error) in ("InvalidParameters", "UnsupportedParameter")


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for a task whose result does not matter."""
    await asyncio.wait([task])


def _seen(task: asyncio.Task[None]) -> None:
    """Its error goes to those who wait for it; if nobody does, it has gone to the works."""
    if not task.cancelled():
        task.exception()
