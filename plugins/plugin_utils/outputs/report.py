# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's data, made of the lines of the index and of what is known of the run. No I/O.

The index is the only source, so a report can be made at any time, also of a run that was killed.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from .figures import Tally

FORMAT = 1
"""Changes with what the keys of the report mean."""

SLOWEST = 15
MOST_HOSTS = 5_000
MOST_EXAMPLES = 5

Excerpt = Callable[[str, int], tuple[str, int]]
"""Reads the last bytes of a file of the run: the text, and how many bytes are before it."""


def seconds_between(started: str, ended: str) -> float:
    """Seconds between two times of the index."""
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()


class _Task:
    def __init__(self, line: Mapping[str, Any]) -> None:
        self.head = {name: line.get(name) for name in ("play", "play_number", "task", "task_number", "action")}
        self.tally = Tally()
        self.hosts: set[str] = set()
        self.routes: Counter[str] = Counter()
        self.started: str | None = None
        self.ended: str | None = None
        self.folder = line.get("folder")

    def add(self, line: dict[str, Any]) -> None:
        self.tally.add(line)
        self.hosts.add(line["host"])
        if line.get("route"):
            self.routes[line["route"]] += 1
        for name, choose in (("started", min), ("ended", max)):
            if line.get(name):
                known = getattr(self, name)
                setattr(self, name, choose(known, line[name]) if known else line[name])

    def to_fields(self) -> dict[str, Any]:
        wall = seconds_between(self.started, self.ended) if self.started and self.ended else 0.0
        fields = {**self.head, "folder": self.folder, "routes": sorted(self.routes), "hosts": len(self.hosts), **self.tally.to_fields()}
        ran = fields["results"] - fields["skipped"]
        return {**fields, "wall_seconds": round(wall, 3), "per_second": round(ran / wall, 2) if wall > 0 else None}


class ReportBuilder:
    """Takes the index line by line; memory grows with tasks and hosts, and not with outputs."""

    def __init__(self, excerpt: Excerpt, *, failures: int, output: int) -> None:
        """
        :param failures: the most failures that are told in full.
        :param output: bytes of each stream of a failure.
        """
        self._excerpt, self._most_failures, self._output = excerpt, failures, output
        self._all = Tally()
        self._tasks: dict[Any, _Task] = {}
        self._hosts: dict[str, Tally] = {}
        self._slowest: list[tuple[float, int, dict[str, Any]]] = []
        self._order = itertools.count()
        self._failures: list[dict[str, Any]] = []
        self._more_failures = 0
        self._problems: dict[str, dict[str, Any]] = {}
        self._routes: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._throttled = 0

    def add(self, line: dict[str, Any]) -> None:
        """One line of the index."""
        calls = line.get("calls") or {}
        self._calls["Run Command (fleet.ssm.run_command)"] += calls.get("total", 0)
        self._throttled += calls.get("throttled", 0)
        if not line.get("nodes"):  # a task that ran on nodes by Run Command is counted by them
            self._count(line)
        if line["status"] in ("failed", "unreachable"):
            self._fail(line)
        for name in ("stdout", "stderr"):
            problem = (line.get(name) or {}).get("problem")
            if problem:
                self._problem(line, name, problem)
        if line.get("problem"):
            self._problem(line, "results", line["problem"])

    def _count(self, line: dict[str, Any]) -> None:
        key = (line.get("play_number"), line.get("task_number"))
        if key not in self._tasks:
            self._tasks[key] = _Task(line)
        self._tasks[key].add(line)
        self._hosts.setdefault(line["host"], Tally()).add(line)
        self._all.add(line)
        if line.get("route"):
            self._routes[line["route"]] += 1
        if line.get("seconds") is not None and line["status"] != "skipped":
            known = {name: line.get(name) for name in ("play", "task", "host", "item", "seconds", "status")}
            entry = (line["seconds"], -next(self._order), known)
            if len(self._slowest) < SLOWEST:
                heapq.heappush(self._slowest, entry)
            else:
                heapq.heappushpop(self._slowest, entry)

    def _fail(self, line: dict[str, Any]) -> None:
        if len(self._failures) >= self._most_failures:
            self._more_failures += 1
            return
        names = ("play", "task", "task_number", "host", "item", "node", "status", "ignored", "rc", "route", "seconds", "ended", "censored")
        failure: dict[str, Any] = {name: line[name] for name in names if line.get(name) is not None}
        failure["msg"] = str(line.get("msg") or "")[: self._output]
        for name in ("stdout", "stderr"):
            stream = line.get(name)
            if not stream:
                continue
            text, before = self._excerpt(stream["file"], self._output) if stream.get("file") and stream.get("bytes") else ("", 0)
            known = {key: stream[key] for key in ("file", "uris", "bytes", "problem") if stream.get(key) is not None}
            failure[name] = {**known, "text": text, "left_out": before, "whole": bool(stream.get("whole"))}
        self._failures.append(failure)

    def _problem(self, line: Mapping[str, Any], stream: str, problem: Mapping[str, str]) -> None:
        # The same refusal of one bucket comes with each object's name.
        uris = (line.get(stream) or {}).get("uris") or []
        where = "".join(uris[:1]).partition("://")[2].partition("/")[0]
        entry = self._problems.setdefault(f"{problem['kind']} {where}", {"kind": problem["kind"], "text": problem["text"], "count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < MOST_EXAMPLES:
            entry["examples"].append({"task": line["task"], "host": line["host"], "stream": stream, "uris": uris})

    def finish(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The report.

        :param run: what stands in ``run.json``.
        """
        seconds = seconds_between(run["started"], run["ended"]) if run.get("ended") else None
        totals = self._all.to_fields()
        ran = totals["results"] - totals["skipped"]
        hosts = sorted(({"host": name, **tally.to_fields()} for name, tally in self._hosts.items()), key=_slowness)
        api = run.get("api") or {}
        for who, calls in (api.get("mux") or {}).items():
            self._calls[f"{who} (mux)"] += calls
        gathering = run.get("gathering") or {}
        if gathering.get("calls"):
            self._calls["s3:GetObject (outputs)"] += gathering["calls"]
        # One problem of gathering may have any number of outputs behind it.
        problems = sorted(self._problems.values(), key=lambda problem: -problem["count"])
        return {
            "format": FORMAT,
            "run": {**{name: value for name, value in run.items() if name not in ("api", "gathering")}, "seconds": round(seconds, 3) if seconds else seconds},
            "totals": {
                **totals,
                "hosts": len(self._hosts),
                "tasks": len(self._tasks),
                "plays": len({key[0] for key in self._tasks}),
                "per_second": round(ran / seconds, 2) if seconds else None,
                "routes": dict(self._routes.most_common()),
            },
            "tasks": [task.to_fields() for _key, task in sorted(self._tasks.items(), key=lambda entry: tuple(number or 0 for number in entry[0]))],
            "hosts": hosts[:MOST_HOSTS],
            "hosts_left_out": max(0, len(hosts) - MOST_HOSTS),
            "slowest": [entry for _seconds, _order, entry in sorted(self._slowest, key=lambda found: (-found[0], -found[1]))],
            "failures": self._failures,
            "failures_left_out": self._more_failures,
            "gathering": {**gathering, "problems": problems},
            "api": {
                "calls": {name: count for name, count in sorted(self._calls.items()) if count},
                "throttled": self._throttled + (api.get("throttled") or 0),
                "mux": bool(api.get("asked")),
            },
        }


def _slowness(host: Mapping[str, Any]) -> tuple[float, str]:
    return (-(host["seconds"] or {"sum": 0.0})["sum"], host["host"])
