# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes that fork the workers which ask this mux, and which of their workers may still come: what Linux tells of them, in /proc.

A worker of Ansible is a fork that has executed no other program; that tells it from a program that its parent has started. Where there is no
/proc, and for whoever is no such fork, nothing is known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..runcommand.window import Forks

_KEPT = 0.05
"""Seconds for which a look at the children of a process holds."""

_REMEMBERED = 60.0
"""Seconds for which it is remembered that a worker has left: it ends soon, and is a child until then."""

_FORKED_ONLY = 0x40
"""PF_FORKNOEXEC among a process's flags, see proc(5)."""


class Worker(NamedTuple):
    """A process that was forked."""

    pid: int
    parent: int
    forked: float
    """When, by `time.monotonic`."""


class Controllers:
    """What is known of them."""

    def __init__(self) -> None:
        self._answered: dict[int, float] = {}
        """Of workers that are connected: when they got their last answer."""
        self._waiting: set[int] = set()
        self._workers: dict[int, Worker] = {}
        """Those that are connected, as far as a window has asked for them."""
        self._left: dict[int, float] = {}
        self._looks: dict[int, tuple[float, list[int]]] = {}

    # What the workers' sockets tell

    def joined(self, pid: int) -> None:
        """A process has connected; 0 stands for one that is not known."""
        if pid:
            self._answered.setdefault(pid, float("-inf"))

    def waits(self, pid: int) -> None:
        """Something runs for a worker."""
        self._waiting.add(pid)

    def answered(self, pid: int) -> None:
        """Nothing runs for it any more."""
        self._waiting.discard(pid)
        self._answered[pid] = time.monotonic()

    def left(self, pid: int) -> None:
        """A worker is gone, or will be soon: it closes its socket when its task is done."""
        now = time.monotonic()
        self._waiting.discard(pid)
        self._answered.pop(pid, None)
        self._workers.pop(pid, None)
        self._left = {other: at for other, at in self._left.items() if now - at < _REMEMBERED}
        self._left[pid] = now

    # What windows ask

    def worker(self, pid: int) -> Worker | None:
        """What a process that is connected is; `None`: no worker, or not known."""
        found = self._workers.get(pid)
        if found is None and pid in self._answered and (found := _worker(pid)) is not None:
            self._workers[pid] = found
        return found

    def set_out(self, worker: Worker) -> float:
        """Since when it is on its way with what it asks for next: when it was forked, or got its last answer."""
        return max(worker.forked, self._answered.get(worker.pid, float("-inf")))

    def forks(self, parents: Iterable[int]) -> Forks | None:
        """Their workers; `None`: not known."""
        found: list[Worker] = []
        for parent in parents:
            children = self._children(parent)
            if children is None:
                return None
            found += (worker for pid in children if (worker := self._workers.get(pid) or _worker(pid)) is not None)
        coming = (worker for worker in found if worker.pid not in self._waiting and self._left.get(worker.pid, float("-inf")) < worker.forked)
        return Forks(max((worker.forked for worker in found), default=float("-inf")), [self.set_out(worker) for worker in coming])

    def _children(self, parent: int) -> list[int] | None:
        now = time.monotonic()
        seen_at, children = self._looks.get(parent, (float("-inf"), []))
        if now - seen_at > _KEPT:
            try:
                children = list(_children(parent))
            except OSError:
                return None
            self._looks = {other: look for other, look in self._looks.items() if now - look[0] < _REMEMBERED}
            self._looks[parent] = (now, children)
        return children


def _children(parent: int) -> Iterator[int]:
    """Of all its threads. :raises OSError: it is gone, or the kernel does not tell."""
    for thread in os.listdir(f"/proc/{parent}/task"):
        with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as source:
            yield from map(int, source.read().split())


def _worker(pid: int) -> Worker | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as source:
            fields = source.read().rpartition(b")")[2].split()  # what stands before is its name, in which anything may be
    except OSError:
        return None
    state, parent, flags, started = fields[0], int(fields[1]), int(fields[6]), int(fields[19])
    if state in (b"Z", b"X") or not flags & _FORKED_ONLY:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return Worker(pid, parent, time.monotonic() - age)
