# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of a given latency, for programs on one machine: TCP relays in user space.

Every transport of the bench goes through such relays, at latency 0 too, so that all pay the same and are counted the same way.
Not every kernel has netem, and netem on loopback would delay both directions of everything else as well.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

CHUNK = 65_536
IN_FLIGHT = 16 * 1024 * 1024
"""Bytes that may be on the way in one direction of one connection: more than 3 Gbit/s at 20 ms."""


class Pipe:
    """One direction of one connection: what comes in goes out ``latency`` seconds later, in order."""

    def __init__(self, latency: Callable[[], float], count: Callable[[int], None]) -> None:
        self._latency = latency
        self._count = count
        self._queue: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def fill(self, reader: asyncio.StreamReader, not_before: float) -> None:
        """Take what the sender sends; nothing counts as sent before the loop time ``not_before``."""
        loop = asyncio.get_running_loop()
        while True:
            await self._room.wait()
            try:
                data = await reader.read(CHUNK)
            except ConnectionError:
                data = b""
            self._queue.append((max(loop.time(), not_before) + self._latency(), data))
            self._bytes += len(data)
            self._changed.set()
            if self._bytes >= IN_FLIGHT:
                self._room.clear()
            if not data:
                return
            self._count(len(data))

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Hand on each chunk when its time has come; at the end of the stream close this direction only."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._queue.popleft()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            self._bytes -= len(data)
            if self._bytes < IN_FLIGHT:
                self._room.set()


class Network:
    """Relays with one common latency (seconds, one way), served by a thread; ``wire_bytes`` counts both directions of all."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.wire_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._ports: dict[int, int] = {}

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def port_to(self, port: int) -> int:
        """The loopback port that leads to another loopback port by way of this network."""
        if port not in self._ports:
            self._ports[port] = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result()
        return self._ports[port]

    async def _listen(self, port: int) -> int:
        server = await asyncio.start_server(lambda reader, writer: self._relay(reader, writer, port), "127.0.0.1", 0, backlog=1024)
        listening: int = server.sockets[0].getsockname()[1]
        return listening

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        # TCP's own handshake takes a round trip before the client may send, and half of one more before the server has accepted.
        accepted = asyncio.get_running_loop().time()
        await asyncio.sleep(3 * self.latency)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        there, back = Pipe(lambda: self.latency, self._add), Pipe(lambda: self.latency, self._add)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(there.fill(reader, accepted + 2 * self.latency))
                tasks.create_task(there.drain(far_writer))
                tasks.create_task(back.fill(far_reader, 0.0))
                tasks.create_task(back.drain(writer))
        except* OSError:
            pass  # an end that is gone
        finally:
            writer.close()
            far_writer.close()

    def _add(self, count: int) -> None:
        self.wire_bytes += count
