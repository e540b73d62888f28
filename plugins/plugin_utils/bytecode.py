# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytecode for this collection's plugin_utils.

Ansible's own loader compiles the files of collections anew in each process, and a connection plugin is loaded in the worker of
each task: 25 ms of compiling for a task that takes 100. With this, Python keeps the bytecode beside them, as it does for anything else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

_PACKAGE = __package__ + "."


class _Finder(MetaPathFinder):
    """Finds what is below this package in its parent's folders, as Python does by default."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(_PACKAGE):
            return None
        specs = (FileFinder(folder, (SourceFileLoader, [".py"])).find_spec(fullname) for folder in path or ())
        return next((spec for spec in specs if spec is not None and spec.loader is not None), None)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """For the imports within."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
