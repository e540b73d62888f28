# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the mux of a user is found, and which code it must run."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

PLUGIN_UTILS = Path(__file__).resolve().parents[1]
_SOCKET_LIMIT = 104
"""Bytes of a unix socket's path that every platform allows (Linux has 108, macOS 104 with the final zero)."""


class PlaceError(Exception):
    """The folder of the socket cannot be used."""


def default_directory() -> str:
    """The folder of sockets when no option names one: as `ansible.builtin.ssh` has it."""
    return os.path.join(os.path.expanduser("~"), ".ansible", "cp")


def socket_path(directory: str) -> str:
    """The socket of this installation of the collection; its name is a hash, to be short.

    Where the folder's own path is too long for a unix socket, a folder of this user below ``/tmp`` stands for it.
    """
    directory = os.path.abspath(os.path.expanduser(directory))
    name = "fssm-" + _hash(f"{os.getuid()}\0{PLUGIN_UTILS}\0{sys.prefix}")
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) + len(".lock") >= _SOCKET_LIMIT:
        path = os.path.join("/tmp", f"fssm-{os.getuid()}-{_hash(directory)}", name)
    return path


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def make_directory(directory: str) -> None:
    """Make the folder of a socket, for this user alone.

    :raises PlaceError: it belongs to someone else, or cannot be made or closed to others.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        status = os.lstat(directory) if directory.startswith("/tmp/") else os.stat(directory)
        if not stat.S_ISDIR(status.st_mode):
            raise PlaceError(f"{directory}, the folder of the mux's socket, is no folder")
        if status.st_uid != os.getuid():
            raise PlaceError(f"{directory}, the folder of the mux's socket, belongs to uid {status.st_uid}, not to you ({os.getuid()})")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.chmod(directory, 0o700)
    except OSError as error:
        raise PlaceError(f"{directory}, the folder of the mux's socket, cannot be used: {error}; set control_path_dir to another") from error


def code_digest(root: Path = PLUGIN_UTILS) -> str:
    """A mark of the installed code, from names, sizes and times of its files: another mark, another mux.

    Cheap enough to be taken by every worker; contents are not read.
    """
    seen = hashlib.sha256()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        for entry in sorted(os.scandir(folder), key=lambda found: found.name):
            if entry.name.startswith((".", "__pycache__")):
                continue
            if entry.is_dir():
                folders.append(entry.path)
            else:
                status = entry.stat()
                seen.update(f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()[:16]
