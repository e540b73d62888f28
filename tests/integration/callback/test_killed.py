# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is killed in the middle, with all of its processes: what it had is kept, and the rest is gathered later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.callback.test_outputs import OUTPUTS, Recorded, bucket, recorded
from tests.integration.controller import Run
from tests.integration.waiting import eventually

__all__ = ["bucket", "recorded"]  # fixtures
pytestmark = pytest.mark.slow

TEXT = "echo out of $(hostname); echo err >&2"


def start(recorded: Recorded, task: dict[str, Any]) -> subprocess.Popen[str]:
    play = {"hosts": "localhost", "name": "Fleet", "gather_facts": False, "tasks": [task]}
    return recorded.controller.start("ansible-playbook", "-i", str(recorded.controller.inventory), str(recorded.controller.write_playbook([play])))


def kill(process: subprocess.Popen[str]) -> None:
    """As the end of a container does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def gather(recorded: Recorded) -> subprocess.CompletedProcess[str]:
    environment = {**recorded.controller.environment, "HOME": str(recorded.controller.home)}
    command = [sys.executable, str(OUTPUTS), "gather", "--late-seconds", "0", str(recorded.folder)]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_killed_while_outputs_are_gathered(recorded: Recorded, bucket: str) -> None:
    nodes = [node for node in recorded.lab.nodes() if node.account == recorded.lab.account and node.region == recorded.lab.region]
    (more,) = recorded.lab.add({"name": "web-extra"})
    nodes.append(more)
    recorded.controller.environment["FLEET_SSM_OUTPUTS_CONNECTIONS"] = "1"
    recorded.lab.reset_requests()
    with recorded.lab.fault_calls("s3:GetObject", delay=1.5):
        task = {"name": "Ask", "fleet.ssm.run_command": {
            "region": recorded.lab.region, "instance_ids": [node.node_id for node in nodes], "commands": [TEXT], "s3_bucket": bucket,
        }}  # fmt: skip
        process = start(recorded, task)
        eventually(lambda: any('"node":' in path.read_text(encoding="utf-8") for path in recorded.dest.glob("*/index.jsonl")))
        kill(process)
    before = [line["host"] for line in recorded.index() if "node" in line]
    assert 0 < len(before) < len(nodes) and not (recorded.folder / "report.html").exists()
    calls = recorded.lab.requests().counts["s3:GetObject"]
    done = gather(recorded)
    assert done.returncode == 0 and done.stdout.strip() == str(recorded.folder / "report.html"), done
    lines = [line for line in recorded.index() if "node" in line]
    assert sorted(line["host"] for line in lines) == sorted(node.node_id for node in nodes)
    for line in lines:
        stdout, stderr = ((recorded.folder / line[stream]["file"]).read_bytes() for stream in ("stdout", "stderr"))
        assert stdout.startswith(b"out of ") and stderr == b"err\n"
    again = recorded.lab.requests().counts["s3:GetObject"] - calls  # with the one that was on its way when it was killed
    assert again <= 2 * (len(nodes) - len(before)) + 1, "what was there is not read again"
    report = recorded.report()
    assert report["totals"]["results"] == len(nodes) and report["gathering"]["problems"] == [] and report["run"]["ended"] is None
    more.terminate()


def test_killed_while_the_command_runs(recorded: Recorded, bucket: str) -> None:
    node = recorded.lab.node("web-1")
    task = {"name": "Ask", "fleet.ssm.run_command": {
        "region": node.region, "instance_ids": [node.node_id], "commands": [f"sleep 4; {TEXT}"], "s3_bucket": bucket, "run_id": f"night-{bucket}",
    }}  # fmt: skip
    recorded.lab.reset_requests()
    process = start(recorded, task)
    eventually(lambda: recorded.lab.requests().counts.get("ssm:ListCommandInvocations") or recorded.lab.requests().counts.get("ssm:ListCommands", 0) > 1)
    kill(process)
    assert gather(recorded).returncode == 0 and recorded.report()["totals"]["results"] == 0  # nothing had come
    killed = recorded.folder
    Run.of(start(recorded, task)).check()
    assert recorded.lab.requests().counts["ssm:SendCommand"] == 1
    (folder,) = (found for found in recorded.dest.iterdir() if found != killed)
    (stdout,) = folder.rglob("stdout")
    assert stdout.read_bytes().startswith(b"out of ")
