# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The system calls for mounts and namespaces that Python (before 3.12) has no names for."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that made it is gone."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def set_process_name(name: str) -> None:
    _check(_libc.prctl(_PR_SET_NAME, name.encode()), "prctl")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError that names what was mounted where."""
    result = _libc.mount(source.encode(), bytes(target), kind.encode() or None, flags, options.encode() or None)
    _check(result, f"mount {kind or 'bind'} {source} on {target}")


def bind(source: Path, target: Path, *, read_only: bool = False, recursive: bool = False) -> None:
    """Bind-mount a file or a tree; with `recursive` also what is mounted below it."""
    mount(str(source), target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount(str(source), target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def make_private() -> None:
    """Keep mounts of this namespace from the others."""
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)


def enter_root(root: Path) -> None:
    """Make `root`, a mount point, the root of this process and drop the old one."""
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), f"pivot_root {root}")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")
