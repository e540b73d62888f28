# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the mux of a user is found, and which code it must run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from pathlib import Path

PLUGIN_UTILS = Path(__file__).resolve().parents[1]
_SOURCES = (PLUGIN_UTILS, PLUGIN_UTILS.parent / "module_utils")
_SOCKET_LIMIT = 104
"""Bytes of a unix socket's path that every platform allows (Linux has 108, macOS 104 with the final zero)."""

_REMEDY = "Set the option control_path_dir (FLEET_SSM_CONTROL_PATH_DIR) to a folder of your own"


class PlaceError(Exception):
    """The folder of the socket cannot be used."""


def default_directory() -> str:
    """The folder of sockets when no option names one: as `ansible.builtin.ssh` has it."""
    return os.path.join(os.path.expanduser("~"), ".ansible", "cp")


def socket_path(directory: str) -> str:
    """The socket of this installation of the collection; its name is a hash, to be short.

    It is in a folder of this user's own, so that ``directory`` may be one that others use, too. Where its path is too long
    for a unix socket, ``/tmp`` stands for it.
    """
    directory = os.path.abspath(os.path.expanduser(directory))
    name = os.path.join(f"fssm-{os.getuid()}", _hash(f"{directory}\0{PLUGIN_UTILS}\0{os.path.realpath(sys.prefix)}"))
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) + len(".lock") >= _SOCKET_LIMIT:
        path = os.path.join("/tmp", name)
    return path


def other_sockets(directory: str) -> list[str]:
    """Sockets there of this user's other installations: another Python, or the collection in another folder."""
    own = socket_path(directory)
    folder = os.path.dirname(own)
    if os.path.dirname(folder) != os.path.abspath(os.path.expanduser(directory)):
        return []  # /tmp stands for it, and for other folders as well
    try:
        found = sorted(entry.path for entry in os.scandir(folder) if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode))
    except OSError:
        return []
    return [path for path in found if path != own]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def make_directories(path: str) -> None:
    """Make the folders of a socket. A folder that exists is left as it is, and used if nobody else can get at it.

    :raises PlaceError: it belongs to someone else, is open to others, or cannot be made.
    """
    private = os.path.dirname(path)
    try:
        os.makedirs(os.path.dirname(private), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(private, 0o700)
        status = os.lstat(private)
    except OSError as error:
        raise PlaceError(f"{private}, the folder of the mux's socket, cannot be made: {error}. {_REMEDY}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise PlaceError(f"{private}, the folder of the mux's socket, is no folder. {_REMEDY}")
    if status.st_uid != os.getuid():
        raise PlaceError(f"{private}, the folder of the mux's socket, belongs to uid {status.st_uid}, not to you ({os.getuid()}). {_REMEDY}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PlaceError(f"{private}, the folder of the mux's socket, is open to others: chmod 700 {private}")


def code_digest(*roots: Path) -> str:
    """A mark of the installed code, from names, sizes and times of its files: another mark, another mux.

    Cheap enough to be taken by every worker; contents are not read.
    """
    seen = hashlib.sha256()
    folders = [str(root) for root in roots or _SOURCES]
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
