# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
# ruff: noqa: SIM905
"""How a child of the warm interpreter ends: as any interpreter, but without taking itself apart where nobody could tell.

Node side, part of the zygote's program (zygote.py). An interpreter that ends waits for its threads, calls what was registered with
``atexit`` and flushes its streams; then it clears one module after the other (5 ms with what a payload has imported), and at last the C
library ends the process. All that others can see of the clearing is what it runs: finalisers, callbacks of weak references, and what an
extension does when its objects go. A child that has none of these left goes straight to the C library's ``exit``.
"""

import gc
import os
import sys

# Extensions of the standard library whose objects write or restore something when they go.
LASTING = frozenset("_curses _dbm _gdbm _sqlite3 _tkinter readline".split())
# Whose callbacks of weak references do not reach beyond the process. The first is C code.
HARMLESS = (None, "weakref", "_weakrefset", "logging")
HAVE_GC = 1 << 14  # Py_TPFLAGS_HAVE_GC: the collector does not know the objects of other types


def finalised(objects):
    """Is something done when one of these goes?"""
    kinds = set(map(type, objects))
    if any(hasattr(kind, "__del__") for kind in kinds):  # files, sockets, generators and the like have it, too
        return True
    classes = [found for found in objects if issubclass(type(found), type)]
    if any(hasattr(kind, "__del__") and not kind.__flags__ & HAVE_GC for kind in classes):
        return True
    references = {kind for kind in kinds if issubclass(kind, sys.modules["weakref"].ref)}
    callbacks = [found.__callback__ for found in objects if type(found) in references]
    return any(callback and getattr(callback, "__module__", "") not in HARMLESS for callback in callbacks)


def lasting(name):
    """Is this module an extension that is not the standard library's own, or one that leaves something behind?"""
    file = getattr(sys.modules[name], "__file__", None) or ""
    return name in LASTING or (file.endswith(".so") and "/lib-dynload/" not in file and not name.startswith("systemd."))


class Leaving:
    """Made before anything else is registered with ``atexit``: its turn is the last."""

    def __init__(self):
        self.status = None
        self.modules = set()
        try:
            import atexit
            import ctypes
            import weakref  # noqa: F401

            self.exit = ctypes.CDLL(None).exit
            self.possible = not (atexit._ncallbacks() or sys.flags.dev_mode or sys.flags.verbose or sys.flags.inspect or hasattr(sys, "gettotalrefcount"))
            atexit.register(self.leave)
        except (ImportError, AttributeError, OSError):
            self.possible = False
        gc.freeze()

    def look(self):
        """Before a fork, after imports: if they brought what must be taken apart, all children take themselves apart."""
        self.possible = self.possible and not self.something()
        self.modules = set(sys.modules)
        gc.freeze()

    def something(self):
        """Is there, since the last look, anything that must be taken apart?"""
        return any(lasting(name) for name in set(sys.modules) - self.modules) or finalised(gc.get_objects())

    def ends(self, code):
        """A child is going to exit with this."""
        if code is None or (isinstance(code, int) and 0 <= code <= 255):
            self.status = int(code or 0)

    def leave(self):
        """The last of what is called at the end. If it returns, the interpreter goes on in its own way."""
        try:
            if self.status is None or not self.possible or sys.modules["_thread"]._count() or "PYTHONMALLOCSTATS" in os.environ:
                return
            if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__ or self.something():
                return
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:
            return  # a flush that failed fails once more, and the interpreter says so
        self.exit(self.status)
