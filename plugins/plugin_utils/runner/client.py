# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of a runner: requests in, bytes for the node out; bytes from the node in, events out.

No I/O and no clock: whoever owns the sessions passes bytes both ways. In short::

    client = RunnerClient()
    # start a session with client.session_command(); then, for everything that it says:
    events = client.receive(data)
    # and after each call of any method, into the session:
    data = client.data_to_send()

Requests may be made at once; they are sent when the runner has announced itself. Faster output needs a second session,
see ``open_carrier``. The owner calls ``ping`` when it has heard nothing for some time while requests are under way, and
at least three times per dead-man time otherwise; it decides by the lack of a ``Pong`` when the channel is dead.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from . import bootstrap
from .events import Credit, Estranged, Event, Exited, Failed, GotFile, ProtocolError, PutFile, Ready, Stderr, Stdout, Tty
from .frames import EXTENSION, LineSplitter
from .link import Link
from .python_link import PythonLink
from .requests import Exec, Get, Put, Request, argv_of, to_bytes
from .sh_link import ShLink

#: The carrier number of the session with the PTY.
PTY = 0


@dataclass(frozen=True)
class RunnerSettings:
    interpreter: str | None = None  # tried before the usual ones
    dead_man: float = 180.0  # s without input after which the runner ends itself and its commands
    fifo: bool = True  # whether a second session may come that reads the output from a FIFO
    output_window: int = 1 << 20  # bytes of output a request may be ahead of consumed()
    input_window: int = 1 << 20  # bytes of stdin or of a file that may be under way


class Carrier(NamedTuple):
    number: int  # for receive() and carrier_lost()
    command: str  # for a session of the type NonInteractiveCommands with separate streams


@dataclass
class _Open:
    """A request under way."""

    kind: Literal["exec", "put", "get", "extension"]
    writable: int
    expected: bytes | None = None  # hash of a put
    sent: Any = field(default_factory=sha256)
    received: Any = field(default_factory=sha256)  # of a get
    counts: dict[type, int] = field(default_factory=dict)
    consumed: int = 0


