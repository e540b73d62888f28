# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's play over the route run_command with events: calls a task, and time beside the session and local."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.lab import Lab

from . import processes
from .measures import Measure
from .nodes import create_documents, definitions
from .runner import REPOSITORY, PlayFailed
from .transports import PERSIST, PYTHON

HOSTS, TASKS = 200, 5
TITLE = f"{HOSTS} hosts × {TASKS} `command` tasks, {HOSTS} forks, by the route `run_command` with events"
NOTE = (
    "A play after another one, so that the mux is there and sessions are open. Nodes and lab share the machine with the controller. With events, "
    "`ListCommandInvocations` reads results of nodes that have ended, and each 15 seconds looks for what no event told of."
)
SENDS, READS = "SendCommand a task", "ListCommandInvocations a task"


def measure() -> Iterator[Measure]:
    """Each way once."""
    with Lab(definitions(HOSTS)) as lab, tempfile.TemporaryDirectory(prefix="fb-", dir="/tmp") as name, _topic(lab) as topic:
        folder = Path(name)
        create_documents(lab)
        by_command = {"ansible_ssm_route": "run_command", "ansible_ssm_events_topic": topic}
        for way, variables in (("route run_command", by_command), ("route session", {}), ("local", None)):
            with _home(folder, way.rpartition(" ")[2]) as home:
                _play(lab, home, variables, 1)
                lab.reset_requests()
                usage = _play(lab, home, variables, TASKS)
                counts = lab.requests().counts
            figures: dict[str, float | None] = {
                "s": round(usage.seconds, 1),
                "s of CPU of ansible-playbook": round(usage.cpu_s, 1),
                SENDS: counts.get("ssm:SendCommand", 0) / TASKS if variables else None,
                READS: counts.get("ssm:ListCommandInvocations", 0) / TASKS if variables else None,
                "API calls": None if variables is None else sum(count for action, count in counts.items() if not action.startswith("sqs:")),
            }
            yield Measure(way, figures, {SENDS: 6} if variables else {})


@contextlib.contextmanager
def _topic(lab: Lab) -> Iterator[str]:
    """To which the ends of commands are told, as an administrator sets it up."""
    arn: str = lab.client("sns").create_topic(Name="bench")["TopicArn"]
    pattern = {"source": ["aws.ssm"], "detail-type": ["EC2 Command Invocation Status-change Notification"]}
    events = lab.client("events")
    events.put_rule(Name="bench", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="bench", Targets=[{"Id": "topic", "Arn": arn}])
    yield arn


@contextlib.contextmanager
def _home(folder: Path, name: str) -> Iterator[Path]:
    """A home, and at its end the end of the mux in it."""
    home = folder / name
    home.mkdir()
    try:
        yield home
    finally:
        left = processes.background(f"{home}/")
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(left, timeout=20)


def _variables(node_id: str, region: str, more: Mapping[str, Any] | None) -> dict[str, Any]:
    if more is None:
        return {"ansible_connection": "local"}
    where = {"ansible_connection": "fleet.ssm.ssm", "ansible_ssm_instance_id": node_id, "ansible_ssm_region": region}
    return {**where, "ansible_ssm_control_persist": PERSIST, **more}


def _play(lab: Lab, home: Path, more: Mapping[str, Any] | None, tasks: int) -> processes.Usage:
    hosts = {node.name: _variables(node.node_id, node.region, more) for node in lab.nodes()}
    shared = {"ansible_python_interpreter": PYTHON, "ansible_pipelining": True}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": f"echo {number}"} for number in range(tasks)]}
    (home / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": shared}}), encoding="utf-8")
    (home / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
    environment = {
        "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}", "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_NOCOLOR": "1", **lab.env(),
    }  # fmt: skip
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "-f", str(len(hosts)), "play.yml"]
    usage = processes.run(command, home, environment, home / "play.log")
    if usage.returncode:
        output = (home / "play.log").read_text(encoding="utf-8", errors="replace")
        raise PlayFailed(f"ansible-playbook ended with {usage.returncode}\n{output[-3000:]}")
    return usage
