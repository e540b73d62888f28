# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a script of ours has printed: its last line, and the streams before it. No I/O."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import re
from dataclasses import dataclass, field


class TrailerError(Exception):
    """The output is damaged: what the command did is known to its exit status at best."""


@dataclass(frozen=True)
class Stream:
    """One stream as the node has counted it."""

    size: int
    sha256: str
    """Hexadecimal; "-" where the node cannot hash."""

    def check(self, data: bytes) -> bytes:
        """The same bytes. :raises TrailerError: they are not what the node has counted."""
        if len(data) != self.size or self.sha256 not in ("-", hashlib.sha256(data).hexdigest()):
            raise TrailerError(f"{len(data)} bytes arrived of {self.size}, or with another hash")
        return data


@dataclass(frozen=True)
class Ended:
    """A command has run, or a file was read: `word` is exit or got, `value` the exit status or the file's mode."""

    word: str
    value: str
    stdout: Stream
    stderr: Stream
    data: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """stdout and stderr, if they were printed."""
    kept: bool = False
    """They are kept on the node."""
    packed: tuple[int, int] = (0, 0)
    """Bytes of the two as they are kept, compressed."""


@dataclass(frozen=True)
class Said:
    """Everything else that a script can say."""

    word: str
    values: tuple[str, ...] = ()
    detail: str = ""

    @property
    def nothing_started(self) -> bool:
        """Whether the node surely did nothing of what was asked."""
        return self.word in ("miss", "unusable", "fetch", "failed")


Trailer = Ended | Said


def read(text: str, nonce: str) -> Trailer | None:
    """The last line of the command of that name and what belongs to it; `None` if it is not (wholly) there.

    :raises TrailerError: it is there, but what was printed does not agree with it.
    """
    lines = list(re.finditer(rf"^fleet-ssm:{re.escape(nonce)} (.*)\n", text, re.MULTILINE))
    if not lines:
        return None
    found = lines[-1]
    word, *values = found[1].split()
    before = text[: found.start()].split("\n")[:-1]
    if word not in ("exit", "got"):
        detail = _decoded(before[-1]).decode("utf-8", "replace").strip() if word in ("fetch", "send") and before else ""
        return Said(word, tuple(values), detail)
    try:
        value, out_size, out_hash, err_size, err_hash, *rest = values
        stdout, stderr = Stream(int(out_size), out_hash), Stream(int(err_size), err_hash)
        if rest:
            return Ended(word, value, stdout, stderr, kept=rest[0] == "kept", packed=(int(rest[1]), int(rest[2])))
        data = stdout.check(unpack(_decoded(before[-2]))), stderr.check(unpack(_decoded(before[-1])))
    except (ValueError, IndexError) as error:
        raise TrailerError(f"the last line is no such: {found[1][:200]}") from error
    return Ended(word, value, stdout, stderr, data)


def unpack(packed: bytes) -> bytes:
    """:raises TrailerError: it is damaged."""
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, ValueError) as error:
        raise TrailerError(f"the output is damaged: {error}") from error


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line.strip(), validate=True)
    except binascii.Error as error:
        raise TrailerError(f"the output is damaged: {error}") from error
