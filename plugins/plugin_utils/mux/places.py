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
    """The socket of this installation of the collection, short by being hashed.

    :raises PlaceError: the path would be longer than a unix socket's may be.
    """
    directory = os.path.abspath(os.path.expanduser(directory))
    who = f"{os.getuid()}\0{PLUGIN_UTILS}\0{sys.prefix}"
    path = os.path.join(directory, "fssm-" + hashlib.sha256(who.encode("utf-8", "surrogateescape")).hexdigest()[:12])
    if len(os.fsencode(path)) + len(".new") >= _SOCKET_LIMIT:
        raise PlaceError(f"the path of the mux's socket is too long ({path}): set control_path_dir to a shorter folder")
    return path


def make_directory(directory: str) -> None:
    """Make the folder of sockets, for this user alone.

    :raises PlaceError: it belongs to someone else, is open to others and cannot be closed, or cannot be made.
    """
    directory = os.path.abspath(os.path.expanduser(directory))
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        status = os.stat(directory)
        if status.st_uid != os.getuid():
            raise PlaceError(f"control_path_dir {directory} belongs to uid {status.st_uid}, not to you ({os.getuid()})")
        if stat.S_IMODE(status.st_mode) & 0o077:
            os.chmod(directory, 0o700)
    except OSError as error:
        raise PlaceError(f"control_path_dir {directory} cannot be used: {error}") from error


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
