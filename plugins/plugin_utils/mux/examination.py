# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor's examinations have in common: a layer that fails ends them, each other one says a line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from .errors import RequestError
from .lifecycle import Lifecycle
from .protocol import FrameType
from .request import ConnectionOptions
from .route import Route
from .work import Exec, Work

LIMIT = 60.0
"""Seconds for which an answer of a layer is waited for."""

_T = TypeVar("_T")


class Failed(Exception):
    """A layer failed; the rest cannot be tried."""


def say(layer: str, text: str) -> None:
    """One line for a person."""
    print(f"{layer + ':':14} {text}", flush=True)


async def step(layer: str, work: Awaitable[_T]) -> _T:
    """What a layer gives. :raises Failed: an error, or nothing in time."""
    try:
        async with asyncio.timeout(LIMIT):
            return await work
    except RequestError as error:
        raise Failed(f"{layer}: {error}") from error
    except TimeoutError:
        raise Failed(f"{layer}: no answer within {LIMIT:.0f} s") from None


async def output_of(layer: str, route: Route, options: ConnectionOptions, command: str, payload: bytes = b"") -> bytes:
    """What a command prints. :raises Failed: it could not be run."""
    answer = _Answer()
    work = Work(Exec(command, tty=False, takes_input=False, payload=payload), answer, Lifecycle(0), silence=options.silence_timeout)
    route.submit(work, options)
    return await step(layer, answer.result)


class _Answer:
    """Gathers one command's output."""

    def __init__(self) -> None:
        self.result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._output = bytearray()

    def output(self, kind: FrameType, data: bytes) -> None:
        if kind is FrameType.STDOUT:
            self._output += data

    def credit(self, count: int) -> None:
        pass

    def done(self, kind: FrameType, **fields: object) -> None:
        self.result.set_result(bytes(self._output))

    def failed(self, error: RequestError) -> None:
        self.result.set_exception(error)
