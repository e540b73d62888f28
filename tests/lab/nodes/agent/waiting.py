# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting in the event loop for file descriptors and processes."""

from __future__ import annotations

import asyncio
import contextlib
import os


async def readable(descriptor: int) -> None:
    """Until there is something to read, or the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _resolve, future)
    try:
        await future
    finally:
        loop.remove_reader(descriptor)


async def ended(pid: int) -> None:
    """Until a process has ended; it is not reaped."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await readable(descriptor)
    finally:
        os.close(descriptor)


async def reaped(pid: int) -> None:
    """Until a process has ended, be it ours, which is reaped, or one that an earlier agent left, which is init's."""
    await ended(pid)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
