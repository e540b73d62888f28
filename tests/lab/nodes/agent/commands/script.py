# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""aws:runShellScript: a script in a file, run by `sh -c FILE` in a process group of its own.

A command is over when its process has ended *and* nobody holds its outputs any more: a background child that does keeps
it running until its time is up. What a time-out or the end of a command kills is the process group; children in groups
of their own live on, and what they write is lost.
"""

from __future__ import annotations

import os
import platform
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .order import Step
from .result import CANCELLED, FAILED, SUCCESS, SUCCESS_AND_REBOOT, TIMED_OUT
from .runner import Surroundings
from .streams import StepOutput

_REBOOT = 194
_STOPPED = 137  #: of a script that was killed for its time-out, or by a cancel; of any other script too
_DEFAULT_TIMEOUT = 3600
_TIMEOUTS = range(5, 172_801)
_CHUNK = 65536


@dataclass(frozen=True)
class Script:
    """The inputs of a script step."""

    lines: tuple[str, ...]
    folder_name: str
    working_directory: str
    timeout: int  #: seconds
    environment: dict[str, str]


def parse_script(properties: Any) -> Script:
    """Raises ValueError in the agent's words; names of inputs are taken in any case, as Go's JSON does."""
    complaint = f"Invalid format in plugin properties {go_text(properties)};\nerror json: cannot unmarshal"
    if not isinstance(properties, Mapping):
        raise ValueError(f"{complaint} {_kind(properties)} into Go value of type runscript.RunScriptPluginInput")
    given = {name.lower(): value for name, value in properties.items()}
    lines = given.get("runcommand") or []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"{complaint} {_kind(lines)} into Go struct field RunScriptPluginInput.runCommand of type []string")
    folder = given.get("id") or ""
    directory = given.get("workingdirectory") or ""
    if not isinstance(directory, str):
        raise ValueError(
            f"{complaint} {_kind(directory)} into Go struct field RunScriptPluginInput.workingDirectory of type string"
        )
    return Script(
        lines=tuple(lines),
        folder_name="" if folder.startswith(("../", "~/")) else folder,
        working_directory=directory,
        timeout=execution_timeout(given.get("timeoutseconds")),
        environment={str(name): str(value) for name, value in (given.get("environment") or {}).items()},
    )


def go_text(value: Any) -> str:
    """JSON as Go prints it with %v."""
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{go_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: Any) -> str:
    """What Go's JSON calls a value. Of a list it names the member that does not fit."""
    if isinstance(value, list):
        return next((_kind(member) for member in value if not isinstance(member, str)), "array")
    if isinstance(value, bool):
        return "bool"
    return "object" if isinstance(value, Mapping) else "string" if isinstance(value, str) else "number"


