# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a run on 228 hosts that never were, with its report: for tests of the page, and for its picture in the docs.

    PYTHONPATH=collections python -m tests.sample_run FOLDER
    python -m tests.browser FOLDER/*/report.html docs/images/outputs-report.png --height 1240
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import INDEX, RUN, LineFile, make_run, write_json, write_whole
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.reporting import make_report

HOSTS = [f"web-{number:02d}" for number in range(1, 41)] + [f"db-{number}" for number in range(1, 9)]
TASKS = (
    ("Gathering Facts", "ansible.builtin.setup", 0.9),
    ("Install the web server and what it needs", "ansible.builtin.apt", 6.0),
    ("Configuration", "ansible.builtin.template", 0.35),
    ("Health check", "ansible.builtin.command", 0.25),
    ("Open a port of the firewall", "ansible.posix.firewalld", 0.4),
)
REFUSED = b"curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server\n"
LOCKED = b"Reading package lists...\nE: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 811 (unattended-upgr)\n"
BUCKET = "s3://fleet-outputs/runs/9c1f"


class _Sample:
    """Lines of the index, and the files that they name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = LineFile(folder / INDEX)
        self.random = random.Random(4)
        self.now = self.started = datetime(2026, 11, 24, 18, 15, tzinfo=UTC)
        self._end = self.now

    def seconds(self, middle: float) -> float:
        return max(0.02, round(self.random.lognormvariate(0, 0.45) * middle, 3))

    def line(self, head: dict[str, Any], host: str, status: str, seconds: float, **values: Any) -> None:
        ended = self.now + timedelta(seconds=seconds)
        self._end = max(self._end, ended)
        times = {"started": self.now.isoformat(timespec="milliseconds"), "ended": ended.isoformat(timespec="milliseconds"), "seconds": seconds}
        self.index.write({**head, "host": host, "status": status, **times, "folder": f"{head['task_number']:03d}/{host}", **values})

    def next_task(self) -> None:
        self.now = self._end

    def stream(self, head: dict[str, Any], host: str, name: str, content: bytes, **values: Any) -> dict[str, Any]:
        file = f"{head['task_number']:03d}/{host}/{name}"
        write_whole(self.folder / file, content)
        return {"file": file, "bytes": len(content), "whole": True, **values}


def write_sample(dest: Path) -> Path:
    """Write the run and its report; the run's folder."""
    sample = _Sample(make_run(str(dest), "2026-11-24T181500-site"))
    _sessions(sample)
    _run_command(sample)
    sample.index.close()
    gathering = {"nodes": 180, "objects": 179, "bytes": 2_944_000, "late": 4, "seconds": 2.31, "calls": 188, "incomplete": 1, "error": None}
    api = {"asked": True, "mux": {"ssm:StartSession": 96, "ssm:DescribeInstanceInformation": 1, "sts:AssumeRole": 2}, "throttled": 0}
    times = {"started": sample.started.isoformat(), "ended": (sample.now + timedelta(seconds=11)).isoformat()}
    facts = {"name": sample.folder.name, "job_id": "4711", "playbook": "site.yml", "ansible_version": "2.21.5", "check_mode": False}
    write_json(sample.folder / RUN, {**facts, **times, "gathering": gathering, "api": api})
    make_report(sample.folder)
    return sample.folder


def _statuses(task: str, hosts: list[str]) -> Iterator[tuple[str, str]]:
    special = {("Health check", "web-07"): "failed", ("Health check", "web-23"): "failed", ("Configuration", "db-5"): "unreachable"}
    for host in hosts:
        skipped = task.startswith("Install") and host.startswith("db")
        yield host, "skipped" if skipped else special.get((task, host), "ok")


def _sessions(sample: _Sample) -> None:
    for number, (task, action, middle) in enumerate(TASKS, 1):
        head = {"play": "Web servers", "play_number": 1, "task": task, "task_number": number, "action": action, "route": "session"}
        for host, status in _statuses(task, HOSTS):
            more: dict[str, Any] = {"changed": True} if status == "ok" and number in (2, 3) else {}
            if status == "failed":
                said = REFUSED * (60 if host == "web-23" else 1)
                streams = {"stdout": sample.stream(head, host, "stdout", b""), "stderr": sample.stream(head, host, "stderr", said)}
                more = {"rc": 7, "msg": "non-zero return code", **streams}
            elif status == "unreachable":
                more["msg"] = "i-0c1d2e3f4a5b60718 is stopped: start it, or take it out of the inventory."
            sample.line(head, host, status, sample.seconds(middle * (3 if host == "web-31" else 1)), **more)
        sample.next_task()


def _run_command(sample: _Sample) -> None:
    head = {"play": "Patch level by Run Command", "play_number": 2, "task": "Ask every node", "task_number": 6, "action": "fleet.ssm.run_command"}
    for number in range(180):
        host = f"i-{sample.random.getrandbits(68):017x}"
        failed = number in (17, 90, 140)
        uri = f"{BUCKET}/{host}/awsrunShellScript/0.awsrunShellScript/stdout"
        content = LOCKED if failed else b"x" * sample.random.randint(4_000, 30_000)
        stdout = sample.stream(head, host, "stdout.cut" if number == 140 else "stdout", content, uri=uri)
        if number == 140:
            text = f"403: s3:GetObject on {uri} is not allowed. Allow it (with KMS also kms:Decrypt) in the caller's policy and in that of the bucket."
            stdout.update(whole=False, problem={"kind": "denied", "text": text})
        node = {"instance_id": host, "region": "eu-central-1" if number % 3 else "us-east-1", "account_name": "production", "via": "localhost"}
        node["status"] = "failed" if failed else "success"
        sample.line(head, host, "failed" if failed else "ok", sample.seconds(1.2), route="run_command", rc=100 if failed else 0, node=node, stdout=stdout)
    sample.line(head, "localhost", "ok", 9.0, nodes=180, calls={"total": 19, "throttled": 1})


if __name__ == "__main__":
    print(write_sample(Path(sys.argv[1])))
