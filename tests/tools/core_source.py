# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the source distribution of the installed ansible-core, which holds its own integration suites.

They are used at test time, from ``.build/``, and never copied into this repository. As a program it prints the folder
(``…/test/integration/targets`` stands below it); from a test call :func:`core_source`.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / ".build"


def core_source(build: Path = BUILD) -> Path:
    """The unpacked source of the ansible-core that is installed beside this Python; downloaded once below ``build``.

    :raises subprocess.CalledProcessError: the package index could not be reached, and no earlier download is there.
    """
    release = version("ansible-core")
    folder = build / f"ansible_core-{release}"
    if not folder.is_dir():
        build.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=build) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "ansible-core",
                       "--dest", scratch, f"ansible-core=={release}"]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            (archive,) = Path(scratch).glob("*.tar.gz")
            with tarfile.open(archive) as source:
                # The first releases of Python 3.11 know no filters.
                source.extractall(scratch, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            (Path(scratch) / folder.name).rename(folder)
    return folder


if __name__ == "__main__":
    print(core_source())
