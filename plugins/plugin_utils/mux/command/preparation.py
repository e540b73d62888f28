# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job needs on its nodes before it can run: its content, within the script, in a bucket, or brought in pieces by earlier commands."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from ...runcommand import script
from ...runcommand.script import Blob, Fetched, Part
from ...runcommand.trailer import Said
from ..errors import RequestError
from ..protocol import ErrorKind
from .answers import Answers
from .bucket import Bucket
from .task import PIECES_LIMIT, CommandTask

_AT_ONCE = 3
"""Commands that bring pieces of one blob to a node at once: an agent carries out five."""


@dataclass(frozen=True)
class Prepared:
    """A job as it can be sent."""

    text: str = field(repr=False)
    """The script."""
    nonce: str
    bucket: Bucket | None
    blobs: Collection[str]
    """Names of what is on a node once it has run."""
    failed: Mapping[str, RequestError]
    """Nodes on which not everything is in place for it, with the reason."""


class Preparation:
    """For the jobs of one identity."""

    def __init__(self, answers: Answers, log: logging.Logger) -> None:
        self._answers = answers
        self._log = log
        self._blobs: dict[str, set[str]] = {}
        """What nodes have, as far as is known; a node that has not says so."""

    def missed(self, node_id: str, names: Iterable[str]) -> None:
        """A node says that it has not what it was thought to have."""
        self._blobs.get(node_id, set()).difference_update(names)

    def ran(self, node_id: str, prepared: Prepared) -> None:
        """A node has run it."""
        self._blobs.setdefault(node_id, set()).update(prepared.blobs)

    async def prepare(self, tasks: Sequence[CommandTask], bucket: Bucket | None, nonce: str, objects: list[str]) -> Prepared:
        """For tasks that have the same job.

        :param objects: gets the keys of what was stored in the bucket.
        :raises RequestError: there is no way for what is to be sent.
        """
        first = tasks[0]
        private = first.is_private
        if private and bucket is None:
            raise RequestError(
                ErrorKind.OPTION,
                "a task with no_log, or a password for become, would stand in the parameters of a command, which others can read for 30 days: set the option"
                " bucket, so that it goes by an object that is deleted after use; or accept it with expose_secrets: true. Nothing was run",
            )
        hides = bucket is not None and not first.options.expose_secrets
        parts: list[Part] = first.parts()
        if first.content.file is not None:
            if bucket is None:
                raise _too_large(first)
            parts.append(Fetched(await self._store(bucket, first.content.file, "in", objects)))
        elif not private and (hides or script.inline_size(part for part in parts if isinstance(part, bytes)) > script.SCRIPT_LIMIT // 2):
            parts = await self._apart(parts, bucket, nonce, objects)
        job = first.job(parts)
        blobs = list(job.blobs())
        urls: dict[str, str] = {}
        failed: dict[str, RequestError] = {}
        if bucket is not None:
            lacking = {blob.name: blob for blob in blobs for task in tasks if blob.name not in self._blobs.get(task.node_id, ())}
            for name, blob in lacking.items():
                urls[name] = await self._store(bucket, blob.packed, "blob", objects)
        else:
            failed = await self._bring(blobs, tasks, nonce)
        keep = bucket is not None
        text = script.script(job, nonce, keep=keep, printed=0 if private else script.PRINTED, python=first.options.python, urls=urls)
        if private or len(text) > script.SCRIPT_LIMIT:
            if bucket is None:
                raise _too_large(first)
            url = await self._store(bucket, script.packed(text.encode()), "script", objects)
            text = script.fetch_script(url, nonce, first.options.python)
        return Prepared(text, nonce, bucket, [blob.name for blob in blobs if blob.lasts], failed)

    async def _apart(self, parts: list[Part], bucket: Bucket | None, nonce: str, objects: list[str]) -> list[Part]:
        """Content that is too long for a script, or must not stand in one, beside it: with a bucket, all of it but for what nodes keep."""
        if bucket is None:
            return [Blob.passing(part, nonce) if isinstance(part, bytes) and not script.is_small(part) else part for part in parts]
        found: list[Part] = []
        for passing, group in itertools.groupby(parts, lambda part: isinstance(part, bytes)):
            if passing:
                content = b"".join(part for part in group if isinstance(part, bytes))
                found.append(Fetched(await self._store(bucket, script.packed(content), "in", objects)))
            else:
                found += group
        return found

    async def _store(self, bucket: Bucket, body: bytes | IO[bytes], what: str, objects: list[str]) -> str:
        key = bucket.new_key("in", what)
        objects.append(key)
        await bucket.put(key, body)
        return await bucket.url_to_get(key)

    async def clear(self, bucket: Bucket, keys: list[str], *, after: float = 0.0) -> None:
        """Remove objects that no node needs any more or, after so many seconds, could fetch."""
        await asyncio.sleep(after)
        await asyncio.gather(*(self.delete(bucket, key) for key in keys))
        keys.clear()

    async def delete(self, bucket: Bucket, key: str) -> None:
        """Remove an object of ours."""
        try:
            await bucket.delete(key)
        except RequestError as error:
            self._log.warning("an object of ours stays: %s", error)

    async def _bring(self, blobs: Sequence[Blob], tasks: Sequence[CommandTask], nonce: str) -> dict[str, RequestError]:
        """Blobs to the nodes that lack them, by commands; why it did not go well, by node."""
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
                answers = await self._answers.ask(lacking, script.piece_script(blob, number, name), name)
            for task, answer in zip(lacking, answers, strict=True):
                if isinstance(answer, RequestError):
                    failed[task.node_id] = answer
                elif not (isinstance(answer, Said) and answer.word == "brought"):
                    failed[task.node_id] = RequestError(ErrorKind.FAILED, f"{task.node_id} could not store what the command needs; nothing was run")

        await asyncio.gather(*(bring(blob, number) for blob, number in pieces))
        for task in tasks:
            if task.node_id not in failed:
                self._blobs.setdefault(task.node_id, set()).update(blob.name for blob in blobs if blob.lasts)
        return failed


def _too_large(task: CommandTask) -> RequestError:
    return RequestError(
        ErrorKind.FAILED,
        f"{task.size} bytes for {task.node_id} are too many to go within commands: set the option bucket (ansible_ssm_bucket), for them to go through,"
        " or use route: session. Nothing was run",
    )
