# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that gathers outputs of Run Command: reads what is pending, and puts each node's outputs and a line of the index on the disk.

A process of its own, so that ansible-playbook neither imports botocore nor forks its workers while threads of ours run, and so that
nothing that happens here can break a play. It reads JSON lines on stdin (`more`, `settle`, `upload`) and answers on stdout. When stdin ends
without `settle`, whoever wanted the outputs is gone: it ends at once, and ``gather`` on the command line goes on later.

Memory is bounded by `IN_FLIGHT` nodes, whatever the fleet's size: what is pending stays in its file until there is room.
"""

from __future__ import annotations

import gzip
import heapq
import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .disk import INDEX, PENDING, LineFile, encode_line, files_of, join, read_lines, whole_file, write_whole
from .faults import Fault, Kind, judge
from .lookup import Part, Stream, streams_of
from .names import Names
from .results import node_status
from .s3 import S3
from .s3_address import S3Address, parse_address

IN_FLIGHT = 4_000
PROGRESS_INTERVAL = 5.0

Answer = Callable[[Mapping[str, Any]], None]


@dataclass
class Job:
    """One node's outputs."""

    line: dict[str, Any]  #: of the index, but for the streams
    folder: str
    streams: list[Stream]


class Agenda:
    """Jobs by the time at which they are due; takers wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._closed = False

    def put(self, job: Job, due: float) -> None:
        with self._changed:
            heapq.heappush(self._jobs, (due, next(self._order), job))
            self._changed.notify()

    def take(self) -> Job | None:
        """The next job once it is due; `None` after `close`."""
        with self._changed:
            while not self._closed:
                left = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._jobs)[2]
                self._changed.wait(left)
            return None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Gatherer:
    """Gathers for one run.

    :param options: those of `S3`, and late_seconds.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._folder, self._options = folder, options
        self.s3 = S3(options)
        self._done = _complete_folders(folder)  # before it is opened, as it may get another file
        self._index = LineFile(folder / INDEX)
        self._agenda = Agenda()
        self._room = threading.Semaphore(IN_FLIGHT)
        self._names: dict[str, Names] = {}
        self._gone: dict[str, Fault] = {}  # by bucket
        self._more = threading.Event()
        self._last = False
        self._broken: str | None = None  # what went wrong here, and not in S3
        self._state = threading.Condition()
        self._open = 0  # jobs that were read and have not ended
        self._reading = True
        self._counts: Counter[str] = Counter()
        self._began: float | None = None
        self._ended = 0.0
        threading.Thread(target=self._read, daemon=True).start()
        for _number in range(max(1, int(options["connections"]))):
            threading.Thread(target=self._work, daemon=True).start()

    def more(self) -> None:
        """Something was added to what is pending."""
        self._more.set()

    def settle(self, tell: Answer | None = None) -> dict[str, Any]:
        """Nothing will be added any more: wait until all is gathered; counts.

        :param tell: is given the counts every `PROGRESS_INTERVAL` seconds.
        """
        self._last = True
        self._more.set()
        with self._state:
            while not self._state.wait_for(lambda: not self._reading and not self._open, PROGRESS_INTERVAL):
                if tell:
                    tell(self.counts())
        counts = self.counts()
        if not counts["incomplete"] and not counts["error"]:
            (self._folder / PENDING).unlink(missing_ok=True)
        return counts

    def counts(self) -> dict[str, Any]:
        """How far it is."""
        names = ("nodes", "objects", "bytes", "late", "incomplete")
        seconds = max(0.0, self._ended - self._began) if self._began else 0.0
        return {**{name: self._counts[name] for name in names}, "calls": self.s3.calls, "seconds": round(seconds, 3), "error": self._broken}

    def close(self) -> None:
        """End the threads; what is not gathered stays pending."""
        self._agenda.close()
        self._last = True
        self._more.set()
        self._index.close()

    # Reading what is pending

    def _read(self) -> None:
        try:
            self._read_pending()
        except Exception as error:  # whoever waits in `settle` must hear of it
            self._broken = f"{PENDING} cannot be read: {type(error).__name__}: {error}"
        with self._state:
            self._reading = False
            self._state.notify_all()

    def _read_pending(self) -> None:
        offset = 0
        while True:
            last = self._last  # before reading: what was added before it is then read
            self._more.clear()
            for entry, end in read_lines(self._folder / PENDING, offset):
                offset = end
                for job in self._jobs(entry):
                    if self._began is None:
                        self._began = time.monotonic()
                    self._room.acquire()
                    with self._state:
                        self._open += 1
                    self._agenda.put(job, 0.0)
            if last:
                return
            self._more.wait()

    def _jobs(self, entry: Mapping[str, Any]) -> Iterator[Job]:
        names = self._names.setdefault(entry["folder"], Names())
        try:
            for node in read_nodes(entry):
                folder = f"{entry['folder']}/{names.take(str(node['instance_id']))}"
                if folder not in self._done:
                    yield Job(node_line(entry["head"], node, folder), folder, streams_of(node))
        except Exception as error:  # whatever stands in that file: it must not take other tasks' outputs with it
            problem = Fault(Kind.OTHER, f"the results in {entry.get('path')} on {entry['head'].get('host')} cannot be read here: {error}.")
            with self._state:
                self._counts["incomplete"] += 1
            self._index.write({**entry["head"], "status": "unfinished", "folder": entry["folder"], "problem": problem.to_fields()})

    # Gathering

    def _work(self) -> None:
        while (job := self._agenda.take()) is not None:
            due = None
            try:
                due = self._look(job)
                if due is None:
                    self._finish(job)
            except Exception as error:  # the disk is full, say: this node's outputs are missing, and the others go on
                self._broken = self._broken or f"{job.folder}: {type(error).__name__}: {error}"
                with self._state:
                    self._counts["incomplete"] += 1
            if due is not None:
                self._agenda.put(job, due)
                continue
            self._room.release()
            with self._state:
                self._open -= 1
                self._ended = time.monotonic()
                self._state.notify_all()

    def _look(self, job: Job) -> float | None:
        """Get what there is of a node; when to look again, or `None` if nothing is left."""
        looks = [self._fetch(part, path) for stream in job.streams for part, path in self._files(job, stream) if not part.done]
        return min((due for due in looks if due is not None), default=None)

    def _files(self, job: Job, stream: Stream) -> list[tuple[Part, Path]]:
        """The parts of a stream, and the files in which they are until it is whole."""
        return [(part, self._folder / job.folder / f"{stream.name}.{number}.part") for number, part in enumerate(stream.parts, 1)]

    def _fetch(self, part: Part, path: Path) -> float | None:
        address = part.address
        gone = self._gone.get(address.bucket)
        if gone:
            part.gave_up(gone)
            return None
        try:
            part.came(self.s3.fetch(address, path))
        except OSError as error:  # the disk
            part.gave_up(Fault(Kind.OTHER, f"{path.relative_to(self._folder)} cannot be written: {error.strerror or error}."))
            return None
        except Exception as error:
            fault = judge(error, address, readable=address.bucket in self.s3.readable)
            if fault.kind is Kind.NO_BUCKET:
                self._gone[address.bucket] = fault
            return part.refused(fault, time.monotonic(), patience=float(self._options["late_seconds"]))
        with self._state:
            self._counts["objects"] += 1
            self._counts["bytes"] += part.length or 0
            self._counts["late"] += part.was_late
        return None

    def _finish(self, job: Job) -> None:
        for stream in job.streams:
            path, parts = self._folder / job.folder / stream.name, self._files(job, stream)
            stream.fault = stream.fault or next((part.fault for part in stream.parts if part.fault), None)
            if stream.fault:
                for _part, piece in parts:
                    piece.unlink(missing_ok=True)
                if stream.text:
                    # Better than nothing, under a name that nobody takes for the whole.
                    write_whole(path.with_name(f"{stream.name}.cut"), stream.text)
            elif parts:
                join(path, [piece for _part, piece in parts])
                stream.length = sum(part.length or 0 for part in stream.parts)
            elif stream.text is not None:
                write_whole(path, stream.text)
        self._index.write(self._line(job))

    def _line(self, job: Job) -> dict[str, Any]:
        line = dict(job.line)
        for stream in job.streams:
            if stream.fault is None and stream.length is None:
                continue
            entry: dict[str, Any] = {"whole": stream.fault is None, "bytes": stream.length}
            if stream.parts:
                entry["uris"] = [str(part.address) for part in stream.parts]
            if stream.fault is None:
                entry["file"] = f"{job.folder}/{stream.name}"
            else:
                entry["problem"] = stream.fault.to_fields()
                if stream.text:
                    entry.update(file=f"{job.folder}/{stream.name}.cut", bytes=len(stream.text))
            line[stream.name] = entry
        with self._state:
            self._counts["nodes"] += 1
            self._counts["incomplete"] += any(stream.fault for stream in job.streams)
        return line

    # Uploading

    def upload(self, target: S3Address, *, everything: bool) -> dict[str, Any]:
        """Copy the run's files below an address; counts, and the first error in words."""

        def store(path: Path) -> Fault | None:
            key = f"{target.key.rstrip('/')}/{path.relative_to(self._folder).as_posix()}".lstrip("/")
            address = S3Address(target.bucket, key, target.region)
            try:
                self.s3.store(path, address)
            except Exception as error:
                return judge(error, address, readable=False, action="s3:PutObject")
            return None

        count, fault = 0, None
        with ThreadPoolExecutor(max(1, int(self._options["connections"]))) as executor:
            files = files_of(self._folder, everything=everything)
            for batch in iter(lambda: list(itertools.islice(files, 1000)), []):
                for found in executor.map(store, batch):
                    count += found is None
                    fault = fault or found
                if fault and fault.kind in (Kind.DENIED, Kind.NO_BUCKET, Kind.CREDENTIALS, Kind.ELSEWHERE):
                    break
        return {"files": count, "problem": fault.text if fault else None, "to": str(target)}


