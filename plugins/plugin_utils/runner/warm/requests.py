# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a runner to run module payloads in warm interpreters, and to run errands. Controller side, without I/O.

One ``WarmRequests`` belongs to one RunnerClient, and knows what that one's node holds already.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from ..client import RunnerClient
from ..events import Failed
from ..frames import EXTENSION, fields
from ..requests import argv_of, to_bytes
from .payload import Errand, WarmJob

_FORGOTTEN: Final = "EAGAIN"
_NEVER: Final = "ENOTSUP"
#: Of `Failed.code`: nothing was started; run the same as an ordinary command.
NOT_STARTED: Final = frozenset((_FORGOTTEN, "EBUSY", _NEVER))
#: `Failed.code`: the module may have run, wholly or in part.
UNKNOWN: Final = "EOWNERDEAD"

_WARM: Final = EXTENSION
_ERRAND: Final = EXTENSION + 1

_HERE = Path(__file__).parent


@cache
def _source() -> bytes:
    """The runner's part, with the texts of the zygote's program in it."""

    def text(*names: str) -> str:
        return "".join((_HERE / f"{name}.py").read_text(encoding="utf-8") for name in names)

    return f"ZYGOTE = {text('library', 'leaving', 'zygote')!r}\n{text('keeper', 'errands')}".encode()


class WarmRequests:
    def __init__(self, client: RunnerClient) -> None:
        self._client = client
        self._loaded = False
        self._known: set[bytes] = set()
        self._special: set[str] = set()
        self._keys: dict[int, bytes] = {}  # of the requests under way
        self._unfit: set[bytes] = set()

    def worthwhile(self, job: WarmJob, secret: bytes = b"") -> bool:
        """Whether to try this job. An interpreter for one task's environment is kept only when that comes a second time."""
        if self._key(job, secret) in self._unfit:
            return False
        if not job.special or job.key in self._special:
            return True
        self._special.add(job.key)
        return False

    def submit(
        self,
        job: WarmJob,
        *,
        secret: bytes = b"",
        tty: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: str | bytes | None = None,
        after: int = 0,
    ) -> int:
        """Run a job. The request's events are those of ``RunnerClient.exec``, or ``Failed`` with a code of this file.

        stdin is for the password alone: ``stdin_eof`` follows when become has accepted it, or at once if none will be asked for. Jobs
        share an interpreter only if they have the same `secret`: give something that stands for the become password (never itself).
        `after` is an errand without whose usual result the job must not start.
        """
        request = self._exec(job.command, tty, env, cwd)
        fresh = [part for name, part in job.recipe.blobs.items() if name not in self._known]
        self._known.update(job.recipe.blobs)
        key = self._key(job, secret)
        id_ = self._client.extension(_WARM, fields([request, key, job.encode(), struct.pack("!I", after)]) + fields(fresh))
        self._keys[id_] = key
        return id_

    @staticmethod
    def _key(job: WarmJob, secret: bytes) -> bytes:
        return fields([job.key.encode("utf-8", "surrogateescape"), secret])

    def errand(self, command: str, errand: Errand) -> int:
        """Run a command of ``payload.errand``; its events are those of ``RunnerClient.exec``."""
        words = (word.encode() for word in (errand.what, *errand.arguments))
        return self._client.extension(_ERRAND, fields([self._exec(command, False, None, None), *words]))

    def _exec(self, command: str, tty: bool, env: Mapping[str, str] | None, cwd: str | bytes | None) -> bytes:
        """What an ordinary request for the command would carry."""
        if not self._loaded:
            self._client.load("warm", _source())
            self._loaded = True
        argv = argv_of(command)
        variables = [part for name, value in (env or {}).items() for part in (to_bytes(name), to_bytes(value))]
        head = struct.pack("!BHH", tty, len(argv), len(variables) // 2)
        return head + fields([to_bytes(cwd) if cwd else b"", *argv, *variables])

    def ended(self, id_: int) -> None:
        """Tell that a job ended in some other way than by ``Failed``."""
        self._keys.pop(id_, None)

    def failed(self, event: Failed) -> None:
        """Tell of a failed job: the node may have forgotten what it held, or cannot keep such an interpreter."""
        key = self._keys.pop(event.id, None)
        if event.code == _FORGOTTEN:
            self._known.clear()
        elif event.code == _NEVER and key is not None:
            self._unfit.add(key)
