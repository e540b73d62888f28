# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a run. What is here does I/O and nothing else.

``DEST/RUN/`` holds ``index.jsonl``, ``run.json``, ``report.json``, ``report.html``, and ``PLAY/TASK/HOST/stdout`` and ``stderr``;
``.pending.jsonl`` holds what is to be gathered, for who has to go on with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

INDEX, RUN, PENDING, LOG = "index.jsonl", "run.json", ".pending.jsonl", ".gather.log"
REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_OWN = frozenset({PENDING, LOG})


def make_run(dest: str, name: str) -> Path:
    """A new folder for a run; one that exists is another run's, so a number is added.

    :raises OSError: it cannot be made.
    """
    Path(dest).mkdir(parents=True, exist_ok=True, mode=0o700)
    number = 1
    while True:
        folder = Path(dest, name if number == 1 else f"{name}~{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
            return folder
        number += 1


def encode_line(line: Mapping[str, Any]) -> bytes:
    """A line of JSON. A surrogate, which stands for invalid UTF-8, stays what it is in JSON: an escape."""
    return (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "backslashreplace")


class LineFile:
    """A file of JSON lines that grows; each line is written at once and whole, so several processes may write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        data = memoryview(encode_line(line))
        with self._lock:
            while data:
                data = data[os.write(self._file, data) :]

    def close(self) -> None:
        os.close(self._file)


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Lines of a file of JSON lines from a byte on, each with the byte after it.

    The beginning of a line that is yet to end is left; a line that is none (the disk was full) is passed over.
    """
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            with contextlib.suppress(ValueError):
                yield json.loads(line), offset


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A whole JSON file, or none."""
    write_whole(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "backslashreplace"))


def write_whole(path: Path, content: bytes) -> None:
    """A whole file, or none."""
    with whole_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is whole; its folder is made."""
    part = path.with_name(f"{path.name}.part")
    try:
        file = open(part, "wb", opener=_private)  # noqa: SIM115  # closed below
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(part, "wb", opener=_private)  # noqa: SIM115
    with file:
        yield file
    os.replace(part, path)


def join(path: Path, parts: Sequence[Path]) -> None:
    """Make one whole file of others, which go; one that is not there is empty."""
    there = [part for part in parts if part.exists()]
    if len(there) == 1:
        os.replace(there[0], path)
        return
    with whole_file(path) as file:
        for part in there:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, file)
    for part in there:
        part.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_end(folder: Path, name: str, limit: int) -> tuple[str, int]:
    """The last bytes of a file of a run as text, and how many are before them."""
    try:
        with open(folder / name, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            before = max(0, size - limit)
            file.seek(before)
            return file.read().decode("utf-8", "replace"), before
    except OSError as error:
        return f"({error.strerror})", 0


def files_of(folder: Path, *, everything: bool) -> Iterator[Path]:
    """The files to upload, the report last: with everything, outputs too."""
    report = [folder / name for name in (INDEX, RUN, REPORT_JSON, REPORT_HTML)]
    if everything:
        for root, _folders, names in os.walk(folder):
            for name in sorted(names):
                path = Path(root, name)
                if path not in report and name not in _OWN and not name.endswith(".part"):
                    yield path
    yield from (path for path in report if path.exists())
