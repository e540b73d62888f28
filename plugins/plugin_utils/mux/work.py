# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request inside the mux: what is to be done on a node, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .errors import RequestError
from .lifecycle import Lifecycle
from .protocol import FrameType


@dataclass(frozen=True)
class Exec:
    """Run a command line by the node's shell."""

    command: str
    tty: bool
    takes_input: bool
    payload: bytes = field(default=b"", repr=False)
    """Input that is known from the beginning. The command gets it after the worker's own."""
    warm: bool = False
    """Whether it may be carried out in another way than as a command, if that gives the same."""
    secret: bytes = field(default=b"", repr=False)
    """Stands for the become password."""
    private: bool = False
    """Whether command and input are nobody else's business (no_log, or a password is in it)."""


@dataclass(frozen=True)
class Put:
    """Write a file; its content is the input."""

    path: str
    mode: int | None
    size: int
    sha256: str | None
    private: bool = False
    """Whether the content is nobody else's business (no_log)."""


@dataclass(frozen=True)
class Get:
    """Read a file; its content is the output."""

    path: str
    private: bool = False
    """Whether the content is nobody else's business (no_log)."""


Action = Exec | Put | Get


class Sink(Protocol):
    """Who gets what comes of a request. Exactly one of `done` and `failed` is called, last."""

    def output(self, kind: FrameType, data: bytes) -> None:
        """Bytes of STDOUT, STDERR or TTY. What has left the mux is reported to `Work.consumed`."""

    def credit(self, count: int) -> None:
        """So many further bytes of input may come."""

    def done(self, kind: FrameType, **fields: object) -> None:
        """The result: EXITED or DONE."""

    def failed(self, error: RequestError) -> None:
        """There is no result."""


class Work:
    """One action on its way through a route.

    Input is collected here until the channel takes it, so that nothing is lost when it is sent on a second channel;
    its amount is bounded by the credit that the worker has.
    """

    def __init__(self, action: Action, sink: Sink, lifecycle: Lifecycle, *, silence: float, worker: int = 0) -> None:
        self.action = action
        self.sink = sink
        self.lifecycle = lifecycle
        self.silence = silence
        """Seconds without any byte from the node after which its channel counts as lost for this work."""
        self.worker = worker
        """The process that waits for it; 0: not known."""
        self.input = bytearray()
        self.input_ended = not takes_input(action)
        self.input_passed_on = False
        """Whether the node knows all of it, its end included."""
        self.payload = b""
        """What follows the worker's input."""
        self.tty_input = bytearray()
        self.cancelled = False
        self.ended = False
        # Set by the channel that carries it.
        self.changed: Callable[[], None] = _nothing
        """To be called when input was added, or the work was cancelled."""
        self.consumed: Callable[[int], None] = _ignore
        """To be called with the number of output bytes that have left the mux."""
        self.tell_start: Callable[[], None] | None = None
        """To be called each time the node has confirmed that it began, if anyone wants to know."""

    def take_input(self, limit: int) -> bytes:
        """At most ``limit`` bytes of what the node is to get next; none when it must wait for more, or has all."""
        if not self.input and self.input_ended and self.payload:
            self.input, self.payload = bytearray(self.payload), b""
        piece = bytes(self.input[:limit])
        del self.input[:limit]
        return piece

    def cancel(self) -> None:
        """It shall end: nobody waits for its result."""
        self.cancelled = True
        self.lifecycle.unwanted()
        self.changed()

    def finish(self, kind: FrameType, **fields: object) -> None:
        """End with a result."""
        if not self.ended:
            self.lifecycle.finished()
            self._end()
            self.sink.done(kind, **fields)

    def fail(self, error: RequestError) -> None:
        """End without a result."""
        if not self.ended:
            self._end()
            self.sink.failed(error)

    def detach(self) -> None:
        """No channel carries it any more."""
        self.changed = _nothing
        self.consumed = _ignore

    def _end(self) -> None:
        self.ended = True
        self.detach()
        self.tell_start = None
        self.input.clear()
        self.payload = b""


def takes_input(action: Action) -> bool:
    """Whether INPUT frames belong to it."""
    return isinstance(action, Put) or (isinstance(action, Exec) and action.takes_input)


def _nothing() -> None:
    pass


def _ignore(_count: int) -> None:
    pass
