# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts and durations of many results, in little memory. No I/O."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from typing import Any

STATUSES = ("ok", "failed", "unreachable", "skipped", "unfinished")


class Durations:
    """Seconds; quantiles are exact, interpolated between neighbours (as spreadsheets and numpy do by default)."""

    def __init__(self) -> None:
        self._seconds = array("d")

    def add(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def to_fields(self) -> dict[str, float] | None:
        """p50, p95, max and sum, to the millisecond; `None` if there is none."""
        if not self._seconds:
            return None
        if len(self._seconds) == 1:
            p50 = p95 = self._seconds[0]
        else:
            cuts = statistics.quantiles(self._seconds, n=100, method="inclusive")
            p50, p95 = cuts[49], cuts[94]
        figures = {"p50": p50, "p95": p95, "max": max(self._seconds), "sum": sum(self._seconds)}
        return {name: round(value, 3) for name, value in figures.items()}


class Tally:
    """Results of one task, one host, or all."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.durations = Durations()
        self.output_bytes = 0
        self.outputs = 0

    def add(self, line: dict[str, Any]) -> None:
        """A line of the index."""
        self.counts[line["status"]] += 1
        self.counts["changed"] += bool(line.get("changed"))
        self.counts["ignored"] += bool(line.get("ignored")) and line["status"] in ("failed", "unreachable")
        if line.get("seconds") is not None and line["status"] != "skipped":
            self.durations.add(line["seconds"])
        for name in ("stdout", "stderr"):
            stream = line.get(name) or {}
            if stream.get("bytes"):
                self.outputs += 1
                self.output_bytes += stream["bytes"]

    @property
    def bad(self) -> int:
        """Failed or unreachable, and not ignored."""
        return self.counts["failed"] + self.counts["unreachable"] - self.counts["ignored"]

    def to_fields(self) -> dict[str, Any]:
        """Counts, error ratio (of what was not skipped) and durations."""
        results = sum(self.counts[status] for status in STATUSES)
        ran = results - self.counts["skipped"]
        return {
            "results": results,
            **{name: self.counts[name] for name in (*STATUSES, "changed", "ignored")},
            "errors": self.bad,
            "error_ratio": round(self.bad / ran, 6) if ran else 0.0,
            "seconds": self.durations.to_fields(),
            "outputs": self.outputs,
            "output_bytes": self.output_bytes,
        }
