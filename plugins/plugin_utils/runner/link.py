# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a RunnerClient speaks to one kind of runner."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from .events import Event
from .frames import CHUNK
from .requests import Request


class Link(Protocol):
    """One dialect. Everything is queued; ``take`` gives the bytes for the PTY."""

    def receive(self, line: bytes, carrier: int) -> Iterator[Event]:
        """What one line from the node means; nothing if it is no line of the runner."""

    def submit(self, request: Request) -> None: ...
    def data(self, id_: int, data: bytes) -> None: ...

    def eof(self, id_: int, sha256: bytes) -> None:
        """``sha256`` of everything given to ``data``."""

    def tty_input(self, id_: int, data: bytes) -> None: ...
    def extension(self, type_: int, id_: int, payload: bytes) -> None: ...
    def load(self, name: str, source: bytes) -> None: ...
    def cancel(self, id_: int) -> None: ...
    def credit(self, id_: int, size: int) -> None: ...

    def drop(self, id_: int) -> None:
        """The request has ended: nothing more goes to it."""

    def use(self, carrier: int) -> None: ...
    def offer(self, carrier: int) -> None: ...
    def ping(self) -> None: ...
    def shutdown(self) -> None: ...
    def take(self, limit: int) -> bytes: ...


class Backlog:
    """Data of several requests on its way to the node; each in turn gets one chunk, and its end after its last byte."""

    def __init__(self) -> None:
        self._chunks: dict[int, deque[bytes]] = {}
        self._ends: dict[int, bytes] = {}

    def add(self, id_: int, data: bytes) -> None:
        queue = self._chunks.setdefault(id_, deque())
        queue.extend(data[at : at + CHUNK] for at in range(0, len(data), CHUNK))

    def end(self, id_: int, sha256: bytes) -> None:
        self._chunks.setdefault(id_, deque())
        self._ends[id_] = sha256

    def drop(self, id_: int) -> None:
        self._chunks.pop(id_, None)
        self._ends.pop(id_, None)

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def pop(self) -> tuple[int, bytes | None, bytes | None]:
        """The next request's id, its chunk if it has one, and the hash given to ``end`` if that was the last."""
        id_, queue = next(iter(self._chunks.items()))
        del self._chunks[id_]
        chunk = queue.popleft() if queue else None
        if queue:
            self._chunks[id_] = queue
            return id_, chunk, None
        return id_, chunk, self._ends.pop(id_, None)
