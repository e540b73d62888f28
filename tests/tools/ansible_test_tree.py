# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy this repository to a place that ansible-test and ansible-lint accept: ``<root>/ansible_collections/fleet/ssm``.

Both want a real folder of that name, not a link to one. What is copied is what git knows, with new files and without ignored
ones; unchanged files keep their time stamps, so that caches by time stamp stay good. Also puts a stand-in for the ``get-pip``
script where ansible-test looks for it: the download of that script is its only need for a server other than the package index.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".ansible" / "test" / "cache"

# ansible-test of core 2.18 and 2.19, then of 2.20 and 2.21.
GET_PIP = ("get_pip_24_2.py", "get_pip_25_2.py")
STAND_IN = '''\
"""Stand-in for get-pip (from fleet.ssm's tests): installs the wanted pip with the one that Python brings along."""
import subprocess
import sys

wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *wanted]).returncode)
'''


def copy_tree(target: Path) -> None:
    """Make ``target`` hold exactly the files that git knows in the repository (tracked, or new and not ignored)."""
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
    names = {name for name in listing.stdout.decode().split("\0") if name and (REPOSITORY / name).exists()}
    # Depth first, so that a folder comes after what was in it.
    for old in sorted(target.rglob("*"), reverse=True):
        name = old.relative_to(target)
        if name.parts[:2] == ("tests", "output") or name.parts[0] in (".ansible", ".git", "collections"):
            continue
        if old.is_dir() and not old.is_symlink():
            # An empty folder would be a namespace package.
            if not any(old.iterdir()):
                old.rmdir()
        elif str(name) not in names:
            old.unlink()
    for name in names:
        source, copy = REPOSITORY / name, target / name
        if copy.exists() and copy.stat().st_mtime_ns == source.stat().st_mtime_ns and copy.stat().st_size == source.stat().st_size:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
    # Without a repository of its own, ansible-test would ask ours, which ignores the copy.
    subprocess.run(["git", "init", "--quiet", str(target)], check=True)


def link_dependencies(root: Path) -> None:
    """Let ``root`` show the collections that this one depends on: documentation fragments and imports come from there."""
    for namespace in sorted((REPOSITORY / "collections" / "ansible_collections").iterdir()):
        link = root / namespace.name
        if namespace.name != "fleet" and not link.is_symlink():
            link.symlink_to(namespace)


def stand_in_for_get_pip() -> None:
    """Leave the stand-in where ansible-test looks first, unless the real script is already there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in GET_PIP:
        if not (CACHE / name).exists():
            (CACHE / name).write_text(STAND_IN, encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder that shall hold ansible_collections/fleet/ssm")
    root: Path = parser.parse_args().root / "ansible_collections"
    copy_tree(root / "fleet" / "ssm")
    link_dependencies(root)
    stand_in_for_get_pip()


if __name__ == "__main__":
    main()
