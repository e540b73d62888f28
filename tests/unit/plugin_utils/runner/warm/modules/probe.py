#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that tells all that it can see of its process."""

from __future__ import annotations

import builtins
import fcntl
import gc
import json
import locale
import os
import random
import re
import resource
import signal
import stat
import sys
import threading
import time
import traceback
import types
import warnings

from ansible.module_utils.basic import AnsibleModule


def descriptors():
    found = {}
    for number in range(64):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        found[number] = [stat.S_IFMT(mode), fcntl.fcntl(number, fcntl.F_GETFL), fcntl.fcntl(number, fcntl.F_GETFD)]
    return found


def streams():
    found = {}
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        raw = getattr(stream.buffer, "raw", stream.buffer)
        found[name] = [
            stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.newlines, raw.name, raw.mode,
            raw.closefd, raw.fileno(), stream.isatty(), stream.seekable(), type(stream.buffer).__name__, stream is getattr(sys, "__%s__" % name),
        ]  # fmt: skip
    return found


def session():
    pid, group, leader = os.getpid(), os.getpgrp(), os.getsid(0)
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        foreground = os.tcgetpgrp(terminal) == group
        os.close(terminal)
    except OSError as error:
        terminal, foreground = error.errno, None
    try:
        os.setsid()
        can_lead = True
    except OSError as error:
        can_lead = error.errno
    return {
        "is leader of group": pid == group,
        "is leader of session": pid == leader,
        "group is session": group == leader,
        "parent leads group": os.getppid() == group,
        "terminal": terminal if foreground is None else "yes",
        "foreground": foreground,
        "may begin a session": can_lead,
    }


def proc(name):
    with open("/proc/self/" + name, "rb") as file:
        return file.read().decode("utf-8", "replace")


def status():
    wanted = "Name Umask Uid Gid Groups NoNewPrivs Seccomp CapInh CapPrm CapEff CapBnd CapAmb SigQ SigBlk SigIgn SigCgt Cpus_allowed Threads TracerPid".split()
    found = dict(line.split(":", 1) for line in proc("status").splitlines())
    return {name: found[name].strip() for name in wanted if name in found and name != "SigQ"}


def frames():
    frame, found = sys._getframe(), []
    while frame:
        found.append([frame.f_code.co_filename, frame.f_code.co_name])
        bottom, frame = frame, frame.f_back
    return found, bottom


def caught():
    try:
        raise ValueError("seen")
    except ValueError:
        return traceback.format_exc()


def strangers():
    """Paths of the place where the first imports were made for all, as if left in an object or a function."""
    gc.unfreeze()
    found = set()
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType):
            found.update(re.findall("^/proc/self/fd/[0-9].*|^<warm>", thing.__code__.co_filename))
        else:
            found.update(part for part in gc.get_referents(thing) if isinstance(part, str) and re.match("/proc/self/fd/[0-9]", part))
    return sorted(found)


def wrapper_frame():
    frame = sys._getframe()
    while frame.f_code.co_name != "_ansiballz_main":
        frame = frame.f_back
    return frame.f_back


def main():
    module = AnsibleModule(argument_spec=dict(text=dict(type="str", default=""), how=dict(type="str"), argument=dict(type="str")))
    own = sys.modules["__main__"]
    stack, bottom = frames()
    outer = wrapper_frame()
    seen = {
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "executable": sys.executable,
        "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix],
        "flags": repr(sys.flags),
        "xoptions": repr(sys._xoptions),
        "warnoptions": sys.warnoptions,
        "file": __file__,
        "name": __name__,
        "package": __package__,
        "loader": repr(__loader__),
        "spec": repr(__spec__),
        "main": sorted(vars(own)),
        "main values": {name: repr(value) for name, value in sorted(vars(own).items()) if isinstance(value, (str, int, type(None)))},
        "main of the wrapper": {name: repr(value) for name, value in sorted(outer.f_globals.items()) if isinstance(value, (str, int, type(None)))},
        "names in the wrapper": sorted(outer.f_globals),
        "wrapper's first line": outer.f_code.co_firstlineno,
        "line in the wrapper": outer.f_lineno,
        "bottom": [bottom.f_code.co_filename, bottom.f_code.co_name],
        "stack": stack,
        "path": sys.path,
        "importers": sorted(sys.path_importer_cache),
        "meta_path": [repr(getattr(finder, "__name__", finder)) for finder in sys.meta_path],
        "path_hooks": [getattr(hook, "__qualname__", repr(hook)) for hook in sys.path_hooks],
        "modules": sorted(name for name in sys.modules),
        "cwd": os.getcwd(),
        "descriptors": descriptors(),
        "streams": streams(),
        "stdin": sys.stdin.read(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")},
        "umask": [os.umask(0o22), os.umask(0o22)][0],
        "session": session(),
        "status": status(),
        "cmdline": proc("cmdline").split("\0"),
        "exe": os.readlink("/proc/self/exe"),
        "root": os.readlink("/proc/self/root"),
        "initial environment": sorted(entry for entry in proc("environ").split("\0") if entry),
        "cgroup": proc("cgroup"),
        "loginuid": proc("loginuid") if os.path.exists("/proc/self/loginuid") else None,
        "oom": proc("oom_score_adj"),
        "namespaces": sorted(os.readlink("/proc/self/ns/" + name) for name in os.listdir("/proc/self/ns")),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "scheduler": [os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
        "users": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
        "blocked signals": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "signal handlers": {int(number): repr(signal.getsignal(number)).split(" at ")[0] for number in signal.valid_signals()},
        "wakeup fd": signal.set_wakeup_fd(-1),
        "timers": [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "environment": dict(os.environ),
        "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()],
        "numbers": locale.localeconv(),
        "time zone": [time.tzname, time.timezone, time.altzone, time.strftime("%Z %z", time.localtime(0))],
        "hooks": [
            sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.unraisablehook is sys.__unraisablehook__,
            repr(sys.gettrace()), repr(sys.getprofile()), sys.breakpointhook is sys.__breakpointhook__,
        ],  # fmt: skip
        "limits of the interpreter": [sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.pycache_prefix],
        "garbage": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "frozen": gc.get_freeze_count() > 0,
        "threads": [threading.active_count(), threading.current_thread() is threading.main_thread(), threading.current_thread().name],
        "identity": [threading.main_thread().ident == threading.get_ident(), threading.main_thread().native_id == os.getpid()],
        "warnings": [repr(entry) for entry in warnings.filters],
        "builtins": sorted(vars(builtins)),
        "traceback": caught(),
        "last error": [hasattr(sys, name) for name in ("last_type", "last_value", "last_traceback")],
        "children": [os.WNOHANG, repr(children())],
        "strangers": strangers(),
        "used": resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime,
        "random": [random.random(), os.urandom(4).hex()],
        "text": module.params["text"],
    }
    module.exit_json(probe=json.dumps(seen, sort_keys=True))


def children():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError as error:
        return error.errno


if __name__ == "__main__":
    main()
