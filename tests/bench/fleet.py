# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module run_command on a fleet that answers without executing: time, calls and memory, in 10 accounts and 2 regions."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab

from . import processes
from .measures import Measure
from .runner import REPOSITORY

TITLE = "`run_command` on simulated nodes in 10 accounts × 2 regions"
NOTE = (
    "The nodes answer at once, so time is that of the calls, and of the lab, which shares the machine. The least is the sends and one pass over result pages "
    "(50 nodes each). A million nodes have 20,000 such pages, 1,000 in each account and region: at *R* calls of `ListCommandInvocations` a second that AWS "
    "allows there, they take 1,000 / *R* seconds. That quota is what limits, and not the controller. With nodes by id the "
    "module holds the list of all of them."
)
ACCOUNTS = [str(digit) * 12 for digit in range(1, 10)] + ["101010101010"]
REGIONS = ["eu-central-1", "us-east-1"]
PLACES = [(account, region) for account in ACCOUNTS for region in REGIONS]
ACTIONS = ("ssm:SendCommand", "ssm:ListCommandInvocations", "ssm:ListCommands")
SIZES = (1_000, 10_000, 100_000)
RATE = 0.7
PAGE = 50
SECONDS, CALLS, RATIO, MEMORY, GROWTH = "s", "calls", "calls / the least", "MB at most", "time / that of a tenth"


@dataclass(frozen=True)
class Outcome:
    """What one run of the module gave and took."""

    result: dict[str, Any]
    calls: int  #: as the service counts them
    seconds: float
    memory_mb: float  #: at its peak


@contextlib.contextmanager
def simulated(nodes: int) -> Iterator[Lab]:
    """A lab with so many nodes, the same number in each place, all with the tag Role=fleet."""
    with Lab([], accounts=ACCOUNTS, regions=REGIONS) as lab:
        for account, region in PLACES:
            values: dict[str, Any] = {"hybrid": True, "account": account, "region": region, "tags": {"Role": "fleet"}, "options": {"stdout": "x" * 200}}
            lab.simulate(nodes // len(PLACES), prefix=f"{account}-{region}", **values)
        yield lab


def by_tag() -> dict[str, Any]:
    """Options that mean all nodes."""
    return {"tags": {"Role": "fleet"}}


def by_id(lab: Lab) -> dict[str, Any]:
    """The same by their ids."""
    return {"nodes": [{"instance_id": node.node_id, "account_id": node.account, "region": node.region} for node in lab.nodes()]}


def least(nodes: int, *, ids: bool) -> int:
    """Calls that no program can do without: sends, and pages of results."""
    pages = -(-nodes // len(PLACES) // PAGE)
    return len(PLACES) * (pages + (pages if ids else 1))


def run(lab: Lab, folder: Path, **options: Any) -> Outcome:
    """The module as Ansible runs it: a process of its own. Results go to ``results.jsonl.gz`` in the folder."""
    roles = [{"role_arn": f"arn:aws:iam::{account}:role/FleetOperator"} for account in ACCOUNTS[1:]]
    given = {"accounts": [{"name": "hub"}, *roles], "regions": REGIONS, "commands": ["true"], "max_concurrency": "100%", **options}
    given["results_path"] = str(folder / "results.jsonl.gz")
    lab.reset_requests()
    environment = {**os.environ, **lab.env(), "PYTHONPATH": str(REPOSITORY / "collections")}
    command = [sys.executable, "-m", "ansible_collections.fleet.ssm.plugins.modules.run_command"]
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with _peak_of(process.pid) as peak:
        stdout, _stderr = process.communicate(json.dumps({"ANSIBLE_MODULE_ARGS": given}), timeout=1800)
    seconds, counts = time.monotonic() - began, lab.requests().counts
    return Outcome(json.loads(stdout), sum(counts.get(action, 0) for action in ACTIONS), seconds, peak[0])


def throttled(lab: Lab, folder: Path, rate: float) -> Outcome:
    """A run on all nodes by their ids, while each action may be called so often a second in each place."""
    with contextlib.ExitStack() as faults:
        for action in ACTIONS:
            faults.enter_context(lab.throttle(action, rate=rate))
        return run(lab, folder, **by_id(lab))


@contextlib.contextmanager
def _peak_of(pid: int) -> Iterator[list[float]]:
    """MB that a process has at its peak; the kernel's own figure at its end would hold that of its parent."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], processes.peak_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def measure() -> Iterator[Measure]:
    """Each size by tag and by id, and a million by the line through the larger ones."""
    seen: dict[tuple[str, int], Outcome] = {}
    for size in SIZES:
        with simulated(size) as lab, tempfile.TemporaryDirectory(prefix="fb-") as folder:
            for name, options in (("tag", by_tag()), ("id", by_id(lab))):
                outcome = seen[name, size] = _checked(run(lab, Path(folder), **options), size)
                yield _row(f"{size:,} nodes by {name}", outcome, least(size, ids=name == "id"), seen.get((name, size // 10)))
            if size == SIZES[1]:
                outcome = _checked(throttled(lab, Path(folder), RATE), size)
                yield _row(f"{size:,} nodes by id, each action throttled to {RATE} a second", outcome, least(size, ids=True), None, ratio=1.3)
    for name in ("tag", "id"):
        yield _extrapolated(name, 1_000_000, seen[name, SIZES[-2]], seen[name, SIZES[-1]])


def _checked(outcome: Outcome, nodes: int) -> Outcome:
    if outcome.result.get("failed") or outcome.result["summary"]["succeeded"] != nodes:
        raise RuntimeError(f"{nodes} nodes: {outcome.result.get('msg')} {outcome.result.get('summary')}")
    return outcome


def _row(what: str, outcome: Outcome, minimum: int, of_a_tenth: Outcome | None, ratio: float = 1.2) -> Measure:
    figures: dict[str, float | None] = {
        SECONDS: round(outcome.seconds, 2), CALLS: outcome.calls, RATIO: round(outcome.calls / minimum, 3), MEMORY: round(outcome.memory_mb, 1),
        GROWTH: None if of_a_tenth is None else round(outcome.seconds / of_a_tenth.seconds, 2),
    }  # fmt: skip
    return Measure(what, figures, {RATIO: ratio, MEMORY: 200, **({} if of_a_tenth is None else {GROWTH: 12})})


def _extrapolated(name: str, nodes: int, small: Outcome, large: Outcome) -> Measure:
    def line(figure: float, larger: float) -> float:
        return round(larger + (larger - figure) / (SIZES[-1] - SIZES[-2]) * (nodes - SIZES[-1]), 1)

    calls = line(small.calls, large.calls)
    figures: dict[str, float | None] = {
        SECONDS: line(small.seconds, large.seconds), CALLS: calls, RATIO: round(calls / least(nodes, ids=name == "id"), 3),
        MEMORY: line(small.memory_mb, large.memory_mb), GROWTH: None,
    }  # fmt: skip
    return Measure(f"{nodes:,} nodes by {name}, extrapolated", figures)
