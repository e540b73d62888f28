# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input of a work for a route that can send it only as a whole: collected, compressed if it is large, counted and hashed."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zlib
from typing import IO

from ..work import Exec, Work

_PIECE = 128 * 1024
IN_MEMORY = 1 << 20
"""Bytes up to which content is kept as it is. What is larger goes compressed into a file without a name."""


class Cancelled(Exception):
    """Nobody waits for the work any more."""


class Content:
    """What was collected: `data`, or, if it is large, `file` (compressed)."""

    def __init__(self) -> None:
        self.size = 0
        self.data = b""
        self.file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._packer = zlib.compressobj(1, zlib.DEFLATED, 31)  # 31: with gzip's header

    @property
    def sha256(self) -> bytes:
        """Of the bytes as they came."""
        return self._hash.digest()

    def add(self, piece: bytes) -> None:
        """Some more of it."""
        self.size += len(piece)
        self._hash.update(piece)
        if self.file is not None:
            self.file.write(self._packer.compress(piece))
        elif self.size <= IN_MEMORY:
            self.data += piece
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
            self.file.write(self._packer.compress(self.data + piece))
            self.data = b""

    def finish(self) -> None:
        """That was all."""
        if self.file is not None:
            self.file.write(self._packer.flush())
            self.file.seek(0)

    def close(self) -> None:
        """It is not needed any more."""
        if self.file is not None:
            self.file.close()


async def collect(work: Work) -> Content:
    """All input of a work, its payload included. :raises Cancelled: it was cancelled meanwhile."""
    content = Content()
    more = asyncio.Event()
    work.changed = more.set
    try:
        while True:
            if work.cancelled:
                raise Cancelled
            if piece := bytes(work.input[:_PIECE]):
                del work.input[:_PIECE]
                content.add(piece)
                work.sink.credit(len(piece))
                await asyncio.sleep(0)  # others have their turn
            elif work.input_ended:
                break
            else:
                more.clear()
                await more.wait()
    except BaseException:
        content.close()
        raise
    finally:
        work.detach()
    if isinstance(work.action, Exec) and work.action.payload:
        content.add(work.action.payload)
    content.finish()
    return content
