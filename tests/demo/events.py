# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of ansible-playbook, as the JSON lines of the callback `ansible.posix.jsonl` tell it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class HostResult:
    """What one host made of one task."""

    host: str
    status: str  #: ok, changed, skipped, failed, unreachable
    seconds: float  #: from the start of the task
    message: str = ""


@dataclass
class Task:
    """One task with the results of its hosts."""

    play: str
    name: str
    results: list[HostResult] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return max((result.seconds for result in self.results), default=0.0)


@dataclass
class Recap:
    """The end of a run: what ansible-playbook counted, and how long each host was busy (seconds)."""

    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[Task, HostResult]] = field(default_factory=list)

    def count(self, host: str, name: str) -> int:
        return self.stats.get(host, {}).get(name, 0)

    def total(self, name: str) -> int:
        return sum(counts.get(name, 0) for counts in self.stats.values())


def read(lines: Iterable[str], recap: Recap) -> Iterator[Task]:
    """Each task when it has ended. `recap` is filled on the way, and complete when the lines are."""
    play, task, started = "", None, 0.0
    for line in lines:
        event = _parse(line)
        kind = event.get("_event", "")
        if kind == "v2_playbook_on_play_start":
            play = event["play"]["name"]
        elif kind in ("v2_playbook_on_task_start", "v2_playbook_on_handler_task_start"):
            if task:
                yield task
            task, started = Task(play, event["task"]["name"]), _seconds(event["_timestamp"])
        elif kind.startswith("v2_runner_on_") and task:
            for host, result in event["hosts"].items():
                found = HostResult(host, _status(kind, result), _seconds(event["_timestamp"]) - started, _message(result))
                task.results.append(found)
                recap.busy[host] = recap.busy.get(host, 0.0) + found.seconds
                if found.status in ("failed", "unreachable"):
                    recap.failures.append((task, found))
        elif kind == "v2_playbook_on_stats":
            recap.stats = event["stats"]
    if task:
        yield task


def _parse(line: str) -> dict[str, Any]:
    """Anything else that a program may print is not for us."""
    if not line.startswith("{"):
        return {}
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found


def _status(kind: str, result: dict[str, Any]) -> str:
    status = kind.removeprefix("v2_runner_on_")
    return "changed" if status == "ok" and result.get("changed") else status


def _message(result: dict[str, Any]) -> str:
    parts = [str(result[name]) for name in ("msg", "stderr", "module_stderr") if result.get(name)]
    parts += [_message(item) for item in result.get("results", ()) if item.get("failed")]
    parts += [_message(of_it) for of_it in result.get("failed_modules", {}).values()]  # by which facts were gathered
    return "\n".join(parts)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
