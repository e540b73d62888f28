# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's system for a node without the machine's root.

In a user namespace the host's files belong to nobody: root of the node may read what everybody may, and change nothing.
So it is given directories of its own, over which the host's show through, and copies of what has to be root's: /etc, and
the programs that change users. What only the machine's root can read, such as passwords, is made anew.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
from pathlib import Path

from .kernel import bind, mount
from .overlay import hides, make_opaque, whiteout

_LAYERED = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var")
_PROGRAMS = ("bin", "sbin", "usr/bin", "usr/sbin")
_OWNED = ("usr/libexec/sudo", "usr/lib/sudo")  #: sudo loads only what is root's
_WRITABLE = ("usr", "usr/lib", "usr/libexec", "usr/share", "usr/share/man")
_MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp")
_DEPTH = 4  #: of folders in /var that root of the node may write in
_SUDOERS = """Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""


def layered() -> list[str]:
    """Folders of / that are overlays: one over / itself is refused, since other file systems are mounted below it."""
    return [name for name in _LAYERED if Path("/", name).is_dir() and not Path("/", name).is_symlink()]


def borrow(upper: Path) -> None:
    """Fill the writable layer; what is in it already stays as it is."""
    for name in _LAYERED:
        if Path("/", name).is_symlink():
            (upper / name).symlink_to(os.readlink(f"/{name}"))
    for name in _MOUNT_POINTS:
        (upper / name).mkdir()
    for name in (*_WRITABLE, *_PROGRAMS):
        if not Path("/", name).is_symlink() and Path("/", name).is_dir():
            (upper / name).mkdir(exist_ok=True)
    _own_folders(upper, "var")
    _own_folders(upper, "etc", files=True)
    for name in _OWNED:
        _own_folders(upper, name, files=True)
    for name in _PROGRAMS:
        if name in layered() or "/" in name:
            for entry in os.scandir(f"/{name}"):
                if entry.is_file(follow_symlinks=False) and entry.stat().st_mode & stat.S_ISUID:
                    _copy(Path(entry.path), upper / name / entry.name)
    _write_secrets(upper / "etc")


def mount_layers(directory: Path, root: Path) -> None:
    """Mount the root. Raises OSError."""
    bind(directory / "upper", root)
    for name in layered():
        work = directory / "work" / name
        work.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir=/{name},upperdir={directory}/upper/{name},workdir={work},userxattr"
        mount("overlay", root / name, "overlay", 0, options)


def _own_folders(upper: Path, top: str, *, files: bool = False) -> None:
    """Make the same folders, and copy the files, of a part of the host."""
    for folder, folders, names in os.walk(f"/{top}"):
        place = upper / folder.lstrip("/")
        if hides(place):
            folders.clear()
            continue
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)
        for name in folders:
            if not os.access(Path(folder, name), os.R_OK | os.X_OK) and not hides(place / name):
                make_opaque(place / name, 0o700)
        if folder.count("/") >= _DEPTH and not files:
            folders.clear()
        for name in names if files else ():
            _copy(Path(folder, name), place / name)


def _copy(source: Path, target: Path) -> None:
    """Copy a plain file with its mode, if nothing is in its place; hide it if it cannot be read."""
    if os.path.lexists(target) or source.is_symlink() or not source.is_file():
        return
    if os.access(source, os.R_OK):
        shutil.copy2(source, target)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
    else:
        whiteout(target)


def _write_secrets(etc: Path) -> None:
    """Without passwords: nobody of the host can log in."""
    _write(etc / "shadow", "".join(f"{user.pw_name}:*:19000:0:99999:7:::\n" for user in pwd.getpwall()), 0o640)
    _write(etc / "gshadow", "".join(f"{group.gr_name}:*::{','.join(group.gr_mem)}\n" for group in grp.getgrall()), 0o640)
    _write(etc / "sudoers", _SUDOERS, 0o440)


def _write(path: Path, text: str, mode: int) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)
    with contextlib.suppress(KeyError, OSError):  # no such group, or no other group than root's
        shutil.chown(path, group="shadow" if "shadow" in path.name else "root")
