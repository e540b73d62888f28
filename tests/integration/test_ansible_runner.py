# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them, by ansible-runner: its events beside the outputs, and what is left of a job that is cancelled."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import Controller
from tests.integration.routes import by_both
from tests.integration.waiting import eventually
from tests.lab import Lab

pytestmark = pytest.mark.slow


class Job:
    """A private data directory, whose project is what a controller's folder has."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.folder = controller.folder / "private"
        for name in ("project", "inventory"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(controller.inventory, self.folder / "inventory")
        del controller.environment["ANSIBLE_STDOUT_CALLBACK"]

    def start(self, *tasks: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
        play = {"hosts": "all", "gather_facts": False, "serial": 1, "tasks": list(tasks)}
        (self.folder / "project" / "site.yml").write_text(json.dumps([play]), encoding="utf-8")
        return self.controller.start("ansible-runner", "run", str(self.folder), "--playbook", "site.yml", "--ident", "job", **environment)

    def artifact(self, name: str) -> str:
        return (self.folder / "artifacts" / "job" / name).read_text(encoding="utf-8")

    def events(self) -> list[dict[str, Any]]:
        paths = (self.folder / "artifacts" / "job" / "job_events").iterdir()
        return sorted((json.loads(path.read_text(encoding="utf-8")) for path in paths), key=lambda event: int(event["counter"]))


@pytest.fixture
def job(own_controller: Controller) -> Job:
    return Job(own_controller)


def test_events_are_whole_beside_the_outputs(job: Job, tmp_path: Path) -> None:
    process = job.start({"name": "say", "ansible.builtin.command": "echo said"}, ANSIBLE_CALLBACKS_ENABLED="fleet.ssm.outputs",
                        FLEET_SSM_OUTPUTS_DEST=str(tmp_path), FLEET_SSM_OUTPUTS_RUN="it")  # fmt: skip
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, (stdout, stderr)
    events = job.events()
    assert [event["counter"] for event in events] == list(range(1, len(events) + 1))
    assert [event["event_data"]["res"]["stdout"] for event in events if event["event"] == "runner_on_ok"] == ["said"]
    assert events[-1]["event"] == "verbose" and f"report: {tmp_path}/it/report.html" in events[-1]["stdout"]
    (line,) = (json.loads(line) for line in (tmp_path / "it" / "index.jsonl").read_text(encoding="utf-8").splitlines())
    assert (tmp_path / "it" / line["stdout"]["file"]).read_bytes() == b"said"


@by_both
def test_a_cancelled_job_leaves_nothing_running_on_its_node(job: Job, lab: Lab) -> None:
    def running() -> bool:
        return lab.node("web-1").run("pgrep -f '^sleep 7654321$'", check=False).returncode == 0

    process = job.start({"name": "wait", "ansible.builtin.command": "sleep 7654321"})
    eventually(running, 60, "it does not begin")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert job.artifact("status") == "canceled"
    eventually(lambda: not running(), 20, "it goes on")