class RunnerClient:
    def __init__(self, settings: RunnerSettings | None = None, *, nonce: str | None = None, key: int | None = None) -> None:
        """``nonce`` and ``key`` are random unless given: the name of this runner, and the secret seed of its checks."""
        self.settings = settings or RunnerSettings()
        self.nonce = nonce or secrets.token_hex(12)
        self._key = secrets.randbits(32) if key is None else key
        self._announcement = re.compile(rb"fleet-ssm:%s:(?:ready:(python|sh)\S*|carrier:(\d+))\r?" % self.nonce.encode())
        self._stranger = f"fleet-ssm:{self.nonce}:stranger".encode()
        self._splitters: dict[int, LineSplitter] = {}
        self._carriers = 0
        self._announced: set[int] = set()
        self._link: Link | None = None
        self._early: list[Callable[[Link], None]] = []
        self._open: dict[int, _Open] = {}
        self._last_id = 0
        self._failure: ProtocolError | None = None
        self._noise = b""

    # The sessions

    def session_command(self) -> str:
        """For the session with the PTY: the document's parameter, or a line to type at a shell's prompt."""
        settings = self.settings
        return bootstrap.session_command(self.nonce, interpreter=settings.interpreter, fifo=settings.fifo, patience=settings.dead_man)

    def open_carrier(self) -> Carrier:
        """A second session for the output: much faster than the PTY. It may start before, with or after the first.

        Its data goes to ``receive`` with its number. After ``carrier_lost`` another one can be opened.
        """
        self._carriers += 1
        number = self._carriers
        if number > 1 or not self.settings.fifo:
            self._tell(lambda link: link.offer(number))
        return Carrier(number, bootstrap.carrier_command(self.nonce, number))

    def carrier_lost(self, number: int) -> None:
        """That session has ended. Nothing is lost: output goes on over the PTY."""
        if number in self._announced:
            self._announced.discard(number)
            self._tell(lambda link: link.use(PTY))

    @property
    def started(self) -> bool:
        """Whether a runner of either kind has announced itself."""
        return self._link is not None

    @property
    def noise(self) -> str:
        """The last that came and was not the runner's: why there is none, or what broke it (at most 2,000 bytes)."""
        return self._noise.decode("utf-8", "replace")

    # Requests

    def exec(
        self,
        command: str | bytes | Sequence[str | bytes],
        *,
        tty: bool | Literal["stdin"] = False,
        env: Mapping[str, str] | None = None,
        cwd: str | bytes | None = None,
    ) -> int:
        """Run a command line by /bin/sh, or a list of arguments. stdin is what ``stdin`` brings, until ``stdin_eof``.

        ``tty`` gives the command a controlling terminal of its own while its three streams remain pipes; with "stdin"
        the terminal is its stdin as well, for a su that insists. ``cwd`` is the home directory unless given.
        """
        argv = argv_of(command)
        variables = {to_bytes(name): to_bytes(value) for name, value in (env or {}).items()}
        directory = to_bytes(cwd) if cwd else b""
        return self._submit("exec", lambda id_: Exec(id_, argv, bool(tty), tty == "stdin", variables, directory))

    def put(self, path: str | bytes, *, size: int, mode: int | None = None, sha256: bytes | None = None) -> int:
        """Store a file: ``size`` bytes by ``stdin``, then ``stdin_eof``. It appears whole or not at all.

        The bytes are always checked by a hash on the way; with ``sha256`` they must have that one.
        """
        name = to_bytes(path)
        id_ = self._submit("put", lambda id_: Put(id_, name, size, mode))
        self._open[id_].expected = sha256
        return id_

    def get(self, path: str | bytes) -> int:
        """Read a regular file: ``Stdout`` events, then ``GotFile``."""
        name = to_bytes(path)
        return self._submit("get", lambda id_: Get(id_, name))

    def extension(self, type_: int, payload: bytes) -> int:
        """A request of a kind that ``load`` brought; its answers are ``Message``, and whatever else it sends."""
        if not EXTENSION <= type_ < 2 * EXTENSION:
            raise ValueError(f"no type of an extension: {type_}")
        id_ = self._register("extension")
        self._tell(lambda link: link.extension(type_, id_, payload))
        return id_

    def load(self, name: str, source: bytes) -> None:
        """Run Python source in the runner, with ``runner`` and all names of node.py: it registers handlers."""
        self._tell(lambda link: link.load(name, source))

    def stdin(self, id_: int, data: bytes) -> None:
        """Bytes for a command's stdin or a put's file, at most ``writable`` of them. Ignored when the request has ended."""
        if request := self._open.get(id_):
            if len(data) > request.writable:
                raise ValueError(f"{len(data)} bytes exceed the credit of {request.writable}")
            request.writable -= len(data)
            if request.kind == "put":
                request.sent.update(data)
            self._tell(lambda link: link.data(id_, data))

    def stdin_eof(self, id_: int) -> None:
        if request := self._open.get(id_):
            digest = request.expected or request.sent.digest()
            self._tell(lambda link: link.eof(id_, digest if request.kind == "put" else b""))

    def tty_input(self, id_: int, data: bytes) -> None:
        """What a person would type at the command's terminal; a little, such as a password and a newline."""
        if id_ in self._open:
            self._tell(lambda link: link.tty_input(id_, data))

    def writable(self, id_: int) -> int:
        """Bytes that ``stdin`` takes now; grows with ``Credit`` events. 0 once the request has ended."""
        request = self._open.get(id_)
        return request.writable if request else 0

    def consumed(self, id_: int, size: int) -> None:
        """``size`` bytes of the request's output were passed on: the node may send as many more."""
        if request := self._open.get(id_):
            request.consumed += size
            if request.consumed >= self.settings.output_window // 8:
                amount, request.consumed = request.consumed, 0
                self._tell(lambda link: link.credit(id_, amount))

    def cancel(self, id_: int) -> None:
        """End a command's process group (TERM, then KILL), or drop a transfer. Its last event still comes."""
        if id_ in self._open:
            self._tell(lambda link: link.cancel(id_))

    def ping(self) -> None:
        """Ask for a ``Pong``. A second ping without one in between leaves a silent carrier for the PTY."""
        self._tell(lambda link: link.ping())

    def shutdown(self) -> None:
        """End the runner, and the commands it waits for."""
        self._tell(lambda link: link.shutdown())

    def data_to_send(self, limit: int = 65536) -> bytes:
        """What to write into the PTY session now: all that is short, and transfers up to about ``limit`` bytes.

        Call it again after it is written, until nothing comes: new requests then go before the rest of a transfer.
        """
        return self._link.take(limit) if self._link else b""

    def _submit(self, kind: Literal["exec", "put", "get"], build: Callable[[int], Request]) -> int:
        id_ = self._register(kind)
        request = build(id_)
        self._tell(lambda link: link.submit(request))
        return id_

    def _register(self, kind: Literal["exec", "put", "get", "extension"]) -> int:
        self._last_id += 1
        self._open[self._last_id] = _Open(kind, self.settings.input_window)
        return self._last_id

    def _tell(self, action: Callable[[Link], None]) -> None:
        if self._link:
            action(self._link)
        else:
            self._early.append(action)

    # What comes back

    def receive(self, data: bytes, carrier: int = PTY) -> list[Event]:
        """What a session said. After a ``ProtocolError`` nothing more is understood."""
        events: list[Event] = []
        splitter = self._splitters.setdefault(carrier, LineSplitter())
        for line in splitter.feed(data):
            if self._failure:
                break
            if match := self._announcement.fullmatch(line):
                self._announce(match[1], carrier)
                continue
            if carrier != PTY and line == self._stranger:
                events.append(Estranged())
                continue
            understood = False
            for event in self._link.receive(line, carrier) if self._link else ():
                understood = True
                checked = self._check(event)
                events.append(checked)
                if isinstance(checked, ProtocolError):
                    self._failure = checked
            if not understood:
                self._noise = (self._noise + line + b"\n")[-2000:]
        if self._failure and self._failure not in events:
            events.append(self._failure)
        return events

    def _announce(self, kind: bytes | None, carrier: int) -> None:
        if carrier in self._announced:
            self._failure = ProtocolError("the runner on the node ended and another one began")
            return
        self._announced.add(carrier)
        if self._link is None:
            settings = self.settings
            if kind == b"sh":
                self._link = ShLink(bootstrap.shell_program(), self.nonce, settings.dead_man)
            else:
                program = bootstrap.program()
                self._link = PythonLink(program, self.nonce, self._key, settings.dead_man, settings.output_window, settings.fifo)
            early, self._early = self._early, []
            for action in early:
                action(self._link)
        if carrier != PTY:
            self._link.use(carrier)

    def _check(self, event: Event) -> Event:
        """Keep the account of the request that the event belongs to, and compare it with the node's."""
        if isinstance(event, (Ready, ProtocolError)) or not hasattr(event, "id"):
            return event
        request = self._open.get(event.id)
        if request is None:
            return ProtocolError(f"the runner answered request {event.id}, which is not open")
        if isinstance(event, (Stdout, Stderr, Tty)):
            request.counts[type(event)] = request.counts.get(type(event), 0) + len(event.data)
            if request.kind == "get":
                request.received.update(event.data)
        elif isinstance(event, Credit):
            request.writable += event.size
        elif isinstance(event, (Exited, PutFile, GotFile, Failed)):
            del self._open[event.id]
            self._tell(lambda link: link.drop(event.id))
            return self._settle(event, request)
        return event

    @staticmethod
    def _settle(event: Exited | PutFile | GotFile | Failed, request: _Open) -> Event:
        out, err = request.counts.get(Stdout, 0), request.counts.get(Stderr, 0)
        if isinstance(event, Exited) and (out, err) != (event.stdout_bytes, event.stderr_bytes):
            return ProtocolError(f"of {event.stdout_bytes} and {event.stderr_bytes} bytes of output, {out} and {err} arrived")
        if isinstance(event, GotFile) and (out != event.size or event.sha256 not in (None, request.received.digest())):
            return Failed(event.id, "EBADMSG", f"{out} bytes arrived of a file of {event.size}, or with another hash")
        return event
