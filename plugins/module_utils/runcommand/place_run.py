# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place of a run: its commands sent, followed and collected, one call after the other.

A place is an account and a region, so a limit of rate is its own, and no two calls of one action compete in it. The order is: adopt what an
earlier controller has sent under the same run id; send; look at the counters of commands; take the results of those that are complete, in
one pass; send again what was not delivered.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..accounts import OptionError
from ..aws_errors import error_code, error_message, is_denied
from ..problems import CollectError
from .caller import Ambiguous, Caller, Stopped
from .mark import Mark, digest
from .outputs import Outputs
from .progress import Counts
from .record import Record, invocation_record, refused_record
from .request import NODES_A_COMMAND, Request, Window, share
from .resolve import registered, resolve
from .sink import Sink
from .status import is_command_final, is_error, is_final, may_retry, snake
from .targets import Targets, chunks, halves, ids_in

_PAGE = 50
#: Seconds between looks at commands: a part of the time since the last one was sent, so that a result is late by that part at most.
_SHORTEST, _LONGEST, _PART = 1.0, 30.0, 0.15
#: Seconds before each look for a command whose answer was lost, since listings lag behind.
_LOOKS = (0.5, 2.0, 5.0, 10.0, 15.0)
#: Seconds by which the clocks of controller and service may differ.
_SKEW = 300.0
#: Looks in a row that show nothing new of a command that has ended, until nodes that are not listed are given up: 40 s at least.
_EQUAL_LOOKS = 20
#: Commands up to which each is looked at by its id, which no other people's commands lengthen.
_BY_ID = 2


@dataclass
class Command:
    """A command that the service has accepted."""

    command_id: str
    attempt: int
    total: int  #: nodes
    requested: float  #: by the service's clock, seconds since the epoch
    document: str
    ids: tuple[str, ...] = ()  #: its nodes, if it names them
    done: int = 0
    failed: int = 0
    errors: int = 0  #: of the failed, those that count against max_errors
    complete: bool = False  #: by its counters
    collected: bool = False
    ended: bool = False  #: by its counters, once and for all
    equal: int = 0  #: looks in a row at its results that showed nothing new; since it has ended, if it has
    seen: dict[str, str] = field(default_factory=dict)  #: the status of nodes whose result was taken, while not all are

    @property
    def unheard(self) -> list[str]:
        """Its nodes without a result, if it names them."""
        return [node_id for node_id in self.ids if node_id not in self.seen]


@dataclass(frozen=True)
class Options:
    """What a run wants beside the request itself."""

    wait: bool = True
    retries: int = 0
    adopt_since: float | None = None  #: seconds since the epoch; None: nothing was sent under this run id before
    output: str = "brief"  #: none, brief, full


