# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of one identity: equal tasks gathered into batches, brought to their nodes, and their results brought back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import IO

from ...runcommand import refusals, script, trailer
from ...runcommand.invocation import Invocation
from ...runcommand.sameness import Commons
from ...runcommand.script import Blob, Fetched, Part
from ...runcommand.trailer import Ended, Said, TrailerError
from .. import errors
from ..aws.identity import Identity
from ..controllers import Controllers
from ..errors import RequestError
from ..lifecycle import Verdict
from ..protocol import ErrorKind
from ..tasks import Tasks
from .bucket import Bucket
from .event_queue import EventQueue
from .gathering import Gathering
from .journal import Journal
from .sender import Order, Sender, Sent
from .task import PIECES_LIMIT, CommandTask
from .watch import Watch

_AT_ONCE = 3
"""Commands that bring pieces of one blob to a node at once: an agent carries out five."""

_RETRY_AFTER = 2.0
_CANCELLED_TOGETHER = 0.1
"""Seconds for which the cancel of a command on one node waits for those on others, as one call is for all of them."""

_ANSWERED_WITHIN = 60.0


class Commands:
    """All that one identity has under way."""

    def __init__(self, identity: Identity, log: logging.Logger, journal: Journal, controllers: Controllers) -> None:
        self.identity = identity
        self._journal = journal
        self.commons = Commons()
        self.watch = Watch(identity, log)
        self.sender = Sender(identity, log)
        self._log = log
        self._tasks = Tasks()
        self._gathering = Gathering(controllers, self._tasks, self._send)
        self._cancels = Tasks()
        self._unwanted: dict[str, set[str]] = {}
        """The nodes on which commands are about to be cancelled."""
        self._regions: dict[str, str] = {}
        self._queue: asyncio.Future[EventQueue | None] | None = None
        self._blobs: dict[str, set[str]] = {}
        """What nodes have, as far as is known; a node that has not says so."""

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
        try:
            text, tasks = await self._prepare(tasks, bucket, nonce, objects)
            tasks = [task for task in tasks if self._is_wanted(task)]
            if tasks:
                await self._run(tasks, text, bucket, nonce)
        finally:
            if bucket is not None:
                await asyncio.gather(*(self._delete(bucket, key) for key in objects))

    async def _prepare(self, tasks: list[CommandTask], bucket: Bucket | None, nonce: str, objects: list[str]) -> tuple[str, list[CommandTask]]:
        """The script, and the tasks for whose nodes everything is in place; the others have failed.

        :param objects: gets the keys of what was stored in the bucket.
        """
        first = tasks[0]
        private = first.is_private
        if private and bucket is None:
            raise RequestError(
                ErrorKind.OPTION,
                "a task with no_log, or a password for become, would stand in the parameters of a command, which others can read for 30 days: set the option"
                " bucket, so that it goes by an object that is deleted after use; or accept it with expose_secrets: true. Nothing was run",
            )
        parts: list[Part] = first.parts()
        if first.content.file is not None:
            if bucket is None:
                raise _too_large(first)
            parts.append(Fetched(await self._store(bucket, first.content.file, "in", objects)))
        elif script.inline_size(part for part in parts if isinstance(part, bytes)) > script.SCRIPT_LIMIT // 2 and not private:
            parts = await self._apart(parts, bucket, nonce, objects)
        job = first.job(parts)
        blobs = list(job.blobs())
        urls: dict[str, str] = {}
        if bucket is not None:
            lacking = {blob.name: blob for blob in blobs for task in tasks if blob.name not in self._blobs.get(task.node_id, ())}
            for name, blob in lacking.items():
                urls[name] = await self._store(bucket, blob.packed, "blob", objects)
        else:
            tasks = await self._bring(blobs, tasks, nonce)
        keep = bucket is not None
        text = script.script(job, nonce, keep=keep, printed=0 if private else script.PRINTED, python=first.options.python, urls=urls)
        if private or len(text) > script.SCRIPT_LIMIT:
            if bucket is None:
                raise _too_large(first)
            url = await self._store(bucket, script.packed(text), "script", objects)
            text = script.fetch_script(url, nonce, first.options.python)
        return text, tasks

    async def _apart(self, parts: list[Part], bucket: Bucket | None, nonce: str, objects: list[str]) -> list[Part]:
        """Content that is too long for a script, beside it."""
        found: list[Part] = []
        for part in parts:
            if not isinstance(part, bytes) or script.is_small(part):
                found.append(part)
                continue
            blob = Blob.passing(part, nonce)
            if bucket is not None:
                found.append(Fetched(await self._store(bucket, blob.packed, "in", objects)))
            else:
                found.append(blob)
        return found

    async def _store(self, bucket: Bucket, body: bytes | IO[bytes], what: str, objects: list[str]) -> str:
        key = bucket.new_key("in", what)
        objects.append(key)
        await bucket.put(key, body)
        return await bucket.url_to_get(key)

    async def _delete(self, bucket: Bucket, key: str) -> None:
        try:
            await bucket.delete(key)
        except RequestError as error:
            self._log.warning("an object of ours stays: %s", error)

    async def _bring(self, blobs: Sequence[Blob], tasks: list[CommandTask], nonce: str) -> list[CommandTask]:
        """Blobs to the nodes that lack them, by commands; the tasks of which that went well."""
        pieces = [(blob, number) for blob in blobs for number in range(blob.pieces)]
        if sum(len(blob.packed) for blob in blobs) > PIECES_LIMIT:
            raise _too_large(tasks[0])
        turn = asyncio.Semaphore(_AT_ONCE)
        failed: dict[str, RequestError] = {}

        async def bring(blob: Blob, number: int) -> None:
            lacking = [task for task in tasks if blob.name not in self._blobs.get(task.node_id, ()) and task.node_id not in failed]
            if not lacking:
                return
            name = f"{nonce}p{number}"
            async with turn:
                answers = await self._ask(lacking, script.piece_script(blob, number, name), name)
            for task, answer in zip(lacking, answers, strict=True):
                if isinstance(answer, RequestError):
                    failed[task.node_id] = answer
                elif not (isinstance(answer, Said) and answer.word == "brought"):
                    failed[task.node_id] = RequestError(ErrorKind.FAILED, f"{task.node_id} could not store what the command needs; nothing was run")

        await asyncio.gather(*(bring(blob, number) for blob, number in pieces))
        for task in tasks:
            if (error := failed.get(task.node_id)) is not None:
                if error.kind is ErrorKind.FAILED:
                    task.fail(error.kind, str(error))
                else:
                    self._lost(task, str(error))
            else:
                self._blobs.setdefault(task.node_id, set()).update(blob.name for blob in blobs if blob.lasts)
        return [task for task in tasks if task.node_id not in failed]

    async def _ask(self, tasks: Sequence[CommandTask], text: str, name: str) -> list[Ended | Said | RequestError]:
        """A script of our own, beside the tasks, that may be run twice: what each node said."""
        sent = await self.sender.send(self._order(tasks[0], text), [task.node_id for task in tasks])
        ends = self._follow(sent)

        async def answer(task: CommandTask) -> Ended | Said | RequestError:
            refusal = sent.refused.get(task.node_id) or sent.unknown.get(task.node_id)
            if refusal is not None:
                return refusal
            try:
                invocation = await ends[task.node_id][1]
                found = await self._read(invocation, ends[task.node_id][0], name)
            except RequestError as error:
                return error
            except TrailerError as error:
                return RequestError(ErrorKind.FAILED, str(error))
            return found or RequestError(ErrorKind.UNREACHABLE, invocation.reason)

        return list(await asyncio.gather(*(answer(task) for task in tasks)))

    async def _run(self, tasks: list[CommandTask], text: str, bucket: Bucket | None, nonce: str) -> None:
        by_node = {task.node_id: task for task in tasks}
        for task in tasks:
            task.work.lifecycle.handed_over()
        sent = await self.sender.send(self._order(tasks[0], text), list(by_node))
        for node_id, error in sent.refused.items():
            by_node[node_id].work.lifecycle.undelivered()
            self._refused(by_node[node_id], error)
        for node_id, error in sent.unknown.items():
            self._lost(by_node[node_id], str(error))
        for command in sent.commands:
            self._journal.sent(command.command_id, self._place)
        ends = self._follow(sent)
        for node_id, (command_id, _end) in ends.items():
            by_node[node_id].command = (command_id, nonce)
            if by_node[node_id].work.cancelled:
                self._changed(by_node[node_id])
        await asyncio.gather(*(self._settle(by_node[node_id], command_id, end, bucket, nonce) for node_id, (command_id, end) in ends.items()))
        for command in sent.commands:
            self._journal.ended(command.command_id)

    def _follow(self, sent: Sent) -> dict[str, tuple[str, asyncio.Future[Invocation]]]:
        return {
            node_id: (command.command_id, end)
            for command in sent.commands
            for node_id, end in self.watch.follow(command.command_id, command.node_ids, command.requested).items()
        }

    @staticmethod
    def _order(task: CommandTask, text: str) -> Order:
        return Order(task.options.command_document, text, task.options.delivery_timeout, task.options.execution_timeout, task.reason)

    # Results

    async def _settle(self, task: CommandTask, command_id: str, end: asyncio.Future[Invocation], bucket: Bucket | None, nonce: str) -> None:
        try:
            invocation = await end
            if not invocation.was_delivered:
                task.work.lifecycle.undelivered()
                # Who had the time of delivery_timeout for it does not get it once more.
                self._lost(task, f"{task.node_id}: {invocation.reason}", again=invocation.details != "delivery_timed_out")
                return
            found = await self._read(invocation, command_id, nonce)
            if found is None:
                self._without_answer(task, invocation)
            elif isinstance(found, Said):
                self._said(task, found, bucket)
            else:
                await self._ended(task, found, bucket, nonce)
        except TrailerError as error:
            task.fail(ErrorKind.UNKNOWN_OUTCOME, f"the answer of {task.node_id} is damaged: {error}. The command was run, and was not run again")
        except RequestError as error:
            task.fail(error.kind, str(error))

    def _said(self, task: CommandTask, said: Said, bucket: Bucket | None) -> None:
        if said.word == "miss":
            self._blobs.get(task.node_id, set()).difference_update(said.values)
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
                (answer,) = await self._ask([task], script.collect_script(nonce, url, headers, name, task.options.python), name)
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
            await self._delete(bucket, key)

    async def _read(self, invocation: Invocation, command_id: str, name: str) -> Ended | Said | None:
        """What our script said; `None`: it did not come to its last line. :raises TrailerError: it is damaged."""
        for text in invocation.outputs.values():
            if (found := trailer.read(text + "\n", name)) is not None:
                return found
        for step in invocation.outputs:
            answer = await self._invocation(command_id, invocation.node_id, step)
            if (found := trailer.read(answer + "\n", name)) is not None:
                return found
        return None

    async def _invocation(self, command_id: str, node_id: str, step: str) -> str:
        """stdout as far as AWS gives it."""
        failures = 0
        while True:
            try:
                answer = await self.identity.call(
                    "ssm", "get_command_invocation", deadline=asyncio.get_running_loop().time() + _ANSWERED_WITHIN, resource=command_id,
                    CommandId=command_id, InstanceId=node_id, PluginName=step,
                )  # fmt: skip
                return str(answer.get("StandardOutputContent") or "")
            except Exception as error:
                failures += 1
                if not errors.is_transient(error) or failures > 6:
                    text = self.identity.explain(error, "ssm:GetCommandInvocation", f"{command_id} on {node_id}")
                    raise RequestError(ErrorKind.UNKNOWN_OUTCOME, f"the command ended, but what it did cannot be known: {text}") from error
                await asyncio.sleep(min(10.0, 0.5 * 2.0**failures))

    def _without_answer(self, task: CommandTask, invocation: Invocation) -> None:
        if invocation.details in ("cancelled", "execution_timed_out"):
            task.work.lifecycle.finished()
            task.fail(ErrorKind.FAILED, f"{task.node_id}: {invocation.reason}")
            return
        said = next((text for text in invocation.outputs.values() if text.strip()), "")
        wrote = f"; it wrote: {' '.join(said.split())[-500:]}" if said else ""
        self._lost(task, f"{task.node_id}: {invocation.reason}{wrote}")

    # What becomes of a task

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


def _too_large(task: CommandTask) -> RequestError:
    return RequestError(
        ErrorKind.FAILED,
        f"{task.size} bytes for {task.node_id} are too many to go within commands: set the option bucket (ansible_ssm_bucket), for them to go through,"
        " or use route: session. Nothing was run",
    )
