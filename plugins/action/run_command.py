# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of the module of the same name while it runs, and ends it with its controller.

A module has no way to say something before its end. It writes its progress to a file, and this, which runs beside it on the controller, shows
each change as a line. So nothing is shown when the task is delegated to another machine.

Workers and their modules outlive an `ansible-playbook` that is killed, as ansible-runner kills a job that is cancelled. This module would go on to send.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.progress import line

display = Display()

#: Seconds between lines, and before the first one, so that a short run shows none.
INTERVAL = 5.0
#: Seconds between looks whether the controller still lives.
LOOK_AROUND = 1.0


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._connection.transport != "local":
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        with ExitStack() as stack:
            path = None
            if not arguments.get("progress_path"):
                path = arguments["progress_path"] = os.path.join(stack.enter_context(TemporaryDirectory(prefix="fleet-ssm-")), "progress.json")
            ended = threading.Event()
            watcher = threading.Thread(target=watch, args=(path, ended, os.getppid()), daemon=True)
            watcher.start()
            try:
                result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
            finally:
                ended.set()
                watcher.join()
        if path:  # it is none of the task's own options
            result.get("invocation", {}).get("module_args", {}).pop("progress_path", None)
        return result


def watch(path: str | None, ended: threading.Event, controller: int) -> None:
    """Show what stands in the file, if any, whenever it has changed; end this worker, and so the module, if the controller is gone."""
    shown, named, due = "", False, time.monotonic() + INTERVAL
    while not ended.wait(LOOK_AROUND):
        if os.getppid() != controller:
            os.kill(os.getpid(), signal.SIGTERM)  # as the controller does itself if it can
        if path is None or time.monotonic() < due:
            continue
        due = time.monotonic() + INTERVAL
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            continue
        text = line(found)
        if text != shown:
            run = "" if named else f" (run_id {found['run_id']})"
            display.display(f"fleet.ssm.run_command: {text}{run}")
            shown, named = text, True
