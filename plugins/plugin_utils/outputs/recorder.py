# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records a run: what the callback hears, put into files. Knows nothing of Ansible's objects.

Between begin and end it costs a task some file operations and nothing else; whatever takes longer is the gathering process's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .client import Gathering, GatheringError
from .disk import INDEX, REPORT_HTML, RUN, LineFile, make_run, write_json, write_whole
from .layout import Layout, Task
from .lookup import streams_of
from .mux_calls import Calls, ask_mux
from .names import Names, fill
from .reporting import make_report, update_run
from .results import Fleet, Piece, fleets, pieces
from .s3_address import parse_address

_SHOWN = 3
"""Outputs that are named one by one where a task's display is cut."""

_S3_OPTIONS = ("profile", "access_key", "secret_key", "session_token", "role_arn", "external_id", "region", "endpoint_url", "connections", "late_seconds")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """A task's result on a host, as Ansible gave it."""

    host: str
    status: str  #: ok, failed, unreachable, skipped
    result: Mapping[str, Any]
    ignored: bool = False
    route: str | None = None


def now() -> str:
    """The time as the index has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Recorder:
    """One run.

    :param options: those of the callback.
    :param facts: more for ``run.json``: playbook, ansible_version, check_mode.
    :param say: shows a line to the person.
    :param warn: shows a warning.
    """

    def __init__(self, options: Mapping[str, Any], facts: Mapping[str, Any], *, say: Say, warn: Say) -> None:
        self._options, self._say, self._warn = options, say, warn
        moment = datetime.now().astimezone()
        self._placeholders = {
            "date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H%M%S}", "job_id": str(options["job_id"] or ""),
            "playbook": os.path.splitext(str(facts["playbook"]))[0],
        }  # fmt: skip
        name = fill(options["run"], self._placeholders, "run").strip("/.") or "run"
        self._placeholders["run"] = name
        if options["upload"]:
            fill(options["upload"], self._placeholders, "upload")  # told now rather than at the end
        self.folder = make_run(os.path.expanduser(options["dest"]), name)
        self._placeholders["run"] = self.folder.relative_to(os.path.expanduser(options["dest"])).as_posix()
        self._index = LineFile(self.folder / INDEX)
        run = {"name": self._placeholders["run"], "job_id": options["job_id"], "started": now(), "ended": None, **facts}
        write_json(self.folder / RUN, run)
        self._layout = Layout()
        self._started: dict[tuple[str, str], str] = {}
        self._gathering: Gathering | None = None
        self._mux = ask_mux(options["control_path_dir"])

    # While it runs

    def begin_play(self, key: str, name: str) -> None:
        """A play begins, or goes on with its next hosts."""
        self._layout.begin_play(key, name)

    def begin_host(self, task_key: str, host: str) -> None:
        """A host is given a task."""
        self._started[task_key, host] = now()

    def finish_host(self, task_key: str, name: str, action: str, finished: Finished) -> None:
        """A host's result: outputs go to files, and a line for each of its results into the index."""
        task = self._layout.task(task_key, name, action)
        ended = now()
        started = self._started.pop((task_key, finished.host), ended)
        line: dict[str, Any] = {"status": finished.status, "started": started, "ended": ended}
        if finished.route:
            line["route"] = finished.route
        if finished.ignored:
            line["ignored"] = True
        found = fleets(action, finished.result)
        nodes = sum(fleet.total for fleet in found)
        if nodes:
            line["nodes"] = nodes
        if found:
            line["calls"] = {"total": sum(fleet.calls for fleet in found), "throttled": sum(fleet.throttled for fleet in found)}
        folder = f"{task.folder}/{task.hosts.take(finished.host)}" if not nodes else task.folder
        head = task.head(finished.host)
        items = Names()
        all_pieces = list(pieces(finished.result, finished.status))
        seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() / max(1, len(all_pieces))
        for number, piece in enumerate(all_pieces, 1):
            own = folder if len(all_pieces) == 1 and piece.item is None else f"{folder}/{number:03d}-{items.take(piece.item or '')}"
            self._index.write({**head, **line, "seconds": round(seconds, 3), **self._store(piece, own, nodes=bool(nodes))})
            line.pop("calls", None)  # counted once
        for fleet in found:
            self._gather(task, head, fleet)

    def _store(self, piece: Piece, folder: str, *, nodes: bool) -> dict[str, Any]:
        """Write a result's streams; the rest of its line."""
        fields: dict[str, Any] = {"status": piece.status, "folder": folder}
        for name in ("item", "changed", "rc", "msg", "censored"):
            value = getattr(piece, name)
            if value not in (None, "", False):
                fields[name] = value
        for name in ("stdout", "stderr"):
            data: bytes | None = getattr(piece, name)
            if data is not None and not nodes:
                write_whole(self.folder / folder / name, data)
                fields[name] = {"file": f"{folder}/{name}", "bytes": len(data), "whole": True}
        return fields

    def _gather(self, task: Task, head: Mapping[str, Any], fleet: Fleet) -> None:
        if not fleet.nodes and not fleet.path:
            return
        if self._gathering is None:
            self._gathering = Gathering(self.folder, {name: self._options[name] for name in _S3_OPTIONS})
        entry: dict[str, Any] = {"folder": task.folder, "head": dict(head)}
        if fleet.path:
            entry["path"] = os.path.abspath(os.path.expanduser(fleet.path))
        else:
            entry["nodes"] = [dict(node) for node in fleet.nodes]
        self._gathering.add(entry)
        if self._options["display"]:
            self._name_cut_outputs(task, fleet)

    def _name_cut_outputs(self, task: Task, fleet: Fleet) -> None:
        """Say where the whole is of what the display cuts."""
        cut = [node for node in fleet.nodes if node.get("output_truncated")]
        names = Names()
        folders = {id(node): names.take(str(node["instance_id"])) for node in fleet.nodes}
        for node in cut[:_SHOWN]:
            folder = self.folder / task.folder / folders[id(node)]
            for stream in streams_of(node):
                if stream.text and stream.parts:
                    addresses = ", ".join(str(part.address) for part in stream.parts)
                    self._say(f"{stream.name} of {node['instance_id']} is cut here; whole: {folder / stream.name}, from {addresses}")
                elif stream.text and stream.fault:
                    self._say(f"{stream.name} of {node['instance_id']} is cut, and the task has no s3_bucket that would hold the rest")
        if len(cut) > _SHOWN:
            self._say(f"… and that of {len(cut) - _SHOWN} more nodes: {self.folder / task.folder}")

    # At the end

    def finish(self) -> Path | None:
        """Gather the rest, make the report, upload it; the page's path."""
        ended = now()
        values: dict[str, Any] = {"ended": ended}
        if self._gathering is not None:
            values["gathering"] = self._settle(self._gathering)
        values["api"] = self._aws_calls(self._mux, ask_mux(self._options["control_path_dir"]))
        update_run(self.folder, values)
        page = None
        if self._options["report"]:
            make_report(self.folder, failures=self._options["report_failures"], output=self._options["report_output"])
            page = self.folder / REPORT_HTML
        if self._options["upload"]:
            self._upload()
        return page

    def close(self) -> None:
        """End what was started; what is not gathered stays pending."""
        if self._gathering is not None:
            self._gathering.close()
            self._gathering = None

    def _settle(self, gathering: Gathering) -> dict[str, Any]:
        began = time.monotonic()

        def tell(counts: Mapping[str, Any]) -> None:
            self._say(f"gathering outputs: {counts['nodes']} nodes, {counts['objects']} objects, {counts['bytes']:,} bytes in {time.monotonic() - began:.0f} s")

        try:
            counts = gathering.settle(self._options["gather_timeout"], tell)
        except GatheringError as error:
            text = f"Outputs are missing: {error}. Go on with: {_command()} gather {self.folder}"
            self._warn(text)
            return {"error": text}
        if counts["incomplete"]:
            missing = f"The outputs of {counts['incomplete']} nodes are missing or incomplete: the report says why."
            self._warn(f"{missing} Try again with: {_command()} gather {self.folder}")
        return counts

    def _upload(self) -> None:
        to = fill(self._options["upload"], self._placeholders, "upload")
        if parse_address(to) is None:
            self._warn(f"'upload' is not an address such as s3://BUCKET/PREFIX: {to}")
            return
        if self._gathering is None:
            self._gathering = Gathering(self.folder, {name: self._options[name] for name in _S3_OPTIONS})
        try:
            done = self._gathering.upload(to, everything=self._options["upload_what"] == "all")
        except GatheringError as error:
            self._warn(f"Not everything was uploaded to {to}: {error}")
            return
        if done["problem"]:
            self._warn(f"Not everything was uploaded to {to}: {done['problem']}")
        else:
            self._say(f"{done['files']} files uploaded to {to}")

    @staticmethod
    def _aws_calls(before: Calls | None, after: Calls | None) -> dict[str, Any]:
        if after is None:
            return {"asked": False}
        calls = after.since(before)
        return {"asked": True, "mux": calls.by_action, "throttled": calls.throttled}


def _command() -> str:
    return f"python {Path(__file__).parent}"
