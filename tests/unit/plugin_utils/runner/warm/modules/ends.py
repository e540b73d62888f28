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

from ansible.module_utils.basic import AnsibleModule


class Loud:
    def __del__(self):
        os.write(1, b"finalised\n")


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
            time.sleep(0.5)
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
