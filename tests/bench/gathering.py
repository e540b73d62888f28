# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs gathered from S3 by the callback, against a plain parallel download.

The plain one is a program with as many threads, which share one boto3 client, get each object and write it into a file (`download.py`). Both are processes of
their own that start, import and end; the callback's also keeps the index, and makes the report at the end. They take turns.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.client import Gathering
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import RUN, make_run, write_json
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.reporting import make_report
from tests.lab import Lab
from tests.tools.node_result import node_result

from .download import key
from .measures import Measure

TITLE = "Outputs gathered from S3 by `fleet.ssm.outputs`"
NOTE = "Medians of three turns each; the callback's time has its index and report in it."
BUCKET = "bench-outputs"
COUNT, SIZE, CONNECTIONS, ROUNDS = 5_000, 10_000, 16, 3
TARGET = 1.3
HEAD = {"play": "bench", "play_number": 1, "task": "gather", "task_number": 1, "action": "fleet.ssm.run_command", "host": "localhost"}
FACTS = {
    "name": "bench", "playbook": "bench.yml", "job_id": None, "ansible_version": "", "check_mode": False,
    "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:10+00:00",
}  # fmt: skip


def nodes(count: int, region: str) -> list[dict[str, Any]]:
    """Results as the module returns them; stderr is known to be empty."""
    place, known = f"https://s3.{region}.amazonaws.com/{BUCKET}", {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z"}
    return [{**node_result(f"i-{number:05d}", "x" * 2400, folder=f"{place}/c/i-{number:05d}"), **known} for number in range(count)]


def gather(folder: Path, count: int, connections: int, region: str) -> dict[str, Any]:
    """What the callback does; counts of the gathering."""
    run = make_run(str(folder), "run")
    write_json(run / RUN, FACTS)
    gathering = Gathering(run, {"connections": connections, "late_seconds": 30, "region": region})
    try:
        gathering.add({"folder": "01-bench/001-gather", "head": HEAD, "nodes": nodes(count, region)})
        counts = gathering.settle(3600, lambda _counts: None)
    finally:
        gathering.close()
    make_report(run)
    return counts


def timed(function: Callable[[Path], Any]) -> tuple[float, float]:
    """Seconds that a function takes in a new folder, and seconds of CPU of the processes that it starts and ends."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        function(Path(folder))
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextlib.contextmanager
def outputs() -> Iterator[str]:
    """A bucket with all outputs, to which the environment leads; its region."""
    with Lab([]) as lab:
        os.environ.update(lab.env())
        client = lab.client("s3")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": lab.region})
        content = os.urandom(SIZE)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda number: client.put_object(Bucket=BUCKET, Key=key(number), Body=content), range(COUNT)))
        yield lab.region


def measure() -> Iterator[Measure]:
    """Both ways in turns."""
    seconds: dict[str, list[float]] = {"plain": [], "gathered": []}
    cpu: dict[str, list[float]] = {"plain": [], "gathered": []}
    with outputs() as region:

        def plain_process(folder: Path) -> None:
            subprocess.run([sys.executable, "-m", "tests.bench.download", str(folder), BUCKET, str(COUNT), str(CONNECTIONS)], check=True)

        def gathered(folder: Path) -> None:
            counts = gather(folder, COUNT, CONNECTIONS, region)
            if counts["objects"] != COUNT or counts["incomplete"]:
                raise RuntimeError(f"not all outputs were gathered: {counts}")

        ways: list[tuple[str, Callable[[Path], Any]]] = [("plain", plain_process), ("gathered", gathered)]
        for round_ in range(ROUNDS):
            for name, way in ways if round_ % 2 == 0 else reversed(ways):
                took, of_cpu = timed(way)
                seconds[name].append(took)
                cpu[name].append(of_cpu)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    figures: dict[str, float | None] = {
        "s": round(medians["gathered"], 2),
        "s of a plain download": round(medians["plain"], 2),
        "ratio": round(medians["gathered"] / medians["plain"], 3),
        "s of CPU": round(statistics.median(cpu["gathered"]), 2),
        "s of CPU, plain": round(statistics.median(cpu["plain"]), 2),
    }
    yield Measure(f"{COUNT:,} outputs of {SIZE // 1000} kB, {CONNECTIONS} connections", figures, {"ratio": TARGET})
