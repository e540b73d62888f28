#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that ends in the way it is told."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

from ansible.module_utils.basic import AnsibleModule


class Loud:
    def __del__(self):
        os.write(1, b"finalised\n")


class Small:
    __slots__ = ()

    def __del__(self):
        os.write(1, b"finalised\n")


class Mute:
    pass


def left():
    """As a suspended generator."""
    try:
        yield
    finally:
        os.write(1, b"finalised\n")


def told(reference):
    os.write(1, b"told\n")


def thread():
    time.sleep(0.2)
    print("thread")


def main():
    module = AnsibleModule(argument_spec=dict(how=dict(type="str"), argument=dict(type="str")))
    how, argument = module.params["how"], module.params["argument"]
    if how == "exit":
        sys.exit(eval(argument))  # pylint: disable=eval-used
    if how == "raise":
        raise eval(argument)  # pylint: disable=eval-used
    if how == "os._exit":
        print("not flushed")
        os._exit(int(argument))
    if how == "signal":
        print("before", flush=True)
        os.kill(os.getpid(), int(argument))
        time.sleep(1)
    if how == "atexit":
        atexit.register(print, "first registered")
        atexit.register(print, "last registered")
        print("main")
    if how == "thread":
        threading.Thread(target=thread).start()
        print("main")
    if how == "fork":
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            print("child")
            sys.exit(3)
        print("parent", os.waitpid(pid, 0)[1] >> 8)
    if how == "subprocess":
        print(subprocess.run(argument, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False))
    if how == "closed":
        os.close(1)
        print("lost")
    if how == "finaliser":
        globals()["loud"] = Loud()
    if how == "finaliser elsewhere":
        sys.modules["loud"] = Loud()
    if how == "finaliser in a cycle":
        loud = Loud()
        loud.itself = loud
    if how == "finaliser of a small one":
        globals()["small"] = Small()
    if how == "generator":
        globals()["generator"] = left()
        next(globals()["generator"])
    if how == "file":
        # Not among globals, which end as a cycle: whether the collector saves the text of a file in it is a matter of luck.
        sys.modules["file"] = os.fdopen(os.dup(1), "w")
        sys.modules["file"].write("not flushed by the module")
    if how == "told":
        told.__module__ = argument
        sys.modules["mute"] = Mute()
        sys.modules["reference"] = weakref.ref(sys.modules["mute"], told)
    if how == "stream":
        sys.stdout = os.fdopen(os.dup(1), "w")
        print("not flushed by the module")
    if how == "closed stream":
        print("flushed")
        sys.stdout.close()
    if how == "daemon thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if how == "database":
        import sqlite3

        globals()["database"] = sqlite3.connect(argument)
        globals()["database"].execute("pragma journal_mode = wal")
        globals()["database"].execute("create table test (value)")
        globals()["database"].commit()
    if how == "hook":
        sys.excepthook = lambda kind, error, trace: print(kind.__name__, error, trace.tb_frame.f_code.co_name)
        raise KeyboardInterrupt("hooked")
    if how == "alarm":
        signal.alarm(1)
        time.sleep(60)
    if how == "daemon":
        if not os.fork():
            os.setsid()
            for fd in range(3):
                os.close(fd)
            while not os.path.exists(argument + ".seen"):
                time.sleep(0.05)
            with open(argument, "w") as file:
                file.write("outlived")
            os._exit(0)
    if how == "leave":
        # What another module must not see.
        sys.modules["left"] = sys
        sys.path.insert(0, "/left")
        os.environ["LEFT"] = "yes"
        os.chdir("/usr")
        os.umask(0o77)
        import json

        json.left = True
        print("left")
    if how == "look":
        import json

        print("left" in sys.modules, "/left" in sys.path, os.environ.get("LEFT"), os.getcwd(), hasattr(json, "left"), [os.umask(0), os.umask(0)][0])
    sys.exit(0)


if __name__ == "__main__":
    main()
