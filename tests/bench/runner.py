# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs plays and takes their figures."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.lab import Lab

from . import processes
from .nodes import BenchNode
from .relay import Network
from .rows import Sample
from .transports import Transport
from .workloads import COMMAND, MEGABYTES, PREPARE, Workload

CONNECT_FORKS = 10
"""Hosts that are connected at once where that is not timed: fifty key exchanges on two cores can outlast sshd's patience."""

OTHER_USER = 15.0
"""Seconds after which a node has ended the interpreter of the user as whom tasks ran before: memory is that of a workload alone."""

REPOSITORY = Path(__file__).resolve().parents[2]


class PlayFailed(Exception):
    """A play of the bench did not succeed; the text holds the end of its output."""


class Runner:
    """Plays on nodes, in a folder of its own."""

    def __init__(self, folder: Path, lab: Lab, network: Network, nodes: Sequence[BenchNode]) -> None:
        self._folder, self._lab, self._network, self._nodes = folder, lab, network, nodes
        self._runs = itertools.count(1)
        self._with_sessions: dict[str, Transport] = {}
        self._became: dict[str, bool] = {}
        self._idle = folder / "idle"
        (folder / "random-20").write_bytes(os.urandom(20 * MEGABYTES))
        (folder / "template.j2").write_text("{% for number in range(20) %}{{ run }} {{ number }}\n{% endfor %}", encoding="utf-8")

    def prepare(self, transport: Transport) -> None:
        """Make on each node what workloads expect there; connects as well."""
        self._play(transport, Workload("prepare", PREPARE), self._nodes, become=False, forks=CONNECT_FORKS)
        if transport.on_session:
            self._with_sessions[transport.name] = transport

    def measure(self, transport: Transport, workload: Workload, *, become: bool = False, latency_ms: int = 0) -> Sample:
        """One run of a workload."""
        nodes = self._nodes[: workload.hosts]
        self._network.latency = 0.0
        if transport.on_session:
            for other in self._with_sessions.values():
                if other is not transport:
                    other.forget()  # its processes on the nodes could not be told from this one's
            self._with_sessions[transport.name] = transport
        if workload.connected:
            self._play(transport, COMMAND, nodes, become=become, forks=CONNECT_FORKS)
            if transport.on_session and self._became.get(transport.name, become) is not become:
                time.sleep(OTHER_USER)
        else:
            transport.forget()
        self._became[transport.name] = become
        self._network.latency = latency_ms / 1000
        wire = self._network.wire_bytes
        self._lab.reset_requests()
        before = {process.pid: processes.cpu_seconds(process) for process in transport.background()}
        self._idle.unlink(missing_ok=True)
        usage = self._play(transport, workload, nodes, become=become, forks=len(nodes))
        idle = sum(map(int, self._idle.read_text(encoding="utf-8").split())) if self._idle.exists() else 0
        after = transport.background()
        background_cpu = sum(processes.cpu_seconds(process) - before.get(process.pid, 0.0) for process in after)
        on_node = transport.node_processes(nodes[0])
        return Sample(
            seconds=usage.seconds - (idle if len(nodes) == 1 else 0),
            idle_s=idle,
            controller_cpu_s=usage.cpu_s + background_cpu,
            background_cpu_s=background_cpu,
            peak_rss_mb=usage.peak_rss_mb,
            background_rss_mb=processes.peak_mb(after),
            node_rss_mb=None if on_node is None else processes.proportional_mb(on_node),
            api_calls=self._lab.requests().total if transport.on_session else None,
            wire_bytes=self._network.wire_bytes - wire if transport.counts_wire else None,
        )

    def _play(self, transport: Transport, workload: Workload, nodes: Sequence[BenchNode], *, become: bool, forks: int) -> processes.Usage:
        variables = {"run": f"run-{next(self._runs)}", "ansible_become": become, "ansible_pipelining": True}
        hosts = {node.node.name: transport.variables(node) for node in nodes}
        self._write("inventory.yml", {"all": {"hosts": hosts, "vars": variables}})
        self._write("play.yml", [{"hosts": "all", "gather_facts": False, "tasks": [dict(task) for task in workload.tasks]}])
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.yml", "-f", str(forks), "play.yml"]
        log = self._folder / f"{transport.name}.log"
        usage = processes.run(command, self._folder, self._environment(transport), log)
        if usage.returncode:
            output = log.read_text(encoding="utf-8", errors="replace")
            failures = "\n".join(line[:1000] for line in output.splitlines() if line.startswith("fatal: "))
            raise PlayFailed(f"{transport.name}, {workload.name}: ansible-playbook ended with {usage.returncode}\n{failures}\n{output[-3000:]}")
        return usage

    def _environment(self, transport: Transport) -> Mapping[str, str]:
        return {
            "HOME": str(transport.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
            "ANSIBLE_HOST_KEY_CHECKING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "tests/bench/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "idle_waits",
            "FLEET_BENCH_IDLE": str(self._idle),
            **transport.environment,
        }

    def _write(self, name: str, content: Any) -> None:
        (self._folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
