# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another ansible-core than the one that is installed: unpacked below ``.build/``, and used with what is installed otherwise."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / ".build"


def core_wheel(release: str, build: Path = BUILD) -> Path:
    """A folder for PYTHONPATH with the newest ansible-core of a release such as ``2.18``; downloaded once.

    :raises subprocess.CalledProcessError: the package index could not be reached, and no earlier download is there.
    """
    folder = build / f"ansible_core-{release}"
    if not folder.is_dir():
        build.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=build) as scratch:
            download = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version=3.12", "--dest", scratch]
            subprocess.run([*download, f"ansible-core~={release}.0"], check=True, stdin=subprocess.DEVNULL)
            (path,) = Path(scratch).glob("*.whl")
            unpacked = Path(scratch, "unpacked")
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(unpacked)
            unpacked.rename(folder)
    return folder
