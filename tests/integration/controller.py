# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible controller of its own for a test: home, inventory, environment, and what a run gave back.

A home directory has one mux, which all controllers with that home share; :func:`stop_mux` ends it. Results are read
from the JSON callback, never scraped from text.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTIONS = REPOSITORY / "collections"
MUX = REPOSITORY / "plugins" / "plugin_utils" / "mux"


@dataclass(frozen=True)
class Run:
    """What a finished ``ansible-playbook`` left: exit status, raw streams, and the JSON callback's document."""

    returncode: int
    stdout: str
    stderr: str
    report: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, process: subprocess.Popen[str], *, timeout: float = 300) -> Run:
        """Of an ``ansible-playbook`` that was started, once it has ended."""
        done = finish(process, timeout)
        start = done.stdout.find("{")
        try:
            report = json.loads(done.stdout[start:]) if start >= 0 else {}
        except ValueError:
            report = {}
        return cls(done.returncode, done.stdout, done.stderr, report)

    def tasks(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each ``(task name, host, result)`` in the order of the run."""
        for play in self.report.get("plays", []):
            for task in play["tasks"]:
                for host, result in task["hosts"].items():
                    yield task["task"]["name"], host, result

    def result(self, task: str, host: str | None = None) -> dict[str, Any]:
        """The result of the task of that name (on that host, or on the only one)."""
        found = [result for name, on, result in self.tasks() if name == task and host in (None, on)]
        assert len(found) == 1, f"{len(found)} results of task {task!r}; stdout: {self.stdout[-2000:]}; stderr: {self.stderr[-2000:]}"
        return found[0]

    def seconds(self, task: str) -> float:
        """How long the task of that name took."""
        (found,) = (each["task"]["duration"] for play in self.report["plays"] for each in play["tasks"] if each["task"]["name"] == task)
        began, ended = (datetime.datetime.fromisoformat(found[name]) for name in ("start", "end"))
        return (ended - began).total_seconds()

    @property
    def stats(self) -> dict[str, dict[str, int]]:
        """Counts by host, as at the end of a play: ok, changed, failures, unreachable, …"""
        return self.report.get("stats", {})

    def problems(self) -> Iterator[str]:
        """What failed, or could not be reached, and why: a line for each task and host, or for each item of a loop."""
        for task, host, result in self.tasks():
            for each in result.get("results") or [result]:
                if each.get("failed") or each.get("unreachable"):
                    reasons = [each, *each.get("failed_modules", {}).values()]
                    yield f"{task}, {host}: " + "\n".join(str(of_it[name]) for of_it in reasons for name in ("msg", "module_stderr") if of_it.get(name))

    def check(self) -> Run:
        """This run, once it is known that it succeeded."""
        assert self.returncode == 0, "\n".join([f"exit {self.returncode}", *self.problems(), self.stdout[-6000:], self.stderr[-4000:]])
        return self


def finish(process: subprocess.Popen[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for a process that has pipes; one that takes too long is killed, and its output shown."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"{process.args} did not end within {timeout} s\n{stdout[-4000:]}\n{stderr[-4000:]}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


class Controller:
    """A folder with a home, an inventory and the environment to run Ansible's programs against a lab."""

    def __init__(self, folder: Path, environment: Mapping[str, str], home: Path | None = None) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = home or folder / "home"
        self.home.mkdir(exist_ok=True)
        self.inventory = folder / "inventory.yml"
        self.programs = Path(sys.executable).parent
        """Where Ansible's programs are: those of another ansible-core, perhaps."""
        inherited = {name: os.environ[name] for name in ("LANG", "LC_ALL", "PATH", "TERM") if name in os.environ}
        self.environment: dict[str, str] = {
            **inherited,
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_HOST_KEY_CHECKING": "0",
            **environment,
        }

    def hosts(self, hosts: Mapping[str, Mapping[str, Any]], **variables: Any) -> None:
        """Write the inventory: variables by host, and variables for all."""
        document = {"all": {"hosts": {name: dict(of_host) for name, of_host in hosts.items()}, "vars": variables}}
        self.inventory.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start one of Ansible's programs in the folder; the caller waits for it or ends it."""
        return subprocess.Popen(
            [str(self.programs / program), *arguments],
            cwd=self.folder, env={**self.environment, **environment}, text=True, encoding="utf-8", errors="surrogateescape",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )

    def run(self, program: str, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's programs to its end."""
        return finish(self.start(program, *arguments, **environment), timeout)

    def write_playbook(self, plays: str | list[dict[str, Any]], name: str = "playbook.yml") -> Path:
        """Write a playbook given as text or as data."""
        path = self.folder / name
        path.write_text(plays if isinstance(plays, str) else yaml.safe_dump(plays, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path

    def playbook(self, plays: str | list[dict[str, Any]], *arguments: str, timeout: float = 300, **environment: str) -> Run:
        """Run a playbook and read its results."""
        path = self.write_playbook(plays)
        return Run.of(self.start("ansible-playbook", "-i", str(self.inventory), str(path), *arguments, **environment), timeout=timeout)

    def tasks(self, *tasks: dict[str, Any], hosts: str = "all", arguments: tuple[str, ...] = (), timeout: float = 300,
              nodes_environment: Mapping[str, str] | None = None, **play: Any) -> Run:
        """Run one play of these tasks, without facts unless asked for; ``nodes_environment`` is the play's ``environment``."""
        keywords = {"hosts": hosts, "gather_facts": False, "environment": dict(nodes_environment or {}), **play, "tasks": list(tasks)}
        return self.playbook([keywords], *arguments, timeout=timeout)

    def mux(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The mux's command line for people, with this controller's environment."""
        return run_mux(self.environment, *arguments)


def run_mux(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The mux's command line for people; ``HOME`` of the environment says which mux."""
    return subprocess.run([sys.executable, str(MUX), *arguments], env=dict(environment), text=True, capture_output=True, timeout=60, check=False)


def stop_mux(home: Path, environment: Mapping[str, str]) -> None:
    """End the mux of a home directory and what it holds open."""
    run_mux({"PATH": os.environ["PATH"], **environment, "HOME": str(home)}, "stop")


def processes(home: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Of what was started with a home directory, the process ids and command lines."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes().split(b"\0"), (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if f"HOME={home}".encode() in environment:
            yield int(process.name), command


def mux_processes(home: Path) -> list[int]:
    """Process ids of the muxes that serve a home directory."""
    return [pid for pid, command in processes(home) if b"serve" in command and any(word.endswith(b"mux") for word in command)]


def peak_memory(pid: int) -> int:
    """The most resident memory that a process has ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