def read_nodes(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The nodes of an entry of what is pending: in itself, or in a file of JSON lines, which may be packed."""
    yield from entry.get("nodes") or ()
    path = entry.get("path")
    if path:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def node_line(head: Mapping[str, Any], node: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The line of the index for a node, but for its streams.

    :param head: play, task and the host that called Run Command.
    """
    started, ended = _time(node.get("started_at") or node.get("requested_at")), _time(node.get("ended_at"))
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds() if started and ended else None
    known = ("instance_id", "account_id", "account_name", "region", "command_id", "status", "attempt")
    line = {
        **head,
        "host": str(node["instance_id"]),
        "folder": folder,
        "node": {**{name: node[name] for name in known if node.get(name) is not None}, "via": head.get("host")},
        "status": node_status(str(node.get("status"))),
        "rc": node.get("rc"),
        "msg": node.get("msg") or node.get("output_error"),
        "started": started,
        "ended": ended,
        "seconds": seconds,
        "route": "run_command",
    }
    return {name: value for name, value in line.items() if value is not None}


def _time(text: Any) -> str | None:
    """A time of the service as the index has them."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="milliseconds") if text else None


def _complete_folders(folder: Path) -> set[str]:
    """The nodes that were gathered before; lines of others are taken out of the index, so that each output has one line."""
    path = folder / INDEX
    complete: set[str] = set()
    incomplete = False
    for line, _end in read_lines(path):
        if _is_gathered(line):
            if _is_complete(line):
                complete.add(line["folder"])
            else:
                incomplete = True
    if incomplete:
        with whole_file(path) as file:
            for line, _end in read_lines(path):
                if not _is_gathered(line) or _is_complete(line):
                    file.write(encode_line(line))
    return complete


def _is_gathered(line: Mapping[str, Any]) -> bool:
    return "node" in line or "problem" in line


def _is_complete(line: Mapping[str, Any]) -> bool:
    return "problem" not in line and not any((line.get(name) or {}).get("problem") for name in ("stdout", "stderr"))


def serve(folder: str) -> int:
    """Do what stdin says, until it ends."""
    configuration = json.loads(sys.stdin.readline() or "{}")
    if not configuration:
        return 0
    gatherer = Gatherer(Path(folder), configuration)

    def answer(content: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        request = json.loads(line)
        if "more" in request:
            gatherer.more()
        elif "settle" in request:
            answer({"settled": gatherer.settle(lambda counts: answer({"progress": counts}))})
        elif "upload" in request:
            target = parse_address(request["upload"]["to"])
            if target is not None:
                answer({"uploaded": gatherer.upload(target, everything=request["upload"]["everything"])})
    sys.stdout.flush()
    os._exit(0)  # its threads may be in the middle of something that nobody waits for
