# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NonInteractiveCommands: no PTY, no shell, no input; output merged and late, or separate and streamed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from .datachannel import PAYLOAD, DataChannel, Taken
from .message import EXIT_CODE, OUTPUT, STDERR, Message
from .output import OutputStream
from .plugin import Plugin, Result
from .processes import exit_code, start_into_file, start_with_pipes
from .waiting import ended

_SIGNALS = {0x03: signal.SIGINT, 0x1C: signal.SIGQUIT}  #: the only input that has an effect
_PAUSE = 0.001  #: seconds between two payloads of merged output
_ERROR_PAUSE = 1.0  #: seconds before an error is sent
_BULK = 65536  #: bytes read from a pipe at once: sent as the agent's payloads, but with fewer calls


class ExecSession(Plugin):
    """What both forms share."""

    _process: subprocess.Popen[bytes] | None = None

    def take(self, message: Message) -> Taken:
        """Input is looked at for control characters only."""
        if message.payload_type == OUTPUT and self._process is not None:
            data = self.cipher.decrypt(message.payload) if self.cipher else message.payload
            for byte in data:
                if byte in _SIGNALS:
                    self._process.send_signal(_SIGNALS[byte])
                    break
        return Taken.YES

    def start(self, starter: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Start the command. Raises OSError, ValueError."""
        self.channel.on_input = self.take
        self._process = starter()

    async def failed_to_exec(self, error: OSError) -> Result:
        """The program is not there: told on the error stream, after a pause."""
        text = f"Error occurred starting the command: {error}\n"
        await self.send_error(text)
        await self.finish()
        return Result("Failed", text)

    async def failed_before(self, error: Exception) -> Result:
        """User or command line are wrong: told on the error stream, after two pauses."""
        result = await self.failed_to_start(error)
        await self.send_error(result.output)
        return result

    async def send_error(self, text: str) -> None:
        await asyncio.sleep(_ERROR_PAUSE)
        self.channel.send(STDERR, self.cipher.encrypt(text.encode()) if self.cipher else text.encode())

    async def finish(self) -> None:
        await self.channel.drained()
        self.channel.send_state("Terminating")


class MergedExecSession(ExecSession):
    """Both outputs go to a file, which is sent once the command has ended."""

    async def run(self) -> Result:
        path = Path(self.config.state_dir, "orchestration", self.order.session_id, "output")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.start(lambda: start_into_file(self.order, self.config.work_dir, path))
        except OSError as error:
            return await self.failed_to_exec(error)
        except ValueError as error:
            return await self.failed_before(error)
        assert self._process is not None
        try:
            if await self.until_cancelled(asyncio.create_task(ended(self._process.pid))):
                self._process.kill()
            await self._send_file(path)
        finally:
            path.unlink()
            path.parent.rmdir()
        await self.finish()
        return Result("Success")

    async def _send_file(self, path: Path) -> None:
        output = OutputStream(self.channel, self.cipher, OUTPUT)
        with path.open("rb") as file:
            while True:
                await self.channel.flowing()
                chunk = file.read(PAYLOAD)
                if not chunk:
                    return
                output.write(chunk)
                await asyncio.sleep(_PAUSE)


class SeparateExecSession(ExecSession):
    """Two streams, sent as they come, and the exit code."""

    async def run(self) -> Result:
        pipes: list[int] = []

        def starter() -> subprocess.Popen[bytes]:
            process, *descriptors = start_with_pipes(self.order, self.config.work_dir)
            pipes.extend(descriptors)
            return process

        try:
            self.start(starter)
        except OSError as error:
            self._send_exit_code(1)
            return await self.failed_to_exec(error)
        except ValueError as error:
            return await self.failed_before(error)
        assert self._process is not None
        streams = [
            _Stream(self.channel, pipe, OutputStream(self.channel, self.cipher, kind, prefix))
            for pipe, kind, prefix in zip(
                pipes, (OUTPUT, STDERR), (self.order.stdout_prefix, self.order.stderr_prefix), strict=True
            )
        ]

        def resume() -> None:
            for stream in streams:
                stream.resume()

        self.channel.on_relief = resume
        status = "Success"
        if await self.until_cancelled(asyncio.create_task(self._all_sent(streams, self._process))):
            self._process.kill()
        else:
            if not all(stream.whole for stream in streams):
                status = "Failed"
            if not self.channel.paused:
                self._send_exit_code(exit_code(self._process))
        for stream in streams:
            stream.close()
        await self.finish()
        return Result(status)

    async def _all_sent(self, streams: list[_Stream], process: subprocess.Popen[bytes]) -> None:
        for stream in streams:
            await stream.done.wait()
        await ended(process.pid)

    def _send_exit_code(self, code: int) -> None:
        OutputStream(self.channel, self.cipher, EXIT_CODE).write(b"EXIT_CODE: %d" % code)


class _Stream:
    """One pipe of the command.

    A pause of the channel ends it: one more payload is read and kept for retransmission, all that follows is lost,
    and the exit code is sent nevertheless. So does the agent.
    """

    def __init__(self, channel: DataChannel, pipe: int, output: OutputStream) -> None:
        self._channel, self._pipe, self._output = channel, pipe, output
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.whole = True  #: nothing was lost
        self._loop.add_reader(pipe, self._readable)

    def resume(self) -> None:
        if not self.done.is_set():
            self._loop.add_reader(self._pipe, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)

    def _readable(self) -> None:
        if self._channel.congested:
            self._loop.remove_reader(self._pipe)
            return
        paused = self._channel.paused
        try:
            data = os.read(self._pipe, PAYLOAD if paused else _BULK)
        except BlockingIOError:
            return
        if data:
            self._output.write(data)
        if paused or not data:
            self.whole = self.whole and not data
            self._loop.remove_reader(self._pipe)
            self.done.set()
