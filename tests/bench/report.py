# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the README and the list of targets, from the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .rows import Results, Row
from .targets import Verdict, verdicts

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"

#: Columns in this order, those that were measured.
_TRANSPORTS = (
    ("local", "local"), ("ssh", "ssh"), ("mitogen", "mitogen over ssh"), ("session", "**fleet.ssm**"), ("session_public", "fleet.ssm, public documents"),
)  # fmt: skip


def _marginal(row: Row) -> str:
    return "–" if row.marginal_ms is None else f"{row.marginal_ms:.0f}"


def _seconds(row: Row) -> str:
    return f"{row.median_s:.2f}"


def _rate(row: Row) -> str:
    """5 MB from each host, in the time that the play took beyond an empty one."""
    return "–" if not row.marginal_ms else f"{5 * row.hosts / (row.marginal_ms * row.tasks / 1000):.1f}"


def _background_cpu(row: Row) -> str:
    return f"{row.background_cpu_s:.2f}"


def _background_memory(row: Row) -> str:
    return f"{row.background_rss_mb:.0f}"


def _node_memory(row: Row) -> str:
    return "–" if row.node_rss_mb is None else f"{row.node_rss_mb:.0f}"


_LINES: tuple[tuple[str, str, Callable[[Row], str]], ...] = (
    ("mix", "ms a task: command, file, copy, stat, template", _marginal),
    ("mix", "s in that in which modules waited for nothing (see below), not counted", lambda row: f"{row.idle_s:.1f}"),
    ("commands5x10", "ms a task: 5 hosts × 10 command", _marginal),
    ("commands50x10", "ms a task: 50 hosts × 10 command", _marginal),
    ("first", "s: one command, nothing open yet", _seconds),
    ("first_connected", "s: one command, connection open", _seconds),
    ("stdout5", "s: 5 MB of stdout", _seconds),
    ("copy20", "s: 20 MB there and back", _seconds),
    ("stdout20x5", "MB/s: 20 hosts × 5 MB of stdout", _rate),
    ("stdout20x5", "CPU s of mux or ssh masters in that", _background_cpu),
    ("empty1", "s: a play without tasks", _seconds),
    ("stdout20x5", "MB of mux or ssh masters: 20 hosts × 5 MB of stdout", _background_memory),
    ("commands50x10", "MB of mux or ssh masters: 50 hosts × 10 command", _background_memory),
    ("mix", "MB on the node in the mix, all processes", _node_memory),
)


def table(results: Results) -> str:
    """Markdown: a line for each workload, become and latency; a column for each transport."""
    shown = [(name, title) for name, title in _TRANSPORTS if any(row.transport == name for row in results.rows)]
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = [
        f"Medians of {max(row.runs for row in results.rows)} interleaved runs (20 and 50 hosts: one run) on {results.date}:",
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; {versions}. Latency is one way.",
        "",
        "| | latency | " + " | ".join(title for _name, title in shown) + " |",
        "|---|---|" + "---:|" * len(shown),
    ]
    for workload, title, figure in _LINES:
        for become in (False, True):
            for latency in sorted({row.latency_ms for row in results.rows}):
                found = [results.find(name, workload, become=become, latency_ms=latency) for name, _title in shown]
                if any(found):
                    words = title + (", become root" if become else "")
                    lines.append(f"| {words} | {latency} ms | " + " | ".join("–" if row is None else figure(row) for row in found) + " |")
    lines += [
        "",
        "Not counted with one host: seconds in which ansible-core's `run_command` waits for a program that has ended. It loses a race with it",
        "now and then, on the node and with any transport; `echo` that takes a second is this.",
        "A node keeps an interpreter for each user, some 15 MB, as long as tasks take turns between two of them, and for 12 seconds after.",
    ]
    return "\n".join(lines)


def write_into(readme: Path, results: Results) -> None:
    """Replace what stands between the marks."""
    text = readme.read_text(encoding="utf-8")
    head, _begin, rest = text.partition(BEGIN)
    _old, _end, tail = rest.partition(END)
    readme.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{tail}", encoding="utf-8")


def target_lines(results: Results) -> Iterable[str]:
    """One line for each target of the plays."""
    return verdict_lines(verdicts(results))


def verdict_lines(found: Iterable[Verdict]) -> Iterator[str]:
    """One line for each verdict."""
    for verdict in found:
        yield f"{_word(verdict):<8} {'–' if verdict.value is None else f'{verdict.value:.2f}':>8} ≤ {verdict.limit:<6.2f} {verdict.text}"


def _word(verdict: Verdict) -> str:
    return {None: "–", True: "ok", False: "MISSED"}[verdict.good]
