# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of a process node: the host's system in an overlay, without what is the host's own.

What stays visible is what a package manager installed. Homes, /opt, /srv, /usr/local, temporary files, anything unusual
in / and the project itself are not: a playbook that works on a node must not work because the controller is the same
machine. Python interpreters that are not the system's are hidden with them.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .borrowed import borrow, layered, mount_layers
from .kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, bind, enter_root, make_private, mount
from .overlay import hides, make_opaque, whiteout
from .user_namespace import in_user_namespace, only_root

_SYSTEM = {"bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt", "sbin", "srv", "usr", "var"}
_MOUNTED = {"dev", "proc", "run", "sys", "tmp"}
_EMPTY = {"home": 0o755, "root": 0o700, "media": 0o755, "mnt": 0o755, "opt": 0o755, "srv": 0o755, "var/tmp": 0o1777}
_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_PYTHON_PLACES = ("usr/bin", "usr/local/bin", "usr/libexec")
_PYTHON_LIBRARIES = ("usr/lib", "usr/local/lib")

#: Asks pid 1 for a reboot: ansible.builtin.reboot and people call these.
_SHUTDOWN = """#!/bin/sh
# Part of the lab: this node has no init system. Pid 1 reboots on SIGINT and halts on SIGUSR2.
[ "$(id -u)" = 0 ] || { echo "$0: must be root" >&2; exit 1; }
signal=%s
for argument; do
    case $argument in
        -r | --reboot) signal=INT ;;
        -h | -H | -P | --halt | --poweroff) signal=USR2 ;;
        -c) exit 0 ;;
    esac
done
kill -$signal 1
"""


class RootError(OSError):
    """The root of a node cannot be made here; the text says why and what helps."""


@dataclass(frozen=True)
class RootSpec:
    """What a root is made of. `directory` keeps its changes over restarts."""

    directory: Path
    name: str
    python: bool = True
    hidden: tuple[Path, ...] = ()  #: further places of the host that nobody on the node may read
    binds: tuple[tuple[Path, str], ...] = ()  #: files of the host, and where they appear, read-only


def prepare(spec: RootSpec) -> None:
    """Make the writable layer, once in a node's life; as root, be it of a user namespace."""
    upper = spec.directory / "upper"
    if upper.exists():
        return
    draft = spec.directory / "upper.part"
    draft.mkdir(parents=True, exist_ok=True)
    draft.chmod(0o755)
    (spec.directory / "work").mkdir(exist_ok=True)
    for name in sorted(os.listdir("/")) if not in_user_namespace() else ():
        if name not in _SYSTEM | _MOUNTED | {"home", "root"}:
            whiteout(draft / name)
    for name, mode in _EMPTY.items():
        make_opaque(draft / name, mode)
    if Path("/usr/bin/python3").exists():
        for name in ("bin", "etc", "lib", "sbin", "share"):
            make_opaque(draft / "usr/local", 0o755)
            (draft / "usr/local" / name).mkdir(exist_ok=True)
    for path in spec.hidden:
        _hide(draft, path)
    if not spec.python:
        for path in _pythons():
            _hide(draft, path)
    if in_user_namespace():
        make_opaque(draft / "var/log", 0o755)
        make_opaque(draft / "etc/sudoers.d", 0o750)
        borrow(draft)
    _write_files(draft, spec)
    draft.rename(upper)


def enter(spec: RootSpec, boot_id: str) -> None:
    """Mount the root and make it this process's; in new mount and pid namespaces, as pid 1. Raises RootError."""
    make_private()
    root = spec.directory / "root"
    root.mkdir(exist_ok=True)
    _mount_overlay(spec.directory, root)
    for source, target in spec.binds:
        place = root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        bind(source, place, read_only=True)
    _mount_kernel(root)
    for name, mode in (("tmp", "1777"), ("run", "755")):
        (root / name).mkdir(exist_ok=True)
        mount("tmpfs", root / name, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode}")
    (root / "run/lock").mkdir(mode=0o1777)
    (root / "run/boot_id").write_text(boot_id + "\n")
    bind(root / "run/boot_id", root / "proc/sys/kernel/random/boot_id", read_only=True)
    enter_root(root)


def _mount_overlay(directory: Path, root: Path) -> None:
    options = f"lowerdir=/,upperdir={directory}/upper,workdir={directory}/work"
    try:
        if in_user_namespace():
            mount_layers(directory, root)
        else:
            mount("overlay", root, "overlay", 0, options)
    except OSError as error:
        raise RootError(
            error.errno,
            f"{error.strerror}; the node's directory must be on a file system that can be an overlay's upper layer "
            "(ext4, xfs, btrfs, tmpfs; not another overlay, as in a container): set the lab's directory to one, by TMPDIR. "
            "Without root it also takes Linux 5.11, and for a tmpfs 6.6",
        ) from error


def _mount_kernel(root: Path) -> None:
    """/proc of this pid namespace, /sys to read, and a /dev with its own terminals."""
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind(root / "proc/sys", root / "proc/sys", read_only=True)  # it would be the host's kernel that changes
    if in_user_namespace():
        bind(Path("/sys"), root / "sys", recursive=True)  # a new one is for the owner of the network
    else:
        mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    dev = root / "dev"
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    for name in _DEVICES:
        (dev / name).touch()
        bind(Path("/dev") / name, dev / name)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    group = "" if only_root() else ",gid=5"
    mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=620{group}")
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        (dev / name).symlink_to(target)


def _hide(upper: Path, path: Path) -> None:
    """Put a whiteout over a place of the host, unless it is below what is hidden already."""
    if in_user_namespace() and path.parts[1] not in layered():
        return
    place = upper
    for part in path.parts[1:-1]:
        place = place / part
        if hides(place):
            return
        if not place.exists():
            original = Path("/") / place.relative_to(upper)
            if original.is_symlink() or not original.is_dir():
                return
            place.mkdir(mode=stat.S_IMODE(original.stat().st_mode))
    place = place / path.name
    if not os.path.lexists(place) and os.path.lexists(path):
        whiteout(place)


def _pythons() -> Iterator[Path]:
    """Every interpreter on the usual PATH, and the libraries that any other one would need."""
    for folder in _PYTHON_PLACES:
        for pattern in ("python*", "pypy*", "platform-python*"):
            yield from Path("/", folder).glob(pattern)
    for folder in _PYTHON_LIBRARIES:
        yield from Path("/", folder).glob("python[0-9]*")


def _write_files(upper: Path, spec: RootSpec) -> None:
    etc = upper / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "hostname").write_text(spec.name + "\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.name}\n::1 localhost\n")
    (etc / "machine-id").write_text(uuid.uuid4().hex + "\n")
    sbin = upper / "usr/sbin"
    sbin.mkdir(parents=True, exist_ok=True)
    for name, default in (("reboot", "INT"), ("shutdown", "USR2"), ("halt", "USR2"), ("poweroff", "USR2")):
        path = sbin / name
        path.write_text(_SHUTDOWN % default)
        path.chmod(0o755)
