# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One work on its way to a node by Run Command: from its request to a job that equal works share, and from what the node said to its result."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO

from ...runcommand import refusals, sameness, script
from ...runcommand.sameness import Common, Commons
from ...runcommand.script import Blob, Job, Part
from ...runcommand.trailer import Ended, Said, Stream, TrailerError
from ..errors import RequestError
from ..protocol import ErrorKind, FrameType
from ..request import ConnectionOptions
from ..work import Exec, Get, Put, Work
from .content import Content

_PIECE = 64 * 1024
_AHEAD = 4 * _PIECE
"""Bytes of output that may wait in the mux for a slow worker."""

PIECES_LIMIT = 1 << 20
"""Bytes of compressed content that are brought by commands, where there is no bucket: some twenty of them."""

_WORDS = {
    "EISDIR": "Is a directory",
    "EINVAL": "Not a regular file",
    "EACCES": "Permission denied",
    "ENOSPC": "No space left on the node's disk, or it failed",
    "EBADMSG": "other bytes arrived than were sent",
    "EIO": "Input/output error",
}


@dataclass(eq=False)
class CommandTask:
    """A work, the job that it is, and what is to be known for its result."""

    work: Work
    node_id: str
    options: ConnectionOptions
    content: Content
    common: Common | None
    key: bytes
    """Equal tasks of several nodes may share a SendCommand."""
    reason: str
    """Who runs what, for those who look at commands."""
    command: tuple[str, str] | None = field(default=None)
    """The command that carries it: its id, and its name in the script."""

    @classmethod
    def of(cls, work: Work, node_id: str, options: ConnectionOptions, content: Content, commons: Commons, reason: str) -> CommandTask:
        """:raises RequestError: it cannot be carried out by this route."""
        action = work.action
        common = None
        subject: bytes
        if isinstance(action, Exec):
            subject = _bytes(action.command)
            if len(subject) > script.LONGEST_COMMAND:
                raise RequestError(ErrorKind.FAILED, f"the command is too long: {len(subject)} bytes; the limit of a node is {script.LONGEST_COMMAND}")
            common = commons.of(action.command, content.data)
            subject = _bytes(common.command)
        else:
            subject = _bytes(action.path)
        mode = action.mode if isinstance(action, Put) else None
        what = [type(action).__name__.encode(), subject, f"{mode} {action.private}".encode()]
        if common is not None and common.payload is not None:
            what += [common.payload.head, common.payload.params, common.payload.tail]
        else:
            what.append(content.sha256)
        what.append(repr(_sending(options)).encode())
        return cls(work, node_id, options, content, common, sameness.digest(*what), reason)

    @property
    def is_private(self) -> bool:
        """Whether it may not stand in a command's parameters or its printed output, which others can read later."""
        return self.work.action.private and not self.options.expose_secrets

    @property
    def size(self) -> int:
        """Bytes of the command and its input, or of the file."""
        action = self.work.action
        return self.content.size + (len(_bytes(action.command)) if isinstance(action, Exec) else 0)

    def parts(self) -> list[Part]:
        """The content but for what is in a file: code of modules apart, as nodes keep that."""
        if self.common is not None and (payload := self.common.payload) is not None:
            head, tail = (part if script.is_small(part) else Blob.lasting(part) for part in (payload.head, payload.tail))
            return [head, payload.params, tail]
        return [self.content.data] if self.content.data else []

    def job(self, content: list[Part]) -> Job:
        """With this content."""
        action = self.work.action
        if isinstance(action, Exec):
            return script.exec_job(_bytes(self.common.command if self.common is not None else action.command), content)
        if isinstance(action, Put):
            return script.put_job(_bytes(action.path), action.mode, self.content.size, self.content.sha256.hex(), content)
        return script.get_job(_bytes(action.path))

    # Its result

    def said(self, trailer: Said) -> None:
        """It did not begin, or was a put that is over."""
        action = self.work.action
        if trailer.word == "stored" and isinstance(action, Put):
            digest = trailer.values[1] if trailer.values[1] != "-" else None
            self.work.finish(FrameType.DONE, size=int(trailer.values[0]), sha256=digest, mode=None)
        elif trailer.word == "failed":
            self._refused(trailer.values[0])
        elif trailer.word == "unusable":
            self.fail(ErrorKind.FAILED, f"{self.node_id} lacks {refusals.lacking(trailer.values[0])}. Nothing was run")
        elif trailer.word == "full":
            self.fail(ErrorKind.FAILED, f"the command on {self.node_id} ended with status {trailer.values[0]}, but its output is lost: the node's disk is full")
        elif trailer.word == "again":
            self.fail(
                ErrorKind.UNKNOWN_OUTCOME,
                f"{self.node_id} was given the command once more, after a restart of the node or its agent: it was not run again, and its outcome is unknown",
            )
        else:
            self.fail(ErrorKind.UNKNOWN_OUTCOME, f"{self.node_id} answered what cannot be understood: {trailer.word}")

    def _refused(self, code: str) -> None:
        action = self.work.action
        if isinstance(action, Exec):
            self.fail(ErrorKind.FAILED, f"{self.node_id}: {_WORDS.get(code, code)}; nothing was run")
            return
        if code == "ENOENT" and isinstance(action, Put):
            self.fail(ErrorKind.FAILED, f"No such directory: {action.path.rpartition('/')[0] or '/'} (for {action.path})")
            return
        missing = code == "ENOENT"
        words = "No such file or directory" if missing else _WORDS.get(code, code)
        self.fail(ErrorKind.NOT_FOUND if missing else ErrorKind.FAILED, f"{action.path}: {words}")

    async def ended(self, trailer: Ended, streams: tuple[Stream, Stream], source: tuple[bytes, bytes] | IO[bytes]) -> None:
        """It ran, or a file was read; the streams as they are, or compressed in a file, one after the other."""
        if self.work.ended:
            return
        self.work.lifecycle.output_passed_on()
        if isinstance(source, tuple):
            for kind, data in zip((FrameType.STDOUT, FrameType.STDERR), source, strict=True):
                if data:
                    self.work.sink.output(kind, self._own(data) if kind is FrameType.STDOUT else data)
        else:
            await self._pass_on(source, trailer.packed, streams)
        if isinstance(self.work.action, Get):
            mode = int(trailer.value, 8) if trailer.value != "-" else None
            self.work.finish(FrameType.DONE, size=streams[0].size, sha256=streams[0].sha256 if streams[0].sha256 != "-" else None, mode=mode)
        else:
            self.work.finish(FrameType.EXITED, returncode=int(trailer.value), signal=None)

    async def _pass_on(self, source: IO[bytes], packed: tuple[int, int], streams: tuple[Stream, Stream]) -> None:
        """:raises TrailerError: it is not what the node has counted."""
        room = asyncio.Event()
        waiting = 0

        def consumed(count: int) -> None:
            nonlocal waiting
            waiting -= count
            room.set()

        self.work.consumed = consumed
        self.work.changed = room.set
        for kind, size, stream in zip((FrameType.STDOUT, FrameType.STDERR), packed, streams, strict=True):
            seen, count, first = hashlib.sha256(), 0, True
            async for piece in _unpacked(source, size):
                seen.update(piece)
                count += len(piece)
                if first and kind is FrameType.STDOUT:
                    piece = self._own(piece)
                first = False
                waiting += len(piece)
                self.work.sink.output(kind, piece)
                while waiting > _AHEAD and not self.work.cancelled and not self.work.ended:
                    room.clear()
                    await room.wait()
            if count != stream.size or stream.sha256 not in ("-", seen.hexdigest()):
                raise TrailerError(f"{count} bytes arrived of {stream.size}, or with another hash")

    def _own(self, stdout: bytes) -> bytes:
        return self.common.own_output(stdout) if self.common is not None else stdout

    def fail(self, kind: ErrorKind, message: str) -> None:
        """It ends without a result."""
        self.close()
        self.work.fail(RequestError(kind, message))

    def close(self) -> None:
        """Its content is not needed any more."""
        self.content.close()


async def _unpacked(source: IO[bytes], size: int) -> AsyncIterator[bytes]:
    """So many bytes of a file, which are gzip's, as what they stand for. :raises TrailerError: they are damaged."""
    packer = zlib.decompressobj(31)
    while size > 0 and (packed := source.read(min(size, _PIECE))):
        size -= len(packed)
        try:
            while packed:
                if piece := packer.decompress(packed, _PIECE):
                    yield piece
                packed = packer.unconsumed_tail
        except zlib.error as error:
            raise TrailerError(f"the output is damaged: {error}") from error
        await asyncio.sleep(0)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sending(options: ConnectionOptions) -> tuple[object, ...]:
    """What decides how it is sent."""
    return (
        options.command_document, options.delivery_timeout, options.execution_timeout, options.python, options.expose_secrets,
        options.bucket, options.bucket_prefix, options.bucket_region, options.bucket_sse_mode, options.bucket_sse_kms_key_id,
    )  # fmt: skip
