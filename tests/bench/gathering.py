# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``PYTHONPATH=collections python -m tests.bench.gathering``: outputs gathered from S3 by the callback, against a plain parallel download.

The plain one is a program with as many threads, which share one boto3 client, get each object and write it into a file. Both are processes of
their own that start, import and end; the callback's also keeps the index, and makes the report at the end. They take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.client import Gathering
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import RUN, make_run, write_json
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.reporting import make_report
from tests.lab import Lab

BUCKET = "bench-outputs"
TARGET = 1.3
HEAD = {"play": "bench", "play_number": 1, "task": "gather", "task_number": 1, "action": "fleet.ssm.run_command", "host": "localhost"}
FACTS = {
    "name": "bench", "playbook": "bench.yml", "job_id": None, "ansible_version": "", "check_mode": False,
    "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:10+00:00",
}  # fmt: skip


def key(number: int) -> str:
    return f"c/i-{number:05d}/awsrunShellScript/0.awsrunShellScript/stdout"


def nodes(count: int, region: str) -> list[dict[str, Any]]:
    """Results as the module returns them; stderr is known to be empty."""
    place = f"https://s3.{region}.amazonaws.com/{BUCKET}"
    known = {"status": "success", "rc": 0, "stderr": "", "output_truncated": False, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z"}
    return [{"instance_id": f"i-{number:05d}", "stdout": "x" * 2500, "stdout_uri": f"{place}/{key(number)}", **known} for number in range(count)]


def plain(folder: Path, count: int, connections: int) -> None:
    """The plain download, in a process of its own."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=connections))

    def fetch(number: int) -> None:
        content = client.get_object(Bucket=BUCKET, Key=key(number))["Body"].read()
        (folder / f"{number:05d}").write_bytes(content)

    with ThreadPoolExecutor(connections) as executor:
        for _done in executor.map(fetch, range(count)):
            pass


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


def timed(function: Callable[[Path], Any]) -> tuple[float, float, Any]:
    """Seconds that a function takes in a new folder, seconds of CPU of the processes that it starts and ends, and what it returns."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        result = function(Path(folder))
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def main() -> int:
    """Measure; 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gathering", description=__doc__)
    parser.add_argument("--count", type=int, default=5_000, help="outputs (default: %(default)s)")
    parser.add_argument("--size", type=int, default=10_000, help="bytes of each (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.plain:
        plain(chosen.plain, chosen.count, chosen.connections)
        return 0
    with Lab([]) as lab:
        os.environ.update(lab.env())
        client = lab.client("s3")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": lab.region})
        content = os.urandom(chosen.size)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda number: client.put_object(Bucket=BUCKET, Key=key(number), Body=content), range(chosen.count)))

        def plain_process(folder: Path) -> None:
            size = ["--count", str(chosen.count), "--connections", str(chosen.connections)]
            subprocess.run([sys.executable, "-m", "tests.bench.gathering", "--plain", str(folder), *size], check=True)

        seconds: dict[str, list[float]] = {"plain": [], "gathered": []}
        for round_ in range(chosen.rounds):
            order = ("plain", "gathered") if round_ % 2 == 0 else ("gathered", "plain")
            for name in order:
                if name == "plain":
                    took, cpu, _nothing = timed(plain_process)
                else:
                    took, cpu, counts = timed(lambda folder: gather(folder, chosen.count, chosen.connections, lab.region))
                    assert counts["objects"] == chosen.count and not counts["incomplete"], counts
                seconds[name].append(took)
                print(f"round {round_ + 1}  {name:<10}{took:8.2f} s, {cpu:.2f} s of CPU", flush=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["gathered"] / medians["plain"]
    figures = {name: round(value, 2) for name, value in medians.items()}
    print(json.dumps({"outputs": chosen.count, "bytes": chosen.size, "connections": chosen.connections, **figures}))
    print(f"{'ok' if ratio <= TARGET else 'MISSED'}  gathered / plain: {ratio:.2f} (target {TARGET}); the larger process had {peak:.0f} MB")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
