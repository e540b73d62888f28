# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The marks by which an overlay's upper layer hides what is below it (Documentation/filesystems/overlayfs.rst of Linux)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .user_namespace import in_user_namespace


def whiteout(path: Path) -> None:
    """Hide a file or a tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def make_opaque(path: Path, mode: int) -> None:
    """Make a folder that hides what the lower one of its name holds."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.setxattr(path, _opaque(), b"y")


def hides(path: Path) -> bool:
    """Whether nothing of the lower layer shows below a path of the upper one."""
    return path.is_char_device() or (path.is_dir() and _opaque() in os.listxattr(path))


def _opaque() -> str:
    # Only the machine's root may set trusted attributes; the mount option userxattr has the overlay look at the others.
    return "user.overlay.opaque" if in_user_namespace() else "trusted.overlay.opaque"