class PlaceRun:
    """The part of a run in one place. `run` is for one thread; the attributes may be read by others at any time."""

    def __init__(self, caller: Caller, request: Request, targets: Targets, node_ids: Sequence[str] | None, options: Options, sink: Sink) -> None:
        self.caller = caller
        self.place = caller.place
        self.error: CollectError | None = None  #: why nothing more could be done here
        self.commands: list[Command] = []
        self._request = request
        self._targets = targets
        self._options = options
        self._sink = sink
        self._where = {"account_id": caller.place.account.account_id, "account_name": caller.place.account.name, "region": caller.place.region}
        self._outputs = Outputs(caller, full=options.output == "full")
        self._task = digest(*request.texts(), *targets.texts())
        self._queue: deque[tuple[int, tuple[str, ...] | None]] = deque()
        if node_ids is None:
            self._queue.append((0, None))
        else:
            self._queue.extend((0, chunk) for chunk in chunks(node_ids))
        self._nodes = len(node_ids or ())
        self._window = Window.of(request.max_concurrency, request.max_errors, self._nodes)
        #: Whether commands must be held back until others have ended.
        self.needs_waiting = len(self._queue) > 1 and (self._window.nodes is not None or self._window.serial)
        self._latest: dict[str, int] = {}  # the attempt of nodes that were sent to again
        self._again: list[str] = []  # nodes to be sent to again, and their next attempt is
        self._attempt = 0
        self._retried = 0
        self._refused = 0
        self._denied = 0
        self._sent_at = 0.0
        self._over = False

    @property
    def counts(self) -> Counts:
        """Nodes now, as far as is known."""
        waiting = sum(len(ids) for _attempt, ids in list(self._queue) if ids)
        commands = list(self.commands)
        total = sum(command.total for command in commands) + waiting + self._refused - self._retried
        done = sum(command.done for command in commands) + self._refused - self._retried
        return Counts(total, done, max(0, sum(command.failed for command in commands) + self._refused - self._retried))

    def adopt(self) -> None:
        """Take over what an earlier controller has sent under the same run id, before `run`. :raises OptionError: if that was another run."""
        with self._ended():
            self._where["account_id"] = self.place.account_id
            if self._options.adopt_since is not None:
                self._adopt(self._options.adopt_since)

    def run(self) -> None:
        """To the end, or until it is stopped. What goes wrong is in `error` and in the results of nodes."""
        if self._over:
            return
        with self._ended():
            self.caller.wait(0.0)  # the time may be over, since all places adopt first
            while self._step():
                pass

    @contextlib.contextmanager
    def _ended(self) -> Iterator[None]:
        """By what goes wrong in its body."""
        try:
            yield
        except Stopped:
            self._over = True
            self._leave()
        except CollectError as error:
            self._over = True
            self._fail(error)

    def _step(self) -> bool:
        """The next thing; False if there is none."""
        if self._queue and self._may_send():
            self._send_next()
            return True
        if not self._options.wait:
            return False
        complete = next((command for command in self.commands if command.complete and not command.collected), None)
        if complete is not None:
            self._collect(complete)
            return True
        if any(not command.collected for command in self.commands):
            self._look()
            return True
        if self._again:
            self._attempt += 1
            self._latest.update(dict.fromkeys(self._again, self._attempt))
            self._queue.extend((self._attempt, chunk) for chunk in chunks(self._again))
            self._retried += len(self._again)
            self._again = []
            return True
        return bool(self._queue)

    # -- sending

    def _may_send(self) -> bool:
        limit = self._request.max_errors
        if self._nodes and self._errors > share(limit, self._nodes):
            while self._queue:
                attempt, ids = self._queue.popleft()
                self._refuse(ids or (), "terminated", f"not sent, since more than max_errors={limit} nodes of this place had failed", attempt)
            return False
        if not self._options.wait:
            return True  # nobody stays to send it later
        beside = [command.total for command in self.commands if not command.complete]
        return self._window.admits(len(self._queue[0][1] or ()), beside)

    @property
    def _errors(self) -> int:
        return sum(command.errors for command in self.commands)

    def _send_next(self) -> None:
        attempt, ids = self._queue.popleft()
        targets: dict[str, Any] = {"Targets": self._targets.to_api()} if ids is None else {"InstanceIds": list(ids)}
        mark = Mark.of(self._request.run_id, attempt, self._targets.texts() if ids is None else ids, self._task)
        began = time.time()
        try:
            request = self._request.in_place(lambda: self.place.account_id, self.place.region)
            errors = str(int(request.max_errors) - self._errors) if self._window.serial else request.max_errors
            answer = self.caller.once("SendCommand", **request.to_api(mark, targets, self._window.max_concurrency, errors))["Command"]
        except (CollectError, Stopped):
            self._queue.appendleft((attempt, ids))
            raise
        except Ambiguous as error:
            self._seek(mark, attempt, ids, error, began - _SKEW)
            return
        except Exception as error:
            self._judge_refusal(attempt, ids, error)
            return
        self._denied = 0
        self._accepted(answer, attempt, ids)

    def _seek(self, mark: Mark, attempt: int, ids: tuple[str, ...] | None, lost: Ambiguous, since: float) -> None:
        """The answer to a command was lost: take the command over if it is listed. It is never sent again, since it may run."""
        try:
            found = self._find(mark, since)
        except Stopped:
            self._unknown(attempt, ids, lost, "the time for waiting was over before it was found")
            raise
        except CollectError as error:
            self._unknown(attempt, ids, lost, f"it cannot be looked for, since {error.text.rstrip('.')}")
            return
        if found is not None:
            self._accepted(found, attempt, ids)
        else:
            self._unknown(attempt, ids, lost, f"it is not listed {sum(_LOOKS):.0f} s later")

    def _find(self, mark: Mark, since: float) -> dict[str, Any] | None:
        for pause in _LOOKS:
            self.caller.wait(pause)
            for command in self._listed(since):
                if Mark.read(command.get("Comment", "")) == mark:
                    return command
        return None

    def _accepted(self, answer: dict[str, Any], attempt: int, ids: tuple[str, ...] | None) -> Command:
        total = len(ids) if ids else int(answer.get("TargetCount") or 0)
        command = Command(answer["CommandId"], attempt, total, float(answer["RequestedDateTime"]), answer["DocumentName"], ids or ())
        self.commands.append(command)
        self._sent_at = time.monotonic()
        return command

    def _judge_refusal(self, attempt: int, ids: tuple[str, ...] | None, error: Exception) -> None:
        """AWS has refused a command: for one of its nodes, or for itself."""
        code = error_code(error)
        if ids is None:
            raise self.caller.explain("SendCommand", error) from error
        if code == "InvalidInstanceId":
            bad = ids_in(error_message(error), ids) or self._strangers(ids)
            reason = "Systems Manager does not take commands for it: it is not registered in this account and region, or is stopped"
            self._divide(attempt, ids, bad, "undeliverable", f"{reason}. Check the id, and managed_node_info")
        elif code == "UnsupportedPlatformType":
            self._divide(attempt, ids, (), "invalid_platform", f"the document {self._request.document} is not for its platform")
        elif is_denied(error) and (bad := ids_in(error_message(error), ids)) and self._denied < NODES_A_COMMAND:
            self._denied += len(bad)
            explained = self.caller.explain("SendCommand", error)
            self._divide(attempt, ids, bad, "access_denied", f"{explained.text} {explained.remedy}")
        else:
            self._queue.appendleft((attempt, ids))
            raise self.caller.explain("SendCommand", error) from error

    def _strangers(self, ids: tuple[str, ...]) -> list[str]:
        """Those that are not registered here; none if that cannot be asked."""
        try:
            return sorted(set(ids) - set(registered(self.caller, ids)))
        except CollectError:
            return []

    def _divide(self, attempt: int, ids: tuple[str, ...], bad: Sequence[str], status: str, message: str) -> None:
        """Refuse the bad nodes and send to the others; if none is known to be bad, find it by halves."""
        if len(ids) == 1:
            bad = ids
        self._refuse(bad, status, message, attempt)
        rest = tuple(node_id for node_id in ids if node_id not in bad)
        parts = [rest] if bad else halves(rest)
        self._queue.extendleft((attempt, part) for part in reversed(parts) if part)

    def _refuse(self, ids: Iterable[str], status: str, message: str, attempt: int = 0) -> None:
        for node_id in ids:
            self._refused += 1
            if may_retry(status) and attempt < self._options.retries and self._options.wait:
                self._again.append(node_id)
            else:
                self._sink.add(refused_record(node_id, self._where, status, message, attempt=attempt))

    def _unknown(self, attempt: int, ids: tuple[str, ...] | None, lost: Ambiguous, why: str) -> None:
        """Whether the command was accepted cannot be known. Nodes of targets are those that they mean now, if that can be asked."""
        text = f"it may run: the answer to SendCommand was lost ({lost}), and {why}."
        remedy = f"Look for it with run_command_info and {self._name}. A task with it takes the command over, and sends it only if it is not listed then."
        if ids is None:
            self.error = CollectError(self.place.account, self.place.region, "ssm:SendCommand", text, remedy, lost.cause)
            with contextlib.suppress(CollectError, Stopped):
                ids = tuple(resolve(self._targets, self.caller))
        self._refuse(ids or (), "unknown", f"{text} {remedy}", attempt)

    @property
    def _name(self) -> str:
        return f"'run_id: {self._request.run_id}'"

    # -- following

    def _listed(self, since: float, document: str | None = None) -> Iterable[dict[str, Any]]:
        """Commands of this place since a time, the newest first."""
        moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        filters = [{"key": "InvokedAfter", "value": moment}]
        if document:
            filters.append({"key": "DocumentName", "value": document})
        for page in self.caller.pages("ListCommands", "Commands", Filters=filters, MaxResults=_PAGE):
            yield from page

    def _adopt(self, since: float) -> None:
        for entry in self._listed(since):
            mark = Mark.read(entry.get("Comment", ""))
            if mark is None or mark.run_id != self._request.run_id:
                continue
            if mark.task != self._task:
                other = f"command {entry['CommandId']} of {entry['DocumentName']} in {self.place.account.label}, region {self.place.region}"
                raise OptionError(
                    f"{self._name} is the name of another run: {other} was sent with another document, other parameters or other targets. "
                    "Give each task a 'run_id' of its own, beginning with that of its job, say."
                )
            ids = tuple(entry.get("InstanceIds") or ())
            self._count(self._accepted(entry, mark.attempt, ids or None), entry)
            self._attempt = max(self._attempt, mark.attempt)
            for node_id in ids:
                if mark.attempt:
                    self._latest[node_id] = max(self._latest.get(node_id, 0), mark.attempt)
            covered = set(ids)
            left = [(attempt, None if ids_ is None else tuple(one for one in ids_ if one not in covered)) for attempt, ids_ in self._queue]
            self._queue = deque((attempt, ids_) for attempt, ids_ in left if (ids_ if ids_ is not None else bool(ids)))
        self._retried = len(self._latest)

    def _look(self) -> None:
        """See how far the open commands are, by the cheapest call: for few nodes their results, which may be all there; else counters."""
        since_sent = time.monotonic() - self._sent_at
        self.caller.wait(min(max(_SHORTEST, since_sent * _PART), _LONGEST))
        open_ones = [command for command in self.commands if not command.collected]
        if len(open_ones) == 1 and 0 < open_ones[0].total <= _PAGE and open_ones[0].equal < _EQUAL_LOOKS:
            self._collect(open_ones[0])
        elif len(open_ones) <= _BY_ID:
            for command in open_ones:
                for page in self.caller.pages("ListCommands", "Commands", CommandId=command.command_id):
                    for entry in page:
                        self._count(command, entry)
        else:
            waiting = {command.command_id: command for command in open_ones}
            oldest = min(command.requested for command in open_ones)
            for entry in self._listed(oldest - 1, open_ones[0].document):
                found = waiting.pop(entry["CommandId"], None)
                if found is not None:
                    self._count(found, entry)
                if not waiting:
                    return

    def _count(self, command: Command, entry: dict[str, Any]) -> None:
        command.total = int(entry.get("TargetCount") or command.total)
        command.done = max(command.done, int(entry.get("CompletedCount") or 0))
        command.errors = max(command.errors, int(entry.get("ErrorCount") or 0))
        command.failed = max(command.failed, command.errors + int(entry.get("DeliveryTimedOutCount") or 0))
        command.complete = is_command_final(snake(entry.get("StatusDetails") or entry["Status"]))
        if command.complete and not command.ended:
            command.ended, command.equal = True, 0

    # -- collecting

    def _collect(self, command: Command, *, unfinished: bool = False) -> None:
        """Take the results of a command's nodes that have ended.

        :param unfinished: take the others as well, as they are now, since nobody will look again.
        """
        waiting, before = 0, len(command.seen)
        for page in self.caller.pages("ListCommandInvocations", "CommandInvocations", CommandId=command.command_id, Details=True, MaxResults=_PAGE):
            for entry in page:
                node_id = entry["InstanceId"]
                status = snake(entry.get("StatusDetails") or entry["Status"])
                if node_id in command.seen or not (is_final(status) or unfinished):
                    waiting += not is_final(status)
                    continue
                command.seen[node_id] = status
                self._take(invocation_record(entry, self._where, attempt=command.attempt, output=self._options.output != "none"), entry)
        command.failed = max(command.failed, sum(status != "success" for status in command.seen.values()))
        command.errors = max(command.errors, sum(map(is_error, command.seen.values())))
        command.done = max(command.done, len(command.seen))
        if not waiting and len(command.seen) >= command.total:
            command.collected = command.complete = True
            command.seen = {}
            return
        # The listing lags behind the counters.
        command.complete = False
        command.equal = command.equal + 1 if len(command.seen) == before else 0
        if command.ended and command.equal > _EQUAL_LOOKS:
            self._collect(command, unfinished=True)
            self._give_up(command)

    def _give_up(self, command: Command) -> None:
        """Nobody looks for results of a command again: those that are not listed cannot be known."""
        if command.collected:
            return
        command.collected = command.complete = True
        text = f"what became of it cannot be known, since it is not listed among the results of command {command.command_id}"
        remedy = "Look later with run_command_info"
        self._record(command.unheard, "unknown", f"{text}. {remedy}", command.attempt, command.command_id)
        if not command.ids:
            missing = f"{command.total - len(command.seen)} of {command.total} nodes are not listed among the results of command {command.command_id}."
            self.error = CollectError(self.place.account, self.place.region, "ssm:ListCommandInvocations", missing, f"{remedy}.")

    def _take(self, record: Record, entry: dict[str, Any]) -> None:
        node_id, status = record["instance_id"], record["status"]
        if self._latest.get(node_id, 0) > record["attempt"]:
            return  # a later attempt holds
        if may_retry(status) and record["attempt"] < self._options.retries:
            self._again.append(node_id)
            return
        self._outputs.complete(record, entry)
        self._sink.add(record)

    # -- ending

    def _leave(self) -> None:
        """Stopped while nodes are still at it: their status as it is now."""
        self.caller.unstoppable()
        self._outputs.hurry()
        try:
            for command in self.commands:
                if not command.collected:
                    self._collect(command, unfinished=True)
                    self._give_up(command)
        except CollectError as error:
            self._fail(error)
            return
        for attempt, ids in self._queue:
            self._refuse(ids or (), "not_sent", "the time for waiting was over before it was sent", attempt)
        self._queue.clear()
        self._give_up_retries()

    def _fail(self, error: CollectError) -> None:
        """Nothing more can be done here: each node that is known by its id gets the reason."""
        self.error = error
        status = "access_denied" if error.cause is not None and is_denied(error.cause) else "not_sent"
        for attempt, ids in self._queue:
            self._refused += len(ids or ())
            self._record(ids or (), status, str(error), attempt)
        self._queue.clear()
        text = f"what became of it cannot be known: {error} It goes on. A task with {self._name} takes it over."
        for command in self.commands if self._options.wait else ():
            if not command.collected:
                self._record(command.unheard, "unknown", text, command.attempt, command.command_id)
        self._give_up_retries()

    def _record(self, ids: Iterable[str], status: str, message: str, attempt: int, command_id: str | None = None) -> None:
        for node_id in ids:
            self._sink.add({**refused_record(node_id, self._where, status, message, attempt=attempt), "command_id": command_id})

    def _give_up_retries(self) -> None:
        self._record(self._again, "undeliverable", "not delivered, and not sent again before the end", self._attempt)
        self._again = []
