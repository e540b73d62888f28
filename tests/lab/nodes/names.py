# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A name server for nodes with a real agent: S3's names are this machine, nothing else is known.

The agent's SDK puts the bucket into the host name, so that S3 cannot be an address; its names cannot stand in a file
either, as there is one for each bucket. Answers are those of RFC 1035 in the little that is asked here.
"""

from __future__ import annotations

import asyncio
import random
import re
import struct

_S3 = re.compile(r"([a-z0-9.-]+\.)?s3[.-]([a-z0-9-]+\.)?amazonaws\.com")
_HEADER = struct.Struct(">6H")
_A = 1
_ANSWER_FLAGS = 0x8580  #: a response, authoritative, recursion available
_NO_SUCH_NAME = 3
_TRIES = 50


class NameServer:
    """Answers on port 53 of a loopback address of its own, which stays the same over restarts. Needs root."""

    def __init__(self) -> None:
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Begin, unless it has begun. Raises OSError."""
        if self._transport is not None:
            return
        loop = asyncio.get_running_loop()
        for attempt in range(_TRIES):
            address = self.address or f"127.0.{random.randint(1, 254)}.{random.randint(2, 254)}"
            try:
                self._transport, _protocol = await loop.create_datagram_endpoint(_Protocol, local_addr=(address, 53))
            except OSError:
                if self.address or attempt == _TRIES - 1:
                    raise
                continue
            self.address = address
            return

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None


class _Protocol(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = answer(data)
        if reply:
            self._transport.sendto(reply, addr)


def answer(query: bytes) -> bytes:
    """The answer to a query; nothing for what is none."""
    if len(query) < _HEADER.size:
        return b""
    number, _flags, questions, *_counts = _HEADER.unpack_from(query)
    labels, place = [], _HEADER.size
    try:
        while length := query[place]:
            labels.append(query[place + 1 : place + 1 + length].decode("ascii"))
            place += 1 + length
        (kind,) = struct.unpack_from(">H", query, place + 1)
    except (IndexError, UnicodeDecodeError, struct.error):
        return b""
    if questions != 1:
        return b""
    question = query[_HEADER.size : place + 5]
    if not _S3.fullmatch(".".join(labels).lower()):
        return _HEADER.pack(number, _ANSWER_FLAGS | _NO_SUCH_NAME, 1, 0, 0, 0) + question
    if kind != _A:
        return _HEADER.pack(number, _ANSWER_FLAGS, 1, 0, 0, 0) + question
    record = struct.pack(">3HIH4B", 0xC00C, _A, 1, 60, 4, 127, 0, 0, 1)
    return _HEADER.pack(number, _ANSWER_FLAGS, 1, 1, 0, 0) + question + record
