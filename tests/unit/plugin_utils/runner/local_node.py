# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node without a service: the session's command in a real PTY, and what the agent does to its output."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shlex
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import PTY, RunnerClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import (
    Event,
    Exited,
    Failed,
    GotFile,
    Message,
    ProtocolError,
    PutFile,
    Ready,
    Stderr,
    Stdout,
    Tty,
)


class AgentText:
    """The agent's treatment of a session's output as UTF-8 text, chunk by chunk."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        data, out, at = self._held + chunk, bytearray(), 0
        if b"\xef" not in data:
            # Everything up to the last ASCII byte passes unchanged; only where what follows is cut needs a look.
            at = len(data)
            while at and data[at - 1] >= 0x80:
                at -= 1
            out += data[:at]
        while at < len(data):
            size = _rune(data, at)
            if size:
                out += data[at : at + size]
            elif len(data) - at < 4:
                break  # may become a whole character with the next chunk
            else:
                out.append(data[at])
                size = 3 if data[at : at + 3] == b"\xef\xbf\xbd" else 1
            at += size
        self._held = data[at:]
        return bytes(out)


def _rune(data: bytes, at: int) -> int:
    """Length of the UTF-8 character at ``at``; 0 if it is none, or U+FFFD, which the agent takes for an error."""
    if data[at] < 0x80:
        return 1
    for size in (2, 3, 4):
        try:
            character = data[at : at + size].decode()
        except UnicodeDecodeError:
            continue
        return 0 if character == "\ufffd" else size
    return 0


@dataclass
class Result:
    chunks: dict[type, bytearray] = field(default_factory=lambda: {Stdout: bytearray(), Stderr: bytearray(), Tty: bytearray()})
    end: Exited | PutFile | GotFile | Failed | None = None
    messages: list[Message] = field(default_factory=list)

    @property
    def stdout(self) -> bytes:
        return bytes(self.chunks[Stdout])

    @property
    def stderr(self) -> bytes:
        return bytes(self.chunks[Stderr])

    @property
    def tty(self) -> bytes:
        return bytes(self.chunks[Tty])

    @property
    def rc(self) -> int:
        assert isinstance(self.end, Exited), self.end
        return self.end.returncode


class LocalNode:
    """Runs the sessions of a RunnerClient on this machine and gathers its events by request."""

    def __init__(
        self,
        client: RunnerClient,
        *,
        carrier: bool = False,
        typed: bool = False,
        loss: float = 0.0,
        env: Mapping[str, str] | None = None,
        shell: Sequence[str] = ("sh",),
        keep: bool = True,
        start: bool = True,
        seed: int = 0,
    ) -> None:
        self.client, self.loss, self.keep, self.typed, self.shell = client, loss, keep, typed, shell
        self.deaf: set[int] = set()  # carriers that deliver nothing
        self.paused = False  # the PTY is not read
        self.env = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        self.results: dict[int, Result] = {}
        self.events: list[Event] = []
        self.ready: Ready | None = None
        self.error: ProtocolError | None = None
        self.pongs = 0
        self.received = 0
        self._random = random.Random(seed)
        self._texts: dict[int, AgentText] = {}
        self._carriers: dict[int, subprocess.Popen[bytes]] = {}
        self._unsent = b""
        self.master = -1
        if start:
            self.start()
        if carrier:
            self.open_carrier()

    def start(self) -> None:
        command = self.client.session_command()
        self.pid, self.master = _start_in_pty([*self.shell] if self.typed else [*self.shell, "-c", command], self.env)
        os.set_blocking(self.master, False)
        if self.typed:
            select.select([self.master], [], [], 10)  # the prompt
            os.write(self.master, command.encode() + b"\n")

    def open_carrier(self) -> int:
        number, command = self.client.open_carrier()
        self._carriers[number] = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self.env, start_new_session=True
        )
        return number

    def kill_carrier(self, number: int, *, tell: bool = True) -> None:
        process = self._carriers.pop(number)
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
        if tell:
            self.client.carrier_lost(number)

    def __enter__(self) -> LocalNode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """What TerminateSession does: kill the session's shell, close its PTY."""
        for number in list(self._carriers):
            self.kill_carrier(number)
        if self.master >= 0:
            os.kill(self.pid, signal.SIGKILL)
            os.close(self.master)
            self.master = -1
            os.waitpid(self.pid, 0)

    # Passing bytes

    def queue(self) -> None:
        """Take what the client has to send; it goes out with what follows, in one burst."""
        self._unsent += self.client.data_to_send()

    def step(self, timeout: float) -> None:
        """Wait for something, and pass it on."""
        if not self._unsent:
            self._unsent = self.client.data_to_send()
        outputs = {process.stdout.fileno(): number for number, process in self._carriers.items() if process.stdout}
        sources = [*outputs] if self.paused else [self.master, *outputs]
        readable, writable, _unused = select.select(sources, [self.master] if self._unsent else [], [], timeout)
        if writable:
            self._unsent = self._unsent[os.write(self.master, self._unsent[:4096]) :]
        for fd in readable:
            number = outputs.get(fd, PTY)
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                if number == PTY:
                    raise EOFError(self.client.noise)
                self.kill_carrier(number)
                continue
            self.received += len(data)
            if number in self.deaf:
                continue
            for at in range(0, len(data), 1024):
                if number != PTY and self.loss and self._random.random() < self.loss:
                    continue
                text = self._texts.setdefault(number, AgentText()).feed(data[at : at + 1024])
                for event in self.client.receive(text, number):
                    self._take(event)

    def _take(self, event: Event) -> None:
        if self.keep and not isinstance(event, (Stdout, Stderr)):
            self.events.append(event)
        if isinstance(event, Ready):
            self.ready = event
        elif isinstance(event, ProtocolError):
            self.error = event
            raise AssertionError(event)
        elif hasattr(event, "id"):
            result = self.results.setdefault(event.id, Result())
            if isinstance(event, (Stdout, Stderr, Tty)):
                self.client.consumed(event.id, len(event.data))
                if self.keep:
                    result.chunks[type(event)] += event.data
            elif isinstance(event, Message):
                result.messages.append(event)
            elif isinstance(event, (Exited, PutFile, GotFile, Failed)):
                result.end = event
        else:
            self.pongs += 1

    def until(self, condition: Callable[[], bool], timeout: float = 60.0, step: float = 0.5) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"nothing for {timeout} s; noise: {self.client.noise!r}"
            self.step(step)

    # Whole requests

    def send(self, id_: int, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.result(id_).end:
            size = min(self.client.writable(id_), len(data) - at, 65536)
            if size:
                self.client.stdin(id_, data[at : at + size])
                at += size
            self.step(0.0 if size else 0.5)
        self.client.stdin_eof(id_)

    def result(self, id_: int) -> Result:
        return self.results.setdefault(id_, Result())

    def wait(self, id_: int, timeout: float = 60.0, patience: float | None = None) -> Result:
        """Until the request ends; with a ping after each ``patience`` seconds without a byte, as the owner does."""
        heard, seen = time.monotonic(), self.received

        def ended() -> bool:
            nonlocal heard, seen
            if self.received != seen:
                heard, seen = time.monotonic(), self.received
            elif patience and time.monotonic() - heard > patience:
                heard = time.monotonic()
                self.client.ping()
            return self.result(id_).end is not None

        self.until(ended, timeout, patience or 0.5)
        return self.result(id_)

    def run(
        self, command: str | bytes | Sequence[str | bytes], stdin: bytes = b"", patience: float | None = None, **options: object
    ) -> Result:
        id_ = self.client.exec(command, **options)  # type: ignore[arg-type]
        self.send(id_, stdin)
        return self.wait(id_, patience=patience)

    def put(self, path: str | bytes, data: bytes, *, mode: int | None = None, sha256: bytes | None = None, size: int | None = None) -> Result:
        id_ = self.client.put(path, size=len(data) if size is None else size, mode=mode, sha256=sha256)
        self.send(id_, data)
        return self.wait(id_)

    def get(self, path: str | bytes) -> Result:
        return self.wait(self.client.get(path))


def _start_in_pty(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, int]:
    """As the agent does: a session of its own, the PTY its controlling terminal."""
    master, slave = pty.openpty()
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(slave, fd)
            os.chdir("/")
            os.execvpe(command[0], list(command), dict(env))
        finally:
            os._exit(127)
    os.close(slave)
    return pid, master
