# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that go to a node by Run Command: what is to be done, and the content that it needs. No I/O but reading our own files.

Content stands in the script itself, compressed; or in *blobs*, which the script finds on the node: brought by earlier commands in pieces,
or by presigned URLs. Blobs of module code stay there for further tasks; arguments and files never do.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent

PRINTED = 24_000
"""Characters of stdout that the agent passes on, and GetCommandInvocation gives (its reply's limit, agent's source)."""

SCRIPT_LIMIT = 60_000
"""Characters of a script in SendCommand's parameters. What AWS takes is not documented; 64 KiB of parameters as JSON are its documents' limit."""

LONGEST_COMMAND = 131_071
"""Bytes of one argument of a process on Linux (MAX_ARG_STRLEN, with its final zero)."""

_PIECE = SCRIPT_LIMIT - 5_000
"""Characters of base64 in one command that brings a piece of a blob; the head of the script needs the rest."""

_INLINE = 1_200
"""Bytes of content up to which a blob of its own is not worth it."""

_END = "=="


@dataclass(frozen=True)
class Blob:
    """Content that is on the node before it is used, by its name."""

    name: str
    """Begins with the content's SHA-256, hexadecimal."""
    packed: bytes = field(repr=False)
    """Compressed."""

    @classmethod
    def lasting(cls, data: bytes) -> Blob:
        """Of code, that further tasks will need as well."""
        return cls(hashlib.sha256(data).hexdigest(), gzip.compress(data, 9, mtime=0))

    @classmethod
    def passing(cls, data: bytes, nonce: str) -> Blob:
        """Of what is used once, and removed."""
        return cls(f"{hashlib.sha256(data).hexdigest()}-{nonce}", packed(data))

    @property
    def lasts(self) -> bool:
        """Whether it stays on the node."""
        return "-" not in self.name

    @property
    def pieces(self) -> int:
        """Commands that bring it."""
        return max(1, math.ceil(len(self.packed) / (_PIECE // 4 * 3)))

    def piece(self, number: int) -> bytes:
        """The part that the command of this number brings, from 0 on."""
        size = _PIECE // 4 * 3
        return self.packed[number * size : (number + 1) * size]


@dataclass(frozen=True)
class Fetched:
    """Content behind a presigned URL, compressed."""

    url: str = field(repr=False)


Part = bytes | Blob | Fetched


@dataclass(frozen=True)
class Job:
    """What is to be done on a node, before it has a name."""

    body: str
    """Which of the shell files: run, put, get."""
    subject: bytes
    """The command, or the path."""
    content: Sequence[Part] = ()
    """The input, or the file, in order."""
    variables: Mapping[str, str] = field(default_factory=dict)

    def blobs(self) -> Iterable[Blob]:
        """Those that the node must have."""
        return (part for part in self.content if isinstance(part, Blob))


def exec_job(command: bytes, content: Sequence[Part]) -> Job:
    """Run a command line by the node's shell."""
    return Job("run", command, content)


def put_job(path: bytes, mode: int | None, size: int, sha256: str, content: Sequence[Part]) -> Job:
    """Write a file."""
    return Job("put", path, content, {"m": "-" if mode is None else f"{mode:o}", "S": str(size), "H": sha256})


def get_job(path: bytes) -> Job:
    """Read a file."""
    return Job("get", path)


def script(job: Job, nonce: str, *, keep: bool, printed: int = PRINTED, python: str | None = None, urls: Mapping[str, str] | None = None) -> str:
    """The whole script.

    :param nonce: the name of this command, in letters and digits; its last line is known by it.
    :param keep: whether output that is too long to be printed is kept on the node until it is collected.
    :param printed: the most characters that may be printed.
    :param urls: where blobs can be had that the node may not have, by name.
    """
    urls = urls or {}
    lines = [*_head(nonce, keep, printed, python), "claim"]
    if urls or any(isinstance(part, Fetched) for part in job.content):
        lines += [f"Y={shlex.quote(_python())}"]
    for blob in job.blobs():
        if url := urls.get(blob.name):
            lines.append(
                f'blob {blob.name} || {{ transfer GET {shlex.quote(url)} "$w/f" || lost fetch; gzip -dc <"$w/f" >"$b/blobs/{blob.name}.$N"'
                f' && mv -f "$b/blobs/{blob.name}.$N" "$b/blobs/{blob.name}"; }} || refuse failed ENOSPC'
            )
        else:
            lines.append(f"blob {blob.name} || refuse miss {blob.name}")
    output = []
    for number, part in enumerate(job.content):
        if isinstance(part, Fetched):
            lines.append(f'transfer GET {shlex.quote(part.url)} "$w/f{number}" || lost fetch')
            output.append(f'gzip -dc <"$w/f{number}" || return 1')
        elif isinstance(part, Blob):
            output.append(f'cat "$b/blobs/{part.name}" || return 1')
            if not part.lasts:
                output.append(f'rm -f "$b/blobs/{part.name}"')
        elif part:
            output.append(_unpacked(part))
    lines += ["content() {", *output, ":", "}"]
    lines += [f"c=$({_unpacked(job.subject)}", "echo x)", "c=${c%x}"]
    lines += [f"{name}={shlex.quote(value)}" for name, value in job.variables.items()]
    return "\n".join([*lines, _shell(job.body)]) + "\n"


def piece_script(blob: Blob, number: int, nonce: str) -> str:
    """Brings one piece of a blob. Doing it twice is the same as doing it once."""
    path = f'"$b/blobs/{blob.name}'
    decode = "if command -v base64 >/dev/null 2>&1; then base64 -d; else openssl base64 -d -A; fi"
    encoded = base64.b64encode(blob.piece(number)).decode()
    return "\n".join(
        [*_head(nonce, False, PRINTED, None), f"{decode} <<'{_END}' >{path}.$N\"", encoded, _END,
         f'mv -f {path}.$N" {path}.{number + 1}" || refuse failed ENOSPC', "say brought"]
    ) + "\n"  # fmt: skip


def collect_script(kept: str, url: str, headers: Mapping[str, str], nonce: str, python: str | None) -> str:
    """Sends what the command of the name ``kept`` has left on the node."""
    method = "\n".join(["PUT", *(f"{name}: {value}" for name, value in headers.items())])
    values = {"Y": _python(), "R": kept, "c": url, "m": method}
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join([*_head(nonce, False, PRINTED, python), "claim", *lines, _shell("collect")]) + "\n"


def fetch_script(url: str, nonce: str, python: str | None) -> str:
    """Fetches another script, of the same name, and runs it: of what must not stand in SendCommand's parameters."""
    values = {"Y": _python(), "c": url}
    return "\n".join(
        [*_head(nonce, False, PRINTED, python), 'w=$b/get-$N', '[ ! -d "$b/run-$N" ] && mkdir "$w" 2>/dev/null || { say again; exit 0; }',
         *(f"{name}={shlex.quote(value)}" for name, value in values.items()),
         'transfer GET "$c" "$w/f" || lost fetch', 'a=$(gzip -dc <"$w/f") || refuse failed ENOSPC', 'rm -rf "$w"', 'umask "$U"', 'eval "$a"']
    ) + "\n"  # fmt: skip


def inline_size(parts: Iterable[bytes]) -> int:
    """Characters that content takes in a script, about."""
    return sum(len(gzip.compress(part, 6)) * 4 // 3 + 60 for part in parts)


def packed(data: bytes) -> bytes:
    """Content, or a script, as it is fetched by a presigned URL."""
    return gzip.compress(data, 6, mtime=0)


def is_small(data: bytes) -> bool:
    """Whether content had better stand in the script wherever it is possible."""
    return len(data) <= _INLINE


def _head(nonce: str, keep: bool, printed: int, python: str | None) -> list[str]:
    return [f"N={nonce}", f"K={int(keep)}", f"M={printed}", f"P={shlex.quote(python or '')}", _shell("wrapper")]


def _unpacked(data: bytes) -> str:
    encoded = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    return f"unpack <<'{_END}'\n{encoded}\n{_END}"


@cache
def _shell(name: str) -> str:
    lines = (line.strip() for line in (_HERE / f"{name}.sh").read_text(encoding="ascii").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


@cache
def _python() -> str:
    return (_HERE / "transfer.py").read_text(encoding="ascii").partition('"""\n\n')[2]
