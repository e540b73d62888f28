# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of the module of the same name while it runs.

A module has no way to say something before its end. It writes its progress to a file, and this, which runs beside it on the controller, shows
each change as a line. So nothing is shown when the task is delegated to another machine.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.progress import line

display = Display()

#: Seconds between lines, and before the first one, so that a short run shows none.
INTERVAL = 5.0


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._connection.transport != "local" or arguments.get("progress_path"):
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        with tempfile.TemporaryDirectory(prefix="fleet-ssm-") as folder:
            arguments["progress_path"] = path = os.path.join(folder, "progress.json")
            ended = threading.Event()
            watcher = threading.Thread(target=watch, args=(path, ended), daemon=True)
            watcher.start()
            try:
                result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
            finally:
                ended.set()
                watcher.join()
        # It is none of the task's own options.
        result.get("invocation", {}).get("module_args", {}).pop("progress_path", None)
        return result


def watch(path: str, ended: threading.Event) -> None:
    """Show what stands in the file, whenever it has changed."""
    shown, named = "", False
    while not ended.wait(INTERVAL):
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
