# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""aws:runPowerShellScript on a Windows node: there is no PowerShell here, a table says what a script gives.

The first entry whose `pattern` (a regular expression) is found in the script counts. Code 3010 asks for a reboot, after
which the script runs again and gives what `again` of the entry says, or the same without that code.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .order import Step
from .runner import Plugin, Surroundings
from .script import finish, parse_script, step_folder
from .streams import StepOutput

REBOOT = 3010
_STOPPED = -1
_FIELDS = {"pattern", "stdout", "stderr", "rc", "seconds", "again"}


def check_table(table: Any) -> None:
    """Raises ValueError naming what is wrong with a table of results."""
    if not isinstance(table, list | tuple):
        raise ValueError("scripts must be a list of results")
    for entry in table:
        if not isinstance(entry, Mapping):
            raise ValueError(f"a scripted result is an object, not {entry!r}")
        unknown = set(entry) - _FIELDS
        if unknown:
            raise ValueError(f"a scripted result has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_FIELDS))}")
        re.compile(str(entry.get("pattern", "")))
        check_table([entry["again"]] if "again" in entry else [])


def scripted_plugin(table: tuple[dict[str, Any], ...]) -> Plugin:
    """The plugin that answers from `table`."""

    def run(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
        try:
            script = parse_script(properties)
        except ValueError as error:
            output.fail(str(error))
            return
        folder = step_folder(around, step) / script.folder_name.replace(":", "")
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(script.lines) + "\n"
        (folder / "_script.ps1").write_text("\ufeff" + text)
        entry = next((entry for entry in table if re.search(str(entry.get("pattern", "")), text)), None)
        if entry is None:
            output.error("The lab has no scripted result for this script.\r\n")
            finish(output, 1, "exit status 1", stopped=_STOPPED, reboot=REBOOT, cancelled=False)
            return
        if not _first_run(folder):
            entry = entry.get("again") or {**entry, "rc": 0}
        code = _act(around, entry, script.timeout, output)
        wrong = f"exit status {code}" if code else ""
        finish(output, code, wrong, stopped=_STOPPED, reboot=REBOOT, cancelled=around.cancelled())

    return run


def _first_run(folder: Path) -> bool:
    mark = folder / "_ran"
    first = not mark.exists()
    mark.touch()
    return first


def _act(around: Surroundings, entry: Mapping[str, Any], timeout: int, output: StepOutput) -> int:
    """Write, wait as long as the script is said to take, and give its exit code."""
    output.write("stdout", str(entry.get("stdout", "")).encode())
    output.write("stderr", str(entry.get("stderr", "")).encode())
    seconds = float(entry.get("seconds", 0))
    end = time.monotonic() + min(seconds, timeout)
    while (left := end - time.monotonic()) > 0:
        if around.cancelled():
            return _STOPPED
        select.select([around.wake] if around.wake >= 0 else [], [], [], left)
    if around.cancelled() or seconds > timeout:
        return _STOPPED
    return int(entry.get("rc", 0))
