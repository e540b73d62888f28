# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root for those who are not: a user namespace, in which this process is uid 0 and may make the others.

With newuidmap, newgidmap and a range of ids in /etc/subuid and /etc/subgid, all usual users exist in it. Otherwise the
only user of a node is its root.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .kernel import CLONE_NEWUSER, unshare

_LEAST = 65535  #: ids that a range must have: up to "nobody", less root


def in_user_namespace() -> bool:
    """Whether root is not the machine's here; some system calls then refuse what others of the same effect do."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def only_root() -> bool:
    """Whether root is the only user there can be."""
    return sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines()) == 1


def missing() -> str:
    """What an ordinary user lacks for nodes with more users than root, and what is then different; empty if nothing."""
    if os.geteuid() == 0 or _ranges():
        return ""
    return (
        "newuidmap and newgidmap (package uidmap), or ranges for you in /etc/subuid and /etc/subgid, are missing:"
        " root is the only user of a node, sessions run as root, and become does not work"
    )


def become_root() -> None:
    """Enter a new user namespace as its root. Raises OSError whose text says what is missing."""
    uid, gid, pid = os.getuid(), os.getgid(), os.getpid()
    ranges = _ranges()
    read, write = os.pipe()
    mapper = os.fork() if ranges else 0
    if ranges and not mapper:
        # A process outside of the namespace has to do it; the programs have the right that we lack.
        status = 1
        try:
            os.close(write)
            if os.read(read, 1):
                for program, own, (first, count) in zip(("newuidmap", "newgidmap"), (uid, gid), ranges, strict=True):
                    subprocess.run([program, *map(str, (pid, 0, own, 1, 1, first, count))], check=True)
                status = 0
        finally:
            os._exit(status)
    os.close(read)
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        raise OSError(
            error.errno,
            f"process nodes need root or user namespaces, which are refused ({error.strerror}): run the lab as root, or have sysctl's"
            " user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns allow them",
        ) from error
    if mapper:
        os.write(write, b"1")
        _unused, status = os.waitpid(mapper, 0)
        if status:
            raise OSError(f"newuidmap or newgidmap refused: check the lines of {getpass.getuser()} in /etc/subuid and /etc/subgid")
        os.setgroups([])
    else:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        print(missing(), file=sys.stderr)
    os.close(write)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _ranges() -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Ranges of user and group ids, as first and count, that may be used; None if there are none, or no programs for it."""
    if not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        return None
    users, groups = _range("/etc/subuid"), _range("/etc/subgid")
    return (users, groups) if users and groups else None


def _range(path: str) -> tuple[int, int] | None:
    names = {getpass.getuser(), str(os.getuid())}
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for owner, first, count in (line.split(":") for line in lines if line.count(":") == 2):
        if owner in names and int(count) >= _LEAST:
            return int(first), int(count)
    return None


def remove_tree(path: Path) -> None:
    """Delete a folder in which nodes were, as far as possible: their users' files are not those of whoever runs the lab."""
    shutil.rmtree(path, ignore_errors=True)
    if os.geteuid() == 0 or not path.exists():
        return
    package = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})"
    program = f"{package}; from nodes.user_namespace import become_root; become_root(); import shutil; shutil.rmtree(sys.argv[1], ignore_errors=True)"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, capture_output=True)
