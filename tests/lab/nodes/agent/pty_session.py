# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions on a PTY: the standard shell and InteractiveCommands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess

from .datachannel import PAYLOAD, Taken
from .document import STANDARD_STREAM
from .message import OUTPUT, SIZE, Message
from .output import OutputStream
from .plugin import Plugin, Result
from .processes import set_size, start_on_pty
from .waiting import ended, readable

_FIRST_OUTPUT = 1.0  #: seconds that the agent sleeps before it reads the PTY for the first time
_PAUSE = 0.001  #: seconds that it sleeps after each payload
_READ = 4096  #: size of its read buffer


class PtySession(Plugin):
    """Input goes to the PTY and is acknowledged when written; output comes in small payloads, slowly."""

    _process: subprocess.Popen[bytes]
    _master: int
    _unwritten: memoryview | None = None

    async def run(self) -> Result:
        try:
            self._process, self._master = start_on_pty(self.order, self.config.work_dir)
        except (OSError, ValueError) as error:
            return await self.failed_to_start(error)
        self.channel.on_input = self._take
        pump = asyncio.create_task(self._pump())
        if self.order.session_type == STANDARD_STREAM and self.order.shell_profile.strip():
            os.write(self._master, self.order.shell_profile.encode() + b"\n")
        try:
            if await self.until_cancelled(pump):
                self._process.send_signal(signal.SIGKILL)
            else:
                await self.channel.drained()
                self.channel.send_state("Terminating")
                await ended(self._process.pid)
        finally:
            self._close()  # SIGHUP to what still has the terminal
        self._process.wait()
        return Result("Success")

    def _close(self) -> None:
        asyncio.get_running_loop().remove_writer(self._master)
        self.channel.on_input = lambda message: Taken.REJECTED
        os.close(self._master)

    async def _pump(self) -> None:
        """PTY to channel, until no process has the PTY open."""
        output = OutputStream(self.channel, self.cipher, OUTPUT)
        await asyncio.sleep(_FIRST_OUTPUT)
        buffer = b""
        while True:
            await self.channel.flowing()
            if not buffer:
                try:
                    buffer = os.read(self._master, _READ)
                except BlockingIOError:
                    await readable(self._master)
                    continue
                except OSError:
                    return
                if not buffer:
                    return
            output.write(buffer[:PAYLOAD])
            buffer = buffer[PAYLOAD:]
            await asyncio.sleep(_PAUSE)

    def _take(self, message: Message) -> Taken:
        if message.payload_type == OUTPUT:
            data = self.cipher.decrypt(message.payload) if self.cipher else message.payload
            return self._write(memoryview(data))
        if message.payload_type == SIZE:
            size = json.loads(message.payload)
            set_size(self._master, size["cols"], size["rows"])
        return Taken.YES  # flags are for port sessions

    def _write(self, data: memoryview) -> Taken:
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        except OSError:
            return Taken.REJECTED
        if written == len(data):
            return Taken.YES
        self._unwritten = data[written:]
        asyncio.get_running_loop().add_writer(self._master, self._write_on)
        return Taken.BLOCKED

    def _write_on(self) -> None:
        """The PTY takes more of the message that blocked."""
        assert self._unwritten is not None
        try:
            written = os.write(self._master, self._unwritten)
        except BlockingIOError:
            return
        except OSError:
            written = len(self._unwritten)  # nobody reads any more: the session is about to end
        self._unwritten = self._unwritten[written:]
        if not self._unwritten:
            self._unwritten = None
            asyncio.get_running_loop().remove_writer(self._master)
            self.channel.input_taken()
