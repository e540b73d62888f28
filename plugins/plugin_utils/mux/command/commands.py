# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of one identity: equal tasks gathered into batches, brought to their nodes, and their results brought back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import IO

from ...runcommand import refusals, script
from ...runcommand.invocation import Invocation
from ...runcommand.sameness import Commons
from ...runcommand.trailer import Ended, Said, TrailerError
from .. import errors
from ..aws.identity import Identity
from ..controllers import Controllers
from ..errors import RequestError
from ..lifecycle import Verdict
from ..protocol import ErrorKind
from ..tasks import Tasks
from .answers import Answers, order
from .bucket import Bucket
from .event_queue import EventQueue
from .gathering import Gathering
from .journal import Journal
from .preparation import Preparation, Prepared
from .sender import Sender
from .task import CommandTask
from .watch import Watch

_RETRY_AFTER = 2.0
_CANCELLED_TOGETHER = 0.1
"""Seconds for which the cancel of a command on one node waits for those on others, as one call is for all of them."""


class Commands:
    """All that one identity has under way."""

    def __init__(self, identity: Identity, log: logging.Logger, journal: Journal, controllers: Controllers) -> None:
        self.identity = identity
        self._journal = journal
        self.commons = Commons()
        self.watch = Watch(identity, log)
        self.sender = Sender(identity, log)
        self._answers = Answers(identity, self.sender, self.watch)
        self._preparation = Preparation(self._answers, log)
        self._log = log
        self._tasks = Tasks()
        self._gathering = Gathering(controllers, self._tasks, self._send)
        self._cancels = Tasks()
        self._unwanted: dict[str, set[str]] = {}
        """The nodes on which commands are about to be cancelled."""
        self._regions: dict[str, str] = {}
        self._queue: asyncio.Future[EventQueue | None] | None = None

    def submit(self, task: CommandTask) -> None:
        """Send it, with others like it."""
        task.work.changed = lambda: self._changed(task)
        self._gathering.add(task)

    async def close(self) -> None:
        """Cancel what nobody waits for any more, and end."""
        await self._cancels.drain()
        self._tasks.cancel()
        await self._tasks.drain()
        await self.watch.close()
        if self._queue is not None and (queue := await self._queue) is not None:
            await queue.close()

    def clear_up(self) -> None:
        """Cancel what this identity had under way in a mux that was killed: nobody waits for it any more."""
        for command_id in self._journal.left_over(self._place):
            self._log.info("%s is cancelled: the mux that has sent it was killed", command_id)
            self._cancels.start(self._cancel(command_id))

    async def hear(self, topic: str) -> None:
        """Have events told by a topic, from now on; the first one that is named holds."""
        if self._queue is None:
            self._queue = asyncio.ensure_future(self._open_queue(topic))
        await asyncio.shield(self._queue)

    async def _open_queue(self, topic: str) -> EventQueue | None:
        queue = EventQueue(self.identity, topic, self.watch.ended, self.watch.is_used, self._log)
        try:
            await queue.open()
        except Exception as error:
            self._log.warning("no events, so commands are asked for: %s", self.identity.explain(error, "sqs:CreateQueue", topic))
            return None
        self.watch.events = True
        return queue

    # Batches

    async def _send(self, gathered: list[CommandTask]) -> None:
        """Those of the tasks that are still wanted; whatever happens, each is answered or tried again."""
        tasks = [task for task in gathered if self._is_wanted(task)]
        if not tasks:
            return
        try:
            await self._carry_out(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                self._lost(task, "the mux is ending", again=False)
            raise
        except RequestError as error:
            for task in tasks:
                if not task.work.ended:
                    task.fail(error.kind, str(error))
        except Exception as error:  # a defect, which must not leave workers waiting
            self._log.exception("a batch failed")
            for task in tasks:
                self._lost(task, f"internal error: {type(error).__name__}: {error}", again=False)
        finally:
            for task in tasks:
                if task.work.ended:  # others are tried again
                    task.close()

    async def _carry_out(self, tasks: list[CommandTask]) -> None:
        """All of them have the same job; the first one's bytes are sent."""
        first = tasks[0]
        bucket = await Bucket.of(self.identity, first.options, self._regions)
        nonce = secrets.token_hex(8)
        objects: list[str] = []
        expiry: asyncio.Task[None] | None = None
        try:
            prepared = await self._preparation.prepare(tasks, bucket, nonce, objects)
            if bucket is not None:
                expiry = self._tasks.start(self._preparation.clear(bucket, objects, after=bucket.url_lives))
            for task in tasks:
                if (error := prepared.failed.get(task.node_id)) is not None:
                    self._not_prepared(task, error)
            tasks = [task for task in tasks if task.node_id not in prepared.failed and self._is_wanted(task)]
            if tasks:
                await self._run(tasks, prepared)
        finally:
            if expiry is not None:
                expiry.cancel()
            if bucket is not None:
                await self._preparation.clear(bucket, objects)

    async def _run(self, tasks: list[CommandTask], prepared: Prepared) -> None:
        by_node = {task.node_id: task for task in tasks}
        for task in tasks:
            task.work.lifecycle.handed_over()
        sent = await self.sender.send(order(tasks[0], prepared.text), list(by_node))
        for node_id, error in sent.refused.items():
            by_node[node_id].work.lifecycle.undelivered()
            self._refused(by_node[node_id], error)
        for node_id, error in sent.unknown.items():
            self._lost(by_node[node_id], str(error))
        for command in sent.commands:
            self._journal.sent(command.command_id, self._place)
        ends = self._answers.follow(sent)
        for node_id, (command_id, _end) in ends.items():
            by_node[node_id].command = (command_id, prepared.nonce)
            if by_node[node_id].work.cancelled:
                self._changed(by_node[node_id])
        await asyncio.gather(*(self._settle(by_node[node_id], command_id, end, prepared) for node_id, (command_id, end) in ends.items()))
        for command in sent.commands:
            self._journal.ended(command.command_id)

    # Results

    async def _settle(self, task: CommandTask, command_id: str, end: asyncio.Future[Invocation], prepared: Prepared) -> None:
        try:
            invocation = await end
            if not invocation.was_delivered:
                task.work.lifecycle.undelivered()
                # Who had the time of delivery_timeout for it does not get it once more.
                self._lost(task, f"{task.node_id}: {invocation.reason}", again=invocation.details != "delivery_timed_out")
                return
            found = await self._answers.read(invocation, command_id, prepared.nonce)
            if found is None:
                self._without_answer(task, invocation)
            elif isinstance(found, Said):
                self._said(task, found, prepared.bucket)
            else:
                self._preparation.ran(task.node_id, prepared)
                await self._ended(task, found, prepared.bucket, prepared.nonce)
        except TrailerError as error:
            task.fail(ErrorKind.UNKNOWN_OUTCOME, f"the answer of {task.node_id} is damaged: {error}. The command was run, and was not run again")
        except RequestError as error:
            task.fail(error.kind, str(error))

    def _said(self, task: CommandTask, said: Said, bucket: Bucket | None) -> None:
        if said.word == "miss":
            self._preparation.missed(task.node_id, said.values)
            if task.work.lifecycle.refused() is Verdict.RETRY:
                self.submit(task)
            return
        if said.word == "fetch" and bucket is not None:
            text = refusals.explain(said.detail, verb="fetch", bucket=bucket.name, key=f"{bucket.prefix}/in/…")
            task.fail(ErrorKind.FAILED, f"{task.node_id}: {text}. Nothing was run")
            return
        task.said(said)

    async def _ended(self, task: CommandTask, ended: Ended, bucket: Bucket | None, nonce: str) -> None:
        streams = (ended.stdout, ended.stderr)
        if ended.data is not None:
            await task.ended(ended, streams, ended.data)
        elif ended.kept and bucket is not None:
            source = await self._collect(task, ended, bucket, nonce)
            try:
                await task.ended(ended, streams, source)
            finally:
                source.close()
        else:
            what = f"the command on {task.node_id} ended with status {ended.value}, but its output" if ended.word == "exit" else f"the file on {task.node_id}"
            task.fail(
                ErrorKind.FAILED,
                f"{what} is too long for AWS's answer ({ended.stdout.size + ended.stderr.size} bytes, {sum(ended.packed)} compressed; {script.PRINTED}"
                " characters are given): set the option bucket (ansible_ssm_bucket), through which it then comes whole, or use route: session",
            )

    async def _collect(self, task: CommandTask, ended: Ended, bucket: Bucket, nonce: str) -> IO[bytes]:
        """What a command left on its node. Doing that twice is the same as doing it once."""
        key = bucket.new_key(task.node_id, "out")
        url, headers = await bucket.url_to_put(key)
        began = f"{task.node_id}: the command ended with status {ended.value}, but its output could not be had"
        try:
            for attempt in range(task.options.reconnection_retries + 1):
                name = f"{nonce}c{attempt}"
                (answer,) = await self._answers.ask([task], script.collect_script(nonce, url, headers, name, task.options.python), name)
                if isinstance(answer, RequestError):
                    if attempt < task.options.reconnection_retries:
                        await asyncio.sleep(_RETRY_AFTER)
                        continue
                    raise RequestError(ErrorKind.FAILED, f"{began}: {answer}")
                if isinstance(answer, Said) and answer.word == "send":
                    text = refusals.explain(answer.detail, verb="send", bucket=bucket.name, key=key)
                    raise RequestError(ErrorKind.FAILED, f"{began}: {text}. It is kept on the node for three days, in run-{nonce} below fleet-ssm")
                if isinstance(answer, Said) and answer.word == "unusable":
                    text = f"{task.node_id} lacks {refusals.lacking(answer.values[0])}"
                    raise RequestError(ErrorKind.FAILED, f"{began}: {text}. It is kept on the node for three days, in run-{nonce} below fleet-ssm")
                if isinstance(answer, Said) and answer.word in ("collected", "gone"):
                    break
                raise RequestError(ErrorKind.FAILED, f"{began}: {answer}")
            return await bucket.get(key)
        finally:
            await self._preparation.delete(bucket, key)

    def _without_answer(self, task: CommandTask, invocation: Invocation) -> None:
        if invocation.details in ("cancelled", "execution_timed_out"):
            task.work.lifecycle.finished()
            task.fail(ErrorKind.FAILED, f"{task.node_id}: {invocation.reason}")
            return
        said = next((text for text in invocation.outputs.values() if text.strip()), "")
        wrote = f"; it wrote: {' '.join(said.split())[-500:]}" if said else ""
        self._lost(task, f"{task.node_id}: {invocation.reason}{wrote}")

    # What becomes of a task

    def _not_prepared(self, task: CommandTask, error: RequestError) -> None:
        """Not everything that it needs could be brought to its node."""
        if error.kind is ErrorKind.FAILED:
            task.fail(error.kind, str(error))
        else:
            self._lost(task, str(error))

    def _refused(self, task: CommandTask, error: RequestError) -> None:
        """AWS did not take it."""
        if error.kind is ErrorKind.FAILED:
            task.fail(error.kind, f"{error}. Nothing was run")
        else:
            self._lost(task, str(error), again=isinstance(error, errors.PassingError))

    def _lost(self, task: CommandTask, reason: str, *, again: bool = True) -> None:
        """There is no result: the lifecycle says what follows."""
        if task.work.ended:
            return
        verdict = Verdict.UNREACHABLE if task.work.cancelled else task.work.lifecycle.lost()
        if verdict is Verdict.RETRY and again:
            self._log.info("%s: %s; tried again", task.node_id, reason)
            self._tasks.start(self._submit_later(task))
        elif verdict is Verdict.UNKNOWN:
            task.fail(ErrorKind.UNKNOWN_OUTCOME, f"{reason}. The outcome of the command on {task.node_id} is unknown; it was not run again")
        else:
            task.fail(ErrorKind.UNREACHABLE, f"{reason}; nothing was run")

    async def _submit_later(self, task: CommandTask) -> None:
        await asyncio.sleep(_RETRY_AFTER)
        if self._is_wanted(task):
            self.submit(task)

    def _is_wanted(self, task: CommandTask) -> bool:
        if task.work.cancelled and not task.work.ended:
            task.fail(ErrorKind.UNREACHABLE, "cancelled; nothing was run")
        return not task.work.ended

    def _changed(self, task: CommandTask) -> None:
        if task.work.cancelled and task.command is not None and not task.work.ended:
            command_id = task.command[0]
            if command_id not in self._unwanted:
                self._unwanted[command_id] = set()
                self._cancels.start(self._cancel_unwanted(command_id))
            self._unwanted[command_id].add(task.node_id)

    async def _cancel_unwanted(self, command_id: str) -> None:
        await asyncio.sleep(_CANCELLED_TOGETHER)
        node_ids = self._unwanted.pop(command_id)
        await self._cancel(command_id, () if node_ids >= self.watch.awaited(command_id) else sorted(node_ids))

    async def _cancel(self, command_id: str, node_ids: Sequence[str] = ()) -> None:
        try:
            await self.sender.cancel(command_id, node_ids)
        except Exception as error:
            self._log.warning("%s", self.identity.explain(error, "ssm:CancelCommand", command_id))
            if errors.error_code(error) != "InvalidCommandId":
                return
        if not node_ids:
            self._journal.ended(command_id)

    @property
    def _place(self) -> str:
        """By which the journal of a killed mux says whose commands it holds."""
        return f"{self.identity.region} by {self.identity.label}"