def execution_timeout(value: Any) -> int:
    """Seconds: what is no number, or out of 5 to 172,800, is 3,600."""
    try:
        number = int(float(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0
    except (ValueError, OverflowError):
        number = 0
    return number if number in _TIMEOUTS else _DEFAULT_TIMEOUT


def step_folder(around: Surroundings, step: Step) -> Path:
    """The orchestration folder of a step: by its name, in schema 1.x its plugin's."""
    return around.folder / step.step_id.replace(":", "")


def downloads(around: Surroundings, step: Step) -> Path:
    """Where aws:downloadContent puts things and scripts look for them; its own for each plugin in schema 1.x."""
    folder = step_folder(around, step)
    return (folder if ":" in step.step_id else folder.parent) / "downloads"


def run_shell_script(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
    """The plugin aws:runShellScript."""
    _run(around, step, properties, output, "sh", ["-c"], "_script.sh")


def run_power_shell_script(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
    """The plugin aws:runPowerShellScript where there is PowerShell for Linux, or is not."""
    program = "/usr/bin/powershell" if Path("/usr/bin/powershell").exists() else "/usr/bin/pwsh"
    _run(around, step, properties, output, program, ["-f"], "_script.ps1")


def _run(
    around: Surroundings,
    step: Step,
    properties: Any,
    output: StepOutput,
    program: str,
    arguments: list[str],
    file_name: str,
) -> None:
    try:
        script = parse_script(properties)
    except ValueError as error:
        output.fail(str(error))
        return
    folder = step_folder(around, step)
    if script.folder_name:
        folder = folder / script.folder_name.replace(":", "")
    path = folder / file_name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes((b"\xef\xbb\xbf" if file_name.endswith("ps1") else b"") + ("\n".join(script.lines) + "\n").encode())
    path.chmod(0o700)
    if os.path.isabs(script.working_directory):
        directory: Path | None = Path(script.working_directory)
    else:
        directory = downloads(around, step) / script.working_directory
        directory = directory if directory.exists() else None
    program = shutil.which(program) or program
    execution = _Execution(around, output, script.timeout)
    code, wrong = execution.run([program, *arguments, str(path)], directory, _environment(around, script))
    finish(output, code, wrong, stopped=_STOPPED, reboot=_REBOOT, cancelled=around.cancelled())


def finish(output: StepOutput, code: int, error: str, *, stopped: int, reboot: int, cancelled: bool) -> None:
    """The state of a step by its exit code; `error` is what was wrong, empty if nothing."""
    output.code = code
    if code == 0:
        output.status = SUCCESS
    elif code == reboot:
        output.status = SUCCESS_AND_REBOOT
    elif code == stopped:
        output.status = CANCELLED if cancelled else TIMED_OUT
    else:
        output.status = FAILED
    if error and output.status in (FAILED, SUCCESS):
        output.fail(f"failed to run commands: {error}")


def _environment(around: Surroundings, script: Script) -> dict[str, str]:
    release = platform.freedesktop_os_release()
    return {
        **os.environ,
        **script.environment,
        "SSM_COMMAND_ID": around.command_id,
        "AWS_SSM_INSTANCE_ID": around.config.node_id,
        "AWS_SSM_REGION_NAME": around.config.region,
        "AWS_SSM_PLATFORM_NAME": release.get("NAME", "Linux"),
        "AWS_SSM_PLATFORM_VERSION": release.get("VERSION_ID", ""),
    }


class _Execution:
    """One process with its two outputs."""

    def __init__(self, around: Surroundings, output: StepOutput, timeout: int) -> None:
        self._around, self._output, self._timeout = around, output, timeout

    def run(self, argv: list[str], directory: Path | None, environment: dict[str, str]) -> tuple[int, str]:
        """The exit code, and Go's words for what is wrong with it; -1 for a signal."""
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env=environment,
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            return 1, f"fork/exec {argv[0]}: {(error.strerror or str(error)).lower()}"
        if not self._follow(process):
            process.poll()  # one that has ended no longer counts as a member of its group
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # only a child in a group of its own held the outputs
                return 1, "no such process"
            return _STOPPED, "stopped"
        code = process.wait()
        if code < 0:
            return -1, f"signal: {(signal.strsignal(-code) or str(-code)).lower()}"
        return code, f"exit status {code}" if code else ""

    def _follow(self, process: subprocess.Popen[bytes]) -> bool:
        """Take what it writes until it is over; False if it is to be killed."""
        deadline = time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
                assert pipe is not None
                selector.register(pipe, selectors.EVENT_READ, name)
            if self._around.wake >= 0:
                selector.register(self._around.wake, selectors.EVENT_READ, "wake")
            open_pipes = 2
            while open_pipes:
                left = deadline - time.monotonic()
                if left <= 0 or self._around.cancelled():
                    return False
                for key, _events in selector.select(left):
                    if key.data == "wake":
                        selector.unregister(key.fd)
                        continue
                    data = os.read(key.fd, _CHUNK)
                    if data:
                        self._output.write(key.data, data)
                    else:
                        selector.unregister(key.fd)
                        open_pipes -= 1
            # Both ends are closed; the process itself may go on without any output.
            while process.poll() is None:
                if time.monotonic() >= deadline or self._around.cancelled():
                    return False
                time.sleep(0.005)
        return True
