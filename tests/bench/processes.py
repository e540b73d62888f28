# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of processes: what a playbook used, what stays behind it, and what runs on a node."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Usage:
    """What one process and its reaped descendants used."""

    returncode: int
    seconds: float
    cpu_s: float
    peak_rss_mb: float


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Usage:
    """Run a command to its end, its output into a file, and ask the kernel what it used."""
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _pid, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(process.returncode, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def background(mark: str) -> list[psutil.Process]:
    """Processes whose command line (or title) holds ``mark``: muxes and ssh masters whose sockets lie in a folder of that name."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(mark in word for word in command) and process.pid != os.getpid():
            found.append(process)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and of its reaped children so far; 0 if it is gone."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def peak_mb(processes: Sequence[psutil.Process]) -> float:
    """The sum of what each process had in memory at its peak."""
    return sum(peak_of(process.pid) for process in processes)


def peak_of(pid: int) -> float:
    """MB that a process has had in memory at its peak; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def inside(pid: int) -> set[int]:
    """The processes in the pid namespace of a node whose first process is ``pid``."""
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    if namespace == os.readlink("/proc/self/ns/pid"):
        return children(pid)
    found = set()
    for process in psutil.pids():
        try:
            if os.readlink(f"/proc/{process}/ns/pid") == namespace:
                found.add(process)
        except OSError:  # it ended
            continue
    return found


def children(pid: int) -> set[int]:
    """What a process has started, and what that has started."""
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def inner_pid(pid: int) -> int:
    """The id of a process in its own, innermost pid namespace."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])


def is_lab(pid: int) -> bool:
    """Whether a process is part of the lab's own machinery."""
    try:
        command = " ".join(psutil.Process(pid).cmdline())
        return "tests.lab" in command or "tests/lab" in command
    except psutil.NoSuchProcess:
        return True


def proportional_mb(pids: Collection[int]) -> float:
    """What processes have in memory now; pages that several share are shared out among them."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / MEGABYTE
