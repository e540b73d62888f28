# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.bench [full | plays | quick | NAME]``: measure, write results, print the tables and how the targets came out.

``full`` is plays on all transports and then the other measurements; ``plays`` are the former alone, NAME is one of the latter.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.lab import Lab

from . import measures, nodes, report
from .relay import Network
from .rows import Key, Results, Sample, make_row
from .runner import REPOSITORY, PlayFailed, Runner
from .transports import Transport, make_transports
from .workloads import EMPTY, WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results" / "bench.json"
QUICK_RESULTS = REPOSITORY / ".build" / "bench-quick.json"
TRANSPORTS = ("local", "ssh", "mitogen", "session", "session_public")
FIRST_SSHD_PORT = 22200  # below those that the kernel gives to connections


@dataclass(frozen=True)
class Plan:
    """What shall be measured how often."""

    workloads: tuple[Workload, ...]
    transports: tuple[str, ...]
    latencies_ms: tuple[int, ...]
    rounds: int

    @property
    def hosts(self) -> int:
        """Nodes that are needed."""
        return max(workload.hosts for workload in self.workloads)

    def steps(self) -> Iterator[tuple[Workload, bool]]:
        """Workloads with and without become, each number of hosts with its empty play before it."""
        for hosts in sorted({workload.hosts for workload in self.workloads}):
            yield EMPTY[hosts], False
            for workload in self.workloads:
                if workload.hosts == hosts:
                    yield from ((workload, become) for become in workload.become)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    sizes = ("full", "plays", "quick", *measures.MODULES)
    parser.add_argument("size", nargs="?", choices=sizes, default="full", help="quick: one round of the small workloads at 0 ms")
    parser.add_argument("--workloads", help="only these, by name: " + ", ".join(name for name in WORKLOADS if not name.startswith("empty")))
    parser.add_argument("--transports", help="only these: " + ", ".join(TRANSPORTS))
    parser.add_argument("--latencies", help="ms one way, for example 0,20")
    parser.add_argument("--rounds", type=int, help="runs of each; the median of at least three is a result")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> Plan:
    quick = arguments.size == "quick"
    names = ("mix", "first", "first_connected", "stdout5", "copy20") if quick else tuple(name for name in WORKLOADS if not name.startswith("empty"))
    if arguments.workloads:
        names = tuple(arguments.workloads.split(","))
    return Plan(
        workloads=tuple(WORKLOADS[name] for name in names),
        transports=tuple(arguments.transports.split(",")) if arguments.transports else TRANSPORTS,
        latencies_ms=tuple(map(int, arguments.latencies.split(","))) if arguments.latencies else ((0,) if quick else (0, 20)),
        rounds=arguments.rounds or (1 if quick else 3),
    )


def _measured(transport: Transport, workload: Workload, latency_ms: int, round_: int) -> bool:
    """Public documents matter where a session starts; all else is the same session. A fleet is compared with ssh alone, once."""
    if workload.fleet:
        return transport.name in ("ssh", "session") and not latency_ms and not round_
    return transport.name != "session_public" or workload.name in ("first", "empty1")


def _measure(plan: Plan, runner: Runner, transports: Sequence[Transport]) -> dict[Key, list[Sample]]:
    samples: dict[Key, list[Sample]] = defaultdict(list)
    for latency in plan.latencies_ms:
        for round_ in range(plan.rounds):
            for workload, become in plan.steps():
                # Each transport comes first once, so that none always meets a warm or a tired machine.
                turn = round_ % len(transports)
                for transport in (*transports[turn:], *transports[:turn]):
                    if not _measured(transport, workload, latency, round_):
                        continue
                    sample = runner.measure(transport, workload, become=become, latency_ms=latency)
                    samples[Key(transport.name, workload.name, become, latency, workload.hosts)].append(sample)
                    words = f"{workload.name}{', become' if become else ''}"
                    print(f"{latency:>3} ms  round {round_ + 1}  {words:<24}{transport.name:<15}{sample.seconds:8.2f} s", flush=True)
    return samples


def _rows(samples: dict[Key, list[Sample]]) -> Results:
    def empty_seconds(key: Key) -> float | None:
        empty = samples.get(Key(key.transport, EMPTY[key.hosts].name, False, key.latency_ms, key.hosts))
        return make_row(key, 0, empty, None).median_s if empty else None

    rows = [make_row(key, WORKLOADS[key.workload].task_count, of_key, empty_seconds(key)) for key, of_key in samples.items()]
    versions = {name: version(name) for name in ("ansible-core", "mitogen")}
    return Results(rows, {**versions, "Python": sys.version.split()[0]}, datetime.date.today().isoformat())


def main() -> int:
    """Measure; 1 if a target was missed, 2 if something failed."""
    arguments = _arguments()
    try:
        return _judged(_take(arguments.size)) if arguments.size in measures.MODULES else _measure_plays(arguments)
    except (PlayFailed, measures.MeasurementFailed) as failure:
        print(failure, file=sys.stderr)
        return 2


def _take(*names: str) -> list[str]:
    """Other measurements: kept, put into the README and shown. Lines on their targets."""
    taken = {name: measures.take(name) for name in names}
    measures.keep(taken)
    measures.write_into(REPOSITORY / "README.md", measures.read())
    print("\n" + measures.tables(taken) + "\n")
    return list(report.verdict_lines(measures.verdicts(taken)))


def _judged(lines: Sequence[str]) -> int:
    print("\n".join(lines))
    return 1 if any(line.startswith("MISSED") for line in lines) else 0


def _measure_plays(arguments: argparse.Namespace) -> int:
    plan = _plan(arguments)
    partial = arguments.size == "quick" or any((arguments.workloads, arguments.transports, arguments.latencies, arguments.rounds))
    # A short name: sockets have long ones below it.
    folder = Path(tempfile.mkdtemp(prefix="fb-", dir="/tmp"))
    transports: list[Transport] = []
    try:
        with Network() as network, Lab(nodes.definitions(plan.hosts)) as lab:
            nodes.create_documents(lab)
            reached = nodes.open_nodes(lab, network, folder, FIRST_SSHD_PORT)
            transports = make_transports(plan.transports, folder, lab, network)
            runner = Runner(folder, lab, network, reached)
            for transport in transports:
                runner.prepare(transport)
            try:
                results = _rows(_measure(plan, runner, transports))
            finally:
                for transport in transports:
                    transport.forget()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results.write(QUICK_RESULTS if partial else RESULTS)
    if not partial:
        report.write_into(REPOSITORY / "README.md", results)
    print("\n" + report.table(results) + "\n")
    lines = list(report.target_lines(results))
    return _judged([*lines, *_take(*measures.MODULES)] if arguments.size == "full" and not partial else lines)


if __name__ == "__main__":
    sys.exit(main())
