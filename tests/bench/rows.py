# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row of ``results/bench.json``, and the file itself."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """What one run of a playbook took."""

    seconds: float  #: wall clock of ansible-playbook; with one host, less ``idle_s``
    idle_s: int  #: seconds that modules waited for nothing on the nodes, see callback_plugins/idle_waits.py
    controller_cpu_s: float  #: user and system time of ansible-playbook and its children, and of the mux or the ssh masters meanwhile
    background_cpu_s: float  #: the part of that which the mux or the ssh masters took
    peak_rss_mb: float  #: the largest process of ansible-playbook
    background_rss_mb: float  #: what stays between plays (mux, ssh masters): the sum of their peaks
    node_rss_mb: float | None  #: all processes that the transport has on one node after the run; shared pages are shared out among their users
    api_calls: int | None  #: requests to the lab's AWS API
    wire_bytes: int | None  #: both directions, at the controller's end


@dataclass(frozen=True)
class Key:
    """What was measured."""

    transport: str
    workload: str
    become: bool
    latency_ms: int  #: one way
    hosts: int


@dataclass(frozen=True)
class Row:
    """The samples of one key, put together. Seconds are of the whole playbook; ``marginal_ms`` is for a task, less the empty play; ``idle_s`` is a mean."""

    transport: str
    workload: str
    become: bool
    latency_ms: int
    hosts: int
    tasks: int
    median_s: float
    min_s: float
    max_s: float
    marginal_ms: float | None
    controller_cpu_s: float
    background_cpu_s: float
    peak_rss_mb: float
    background_rss_mb: float
    node_rss_mb: float | None
    api_calls: float | None
    wire_bytes: float | None
    runs: int
    idle_s: float = 0.0


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def make_row(key: Key, tasks: int, samples: Sequence[Sample], empty_s: float | None) -> Row:
    """Put samples together; ``empty_s`` is the median of the empty play of the same transport, latency and hosts."""
    seconds = [sample.seconds for sample in samples]
    median = statistics.median(seconds)
    return Row(
        **asdict(key), tasks=tasks, median_s=round(median, 3), min_s=round(min(seconds), 3), max_s=round(max(seconds), 3),
        marginal_ms=None if empty_s is None or not tasks else round(1000 * (median - empty_s) / tasks, 1),
        idle_s=round(statistics.mean(sample.idle_s for sample in samples), 1),
        controller_cpu_s=_median(sample.controller_cpu_s for sample in samples) or 0.0,
        background_cpu_s=_median(sample.background_cpu_s for sample in samples) or 0.0,
        peak_rss_mb=_median(sample.peak_rss_mb for sample in samples) or 0.0,
        background_rss_mb=_median(sample.background_rss_mb for sample in samples) or 0.0,
        node_rss_mb=_median(sample.node_rss_mb for sample in samples),
        api_calls=_median(sample.api_calls for sample in samples),
        wire_bytes=_median(sample.wire_bytes for sample in samples),
        runs=len(samples),
    )


def machine_facts() -> dict[str, Any]:
    """What figures were taken on."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("model name")), "")
    memory_kb = int(Path("/proc/meminfo").read_text(encoding="utf-8").split()[1])
    return {"cpu": cpu or platform.machine(), "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory_kb / 1024 / 1024), "kernel": platform.release()}


@dataclass(frozen=True)
class Results:
    """A whole run of the bench."""

    rows: list[Row]
    versions: dict[str, str]
    date: str
    machine: dict[str, Any] = field(default_factory=machine_facts)

    def find(self, transport: str, workload: str, *, become: bool = False, latency_ms: int = 0) -> Row | None:
        """The one row of that name."""
        for row in self.rows:
            if (row.transport, row.workload, row.become, row.latency_ms) == (transport, workload, become, latency_ms):
                return row
        return None

    def write(self, path: Path) -> None:
        """As JSON, one row a line."""
        head = {"date": self.date, "machine": self.machine, "versions": self.versions}
        lines = ",\n".join("    " + json.dumps(asdict(row)) for row in self.rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(head, indent=2)[:-2] + ',\n  "rows": [\n' + lines + "\n  ]\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """What :meth:`write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls([Row(**row) for row in data["rows"]], data["versions"], data["date"], data["machine"])
