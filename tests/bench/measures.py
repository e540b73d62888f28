# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurements that are no plays on transports: rows of figures, some with a limit.

Each is a module of this package with a ``TITLE``, a ``NOTE`` (what else to know; may be empty), and ``measure()``, which yields its rows. `MODULES`
lists them. ``make bench BENCH=fleet`` makes one of them alone; its older rows are replaced, and those of the others stay. Each keeps the day and
the machine of its own in ``results/measures.json``. Each is made by a process of its own, ``python -m tests.bench.measures NAME``, which writes
lines of JSON: so its environment, and the memory of what it starts, are nobody else's.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .rows import machine_facts
from .targets import Verdict

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = ("fleet", "command_route", "gathering", "inventory", "bootstrap")
RESULTS = Path(__file__).parent / "results" / "measures.json"
BEGIN, END = "<!-- measures -->", "<!-- /measures -->"


@dataclass(frozen=True)
class Measure:
    """One row of a measurement."""

    what: str  #: for people; names the row
    figures: Mapping[str, float | None]  #: by the column's title, which names the unit; None: there is none
    limits: Mapping[str, float] = field(default_factory=dict)  #: what some of the figures may be at most


@dataclass(frozen=True)
class Measurement:
    """What one measurement has found."""

    title: str
    note: str
    date: str
    machine: Mapping[str, Any]
    rows: list[Measure]


class MeasurementFailed(Exception):
    """A measurement ended without all of its rows; why stands in what it wrote to stderr."""


def take(name: str) -> Measurement:
    """Make the measurement of this name, and show each row as soon as it is there. :raises MeasurementFailed:"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "collections")}
    command = [sys.executable, "-m", "tests.bench.measures", name]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        head = json.loads(process.stdout.readline() or "{}")
        rows = []
        for line in process.stdout:
            row = Measure(**json.loads(line))
            shown = ", ".join(f"{title} {_number(value)}" for title, value in row.figures.items() if value is not None)
            print(f"{name}: {row.what}: {shown}", flush=True)
            rows.append(row)
    if process.returncode or not rows:
        raise MeasurementFailed(f"the measurement {name} ended with {process.returncode}, after {len(rows)} rows")
    return Measurement(head["title"], head["note"], datetime.date.today().isoformat(), machine_facts(), rows)


def read(path: Path = RESULTS) -> dict[str, Measurement]:
    """All measurements that were kept, by name."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measurement(**{**values, "rows": [Measure(**row) for row in values["rows"]]}) for name, values in found.items()}


def keep(taken: Mapping[str, Measurement], path: Path = RESULTS) -> None:
    """Put measurements in the place of older ones of their names, in the order of `MODULES`."""
    found = {**read(path), **taken}
    ordered = {name: asdict(found[name]) for name in MODULES if name in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tables(found: Mapping[str, Measurement]) -> str:
    """Markdown: for each measurement its title, a table, and where and when it was made."""
    return "\n\n".join(_table(measurement) for measurement in found.values())


def verdicts(found: Mapping[str, Measurement]) -> Iterator[Verdict]:
    """How each limit came out."""
    for measurement in found.values():
        for row in measurement.rows:
            for title, limit in row.limits.items():
                yield Verdict(f"{row.what}: {title}", row.figures[title], limit)


def write_into(readme: Path, found: Mapping[str, Measurement]) -> None:
    """Replace what stands between the marks."""
    text = readme.read_text(encoding="utf-8")
    head, _begin, rest = text.partition(BEGIN)
    _old, _end, tail = rest.partition(END)
    readme.write_text(f"{head}{BEGIN}\n{tables(found)}\n{END}{tail}", encoding="utf-8")


def _table(measurement: Measurement) -> str:
    titles = list(dict.fromkeys(title for row in measurement.rows for title in row.figures))
    machine = measurement.machine
    lines = [
        f"**{measurement.title}** ({measurement.date}; {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']})",
        "",
        "| | " + " | ".join(titles) + " |",
        "|---|" + "---:|" * len(titles),
        *(f"| {row.what} | " + " | ".join(_cells(row, titles)) + " |" for row in measurement.rows),
    ]
    return "\n".join([*lines, "", measurement.note] if measurement.note else lines)


def _cells(row: Measure, titles: Iterable[str]) -> Iterator[str]:
    for title in titles:
        limit = row.limits.get(title)
        yield _number(row.figures.get(title)) + ("" if limit is None else f" (≤ {_number(limit)})")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"


def _main() -> None:
    module = importlib.import_module(f"tests.bench.{sys.argv[1]}")
    print(json.dumps({"title": module.TITLE, "note": module.NOTE}), flush=True)
    for row in module.measure():
        print(json.dumps(asdict(row)), flush=True)


if __name__ == "__main__":
    _main()
