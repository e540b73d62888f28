# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the results of nodes go: counted, kept as far as there is room, and written to a file as JSON lines."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from pathlib import Path
from typing import IO, Any

from .record import BRIEF, Record


class Sink:
    """Takes each node's result once, from any thread. Memory is bounded by `keep`, however many nodes there are.

    :param path: a file for all results; gzip if it ends with ``.gz``. It is its owner's alone if it is new, since it holds outputs. Failures alone
        are kept then, with the beginning of their outputs.
    :param keep: the most results that are kept in memory.
    """

    def __init__(self, path: str | None = None, keep: int = 1000) -> None:
        self.counts: Counter[str] = Counter()
        self.left_out = 0
        self._keep = keep
        self._failed: list[Record] = []
        self._others: list[Record] = []
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._path = path
        if path:
            Path(path).touch(0o600)
            packed = path.endswith(".gz")
            # It is closed by `close`.
            self._file = gzip.open(path, "wt", 5, "utf-8") if packed else Path(path).open("w", encoding="utf-8")  # noqa: SIM115

    def add(self, record: Record) -> None:
        """A node's result."""
        with self._lock:
            self.counts[record["status"]] += 1
            if self._file is not None:
                self._file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
                record = _brief(record)
            failed = record["status"] != "success"
            if len(self._failed) < self._keep and failed:
                self._failed.append(record)
                if len(self._failed) + len(self._others) > self._keep:  # a failure is worth more than another node's success
                    self._others.pop()
                    self.left_out += 1
            elif not failed and self._file is not None:
                return
            elif not failed and len(self._failed) + len(self._others) < self._keep:
                self._others.append(record)
            else:
                self.left_out += 1

    def kept(self) -> list[Record]:
        """Failures first, each part ordered by place and node."""

        def place(record: Record) -> tuple[Any, ...]:
            return (record["status"] == "success", str(record["account_id"]), str(record["region"]), record["instance_id"])

        return sorted([*self._failed, *self._others], key=place)

    def close(self) -> None:
        """End the file, whatever happened to the run."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _brief(record: Record) -> Record:
    """With as much of outputs as the listing has."""
    long = {name: record[name][:BRIEF] for name in ("stdout", "stderr") if len(record.get(name) or "") > BRIEF}
    return {**record, **long, "output_truncated": True} if long else record
