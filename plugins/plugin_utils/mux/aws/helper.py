# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks AWS in a process of its own; :mod:`.helper_program` is its program.

Little is imported here, for one is started before the mux has imported what it needs itself: whoever waits for the first session waits
for both.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

_TIMEOUT = 60.0
_FRESH = 50.0
"""Seconds for which one that waits can be asked: it ends by itself after a minute."""

_ready: list[tuple[float, subprocess.Popen[bytes]]] = []
"""Those that wait, and since when (monotonic)."""


class CredentialsError(Exception):
    """No credentials could be had; the text says why."""


class AwsHelperError(Exception):
    """AWS refused what the helper asked; has a ``response`` as botocore's errors have."""

    def __init__(self, message: str, response: Any) -> None:
        super().__init__(message)
        self.response = response


def prepare() -> None:
    """Start one for the first question: it has botocore imported by then. Left alone, it ends within a minute, or with the mux."""
    with contextlib.suppress(OSError):
        _ready.append((time.monotonic(), _start()))


def dismiss() -> None:
    """Nothing will be asked just now."""
    with contextlib.suppress(IndexError):  # another thread may be as fast
        while True:
            _end(_ready.pop()[1])


def ask(question: Mapping[str, Any], environment: Mapping[str, str], context: str, *, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """An answer; see :mod:`.helper_program` for the shapes.

    :param environment: all that the process sees, but for what Python itself needs.
    :param context: what errors begin with.
    :param timeout: seconds.
    :raises CredentialsError: no answer, or one that is an error of finding credentials.
    :raises AwsHelperError: AWS refused.
    """
    process = _take()
    own = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "LD_", "VIRTUAL_ENV"))}
    with process:
        try:
            said, complaint = process.communicate(json.dumps({**question, "environment": {**environment, **own}}).encode(), timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise CredentialsError(f"{context + ': ' if context else ''}no answer within {timeout:.0f} s") from None
        except BaseException:
            process.kill()
            raise
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        answer = {"error": complaint.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"exit status {process.returncode}"}
    if "error" in answer:
        if "response" in answer:
            raise AwsHelperError(answer["error"], answer["response"])
        hint = ""
        if "SSO" in answer.get("type", "") or "sso" in answer["error"].lower():
            hint = "; log in with 'aws sso login'"
        raise CredentialsError(f"{context + ': ' if context else ''}{answer['error']}{hint}")
    return answer


def _take() -> subprocess.Popen[bytes]:
    with contextlib.suppress(IndexError):
        while True:
            since, process = _ready.pop()
            if time.monotonic() - since < _FRESH and process.poll() is None:
                return process
            _end(process)
    return _start()


def _end(process: subprocess.Popen[bytes]) -> None:
    with process:
        process.kill()


def _start() -> subprocess.Popen[bytes]:
    program = [sys.executable, "-P", os.path.join(os.path.dirname(__file__), "helper_program.py")]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", start_new_session=True)
