# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack the collections that tests and playbooks need beside this one, and link this one next to them.

They come from the package index's ``ansible`` package, not from Galaxy: one pinned wheel holds them all, so that a mirror of the
package index is the only thing that must be reachable, and only once. Run with the Python of the virtual environment:

    python tests/tools/unpack_collections.py collections
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# The newest ``ansible`` package whose collections support the ansible-core of that Python (see requirements-dev.txt).
PACKAGE = "ansible==14.5.0" if sys.version_info >= (3, 12) else "ansible==12.3.0"

# Why each: the dependency in galaxy.yml; synchronize and acl; the part of the role agent for Windows; become with doas.
WANTED = ("amazon.aws", "ansible.posix", "ansible.windows", "community.general")


def present(root: Path) -> bool:
    """True if every wanted collection of the pinned package is unpacked below ``root``."""
    mark = root / ".package"
    return mark.is_file() and mark.read_text(encoding="utf-8").split() == [PACKAGE, *WANTED]


def unpack(root: Path) -> None:
    """Download the package, unpack the wanted collections below ``root/ansible_collections`` and leave a mark."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            for collection in WANTED:
                prefix = "ansible_collections/" + collection.replace(".", "/") + "/"
                members = [name for name in names if name.startswith(prefix)]
                if not members:
                    raise SystemExit(f"{PACKAGE} does not hold {collection}")
                shutil.rmtree(root / prefix, ignore_errors=True)
                archive.extractall(root, members)
    (root / ".package").write_text("\n".join([PACKAGE, *WANTED, ""]), encoding="utf-8")


def link(root: Path) -> None:
    """Make ``fleet.ssm`` below ``root`` a relative link to this repository."""
    ours = root / "ansible_collections" / "fleet" / "ssm"
    ours.parent.mkdir(parents=True, exist_ok=True)
    if not ours.is_symlink():
        ours.symlink_to(os.path.relpath(REPOSITORY, ours.parent.resolve()), target_is_directory=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that shall hold ansible_collections/")
    root: Path = parser.parse_args().root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    if not present(root):
        unpack(root)
    link(root)


if __name__ == "__main__":
    main()
