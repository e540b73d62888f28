# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two streams of a step: files in the node's orchestration folder, copies in S3, and their text for the reply.

The files are appended to: a script that runs again after a reboot finds what it wrote before, and so does the reply.
Errors of the agent itself go to the end of stderr, without a new line in between.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .result import CANCELLED, FAILED, SUCCESS, join_streams, merge_status

_log = logging.getLogger(__name__)
_SUCCESS_CODE = 168

#: Stores a file under a key: (key, path). Raises OSError.
Upload = Callable[[str, Path], None]


class StepOutput:
    """What one step, or one part of a step of schema 1.x, gives. Use `open`, then the writers, then `close`."""

    def __init__(self) -> None:
        self.status = ""
        self.code = 0
        self.stdout = b""
        self.stderr = b""
        self._files: dict[str, IO[bytes]] = {}
        self._folder = Path()
        self._key = ""
        self._upload: Upload | None = None

    def open(self, folder: Path, key: str = "", upload: Upload | None = None) -> None:
        """Begin to write to files in `folder`; when closed, those with something in them go below `key`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key, self._upload = folder, key, upload
        for name in ("stdout", "stderr"):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._files[name] = os.fdopen(descriptor, "ab", buffering=0)

    def write(self, name: str, data: bytes) -> None:
        """Append to stdout or stderr."""
        self._files[name].write(data)

    def info(self, text: str) -> None:
        self.write("stdout", text.encode())

    def error(self, text: str) -> None:
        self.write("stderr", text.encode())

    def fail(self, text: str) -> None:
        """Mark as failed, with a reason."""
        self.code = self.code or 1
        self.status = FAILED
        if self._files:
            self.error(text)
        else:
            self.stderr += (b"\n" if self.stderr else b"") + text.encode()

    def succeed(self) -> None:
        self.code, self.status = 0, SUCCESS

    def cancel(self) -> None:
        """The step never began, since the command was cancelled."""
        self.code, self.status = 1, CANCELLED

    def close(self) -> None:
        """Read what is in the files, and upload them. A failed upload is logged and told to nobody."""
        for name, file in self._files.items():
            file.close()
            path = self._folder / name
            data = path.read_bytes()
            if name == "stdout":
                self.stdout = data
            else:
                self.stderr = data
            if data and self._upload is not None:
                try:
                    self._upload(f"{self._key}/{name}", path)
                except OSError as error:
                    _log.error("upload of %s: %s", path, error)
        self._files = {}

    def merge(self, other: StepOutput) -> None:
        """Add another part of the same step."""
        self.stdout = self.stdout + b"\n" + other.stdout if self.stdout else other.stdout
        self.stderr = self.stderr + b"\n" + other.stderr if self.stderr else other.stderr
        self.code = self.code or other.code
        self.status = merge_status(self.status, other.status)

    @property
    def both(self) -> bytes:
        """Both streams in one text; the error is left out where a script asked for success."""
        return join_streams(self.stdout, b"" if self.code == _SUCCESS_CODE else self.stderr)
