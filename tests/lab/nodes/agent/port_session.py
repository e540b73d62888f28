# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port sessions: one TCP connection, raw both ways. The multiplexed form of local port forwarding is not spoken."""

from __future__ import annotations

import asyncio
import socket
import struct

from .datachannel import PAYLOAD, Taken
from .message import FLAG, OUTPUT, Message
from .plugin import Plugin, Result

_PAUSE = 0.001
_DISCONNECT, _TERMINATE, _CONNECT_ERROR = 1, 2, 3


class PortSession(Plugin):
    """Connects to `portNumber` of `host` (default: the node itself)."""

    _writer: asyncio.StreamWriter

    async def run(self) -> Result:
        properties = self.order.properties or {}
        host, port = properties.get("host") or "localhost", properties.get("portNumber") or ""
        try:
            reader, self._writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
        except (OSError, ValueError) as error:
            self.channel.send(FLAG, struct.pack(">I", _CONNECT_ERROR))
            return Result("Failed", f"Unable to connect to specified port: {error}")
        self.channel.on_input = self._take
        try:
            if not await self.until_cancelled(asyncio.create_task(self._pump(reader))):
                await self.channel.drained()
                self.channel.send_state("Terminating")
        finally:
            self._writer.close()
        return Result("Success")

    async def _pump(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(PAYLOAD):
            await self.channel.flowing()
            self.channel.send(OUTPUT, data)
            await asyncio.sleep(_PAUSE)

    def _take(self, message: Message) -> Taken:
        if message.payload_type == OUTPUT:
            self._writer.write(message.payload)
        elif message.payload_type == FLAG:
            (flag,) = struct.unpack(">I", message.payload)
            if flag == _TERMINATE:
                self.cancelled.set()
            elif flag == _DISCONNECT:
                self._writer.close()
        return Taken.YES
