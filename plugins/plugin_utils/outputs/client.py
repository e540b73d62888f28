# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other end of the gathering process, in ansible-playbook: starts it, and never waits for it before the end of the run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .disk import LOG, PENDING, LineFile

UPLOAD_PATIENCE = 600.0


class GatheringError(Exception):
    """The process ended, or was ended, before it answered."""


class Gathering:
    """One gathering process for a run."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Start it. The options may hold secrets: they go through its stdin. :raises OSError: it cannot be started."""
        self._log = folder / LOG
        self._pending = LineFile(folder / PENDING)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent), "serve", str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/",
            )  # fmt: skip
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        self._stdin, self._stdout = stdin, stdout
        self._requests, self._answers = stdin.fileno(), stdout.fileno()
        os.set_blocking(self._answers, False)
        self._received = b""
        self._send(options)
        os.set_blocking(self._requests, False)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Nodes to gather: ``folder``, ``head``, and ``nodes`` or ``path``."""
        self._pending.write(entry)
        # So many are unread that it will look anyway; or it has ended, which `settle` will tell.
        with contextlib.suppress(BlockingIOError, GatheringError):
            self._send({"more": True})

    def settle(self, patience: float, tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        """Wait until all is gathered; its counts. :raises GatheringError: after ``patience`` seconds, or if it broke."""
        return self._ask({"settle": True}, "settled", patience, tell)

    def upload(self, to: str, *, everything: bool) -> dict[str, Any]:
        """Upload the run's files. :raises GatheringError: if it broke."""
        return self._ask({"upload": {"to": to, "everything": everything}}, "uploaded", UPLOAD_PATIENCE, lambda _counts: None)

    def close(self) -> None:
        """End the process."""
        self._pending.close()
        self._stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        if self._log.exists() and not self._log.stat().st_size:
            self._log.unlink()

    def _send(self, content: Mapping[str, Any]) -> None:
        data = (json.dumps(content) + "\n").encode()
        try:
            os.write(self._requests, data)  # far below PIPE_BUF, but for the first line, which is sent blocking
        except BrokenPipeError:
            raise GatheringError(f"the process that gathers outputs has ended: see {self._log}") from None

    def _ask(self, request: Mapping[str, Any], answer: str, patience: float, tell: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
        deadline = time.monotonic() + patience
        os.set_blocking(self._requests, True)
        self._send(request)
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                content = json.loads(line)
                if answer in content:
                    found: dict[str, Any] = content[answer]
                    return found
                tell(content.get("progress") or {})
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise GatheringError(f"it is not done after {patience:.0f} s")
            data = os.read(self._answers, 65536)
            if not data:
                raise GatheringError(f"the process that gathers outputs has ended: see {self._log}")
            self._received += data
