# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The targets of the project, each a ratio of two figures of the same run, or a limit on one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rows import Results, Row


@dataclass(frozen=True)
class Verdict:
    """How one target came out; ``value`` is None if the run holds no figures for it."""

    text: str
    value: float | None
    limit: float

    @property
    def good(self) -> bool | None:
        """Whether the target is met; None if it was not measured."""
        return None if self.value is None else self.value <= self.limit


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under


def _median(row: Row | None) -> float | None:
    return None if row is None else row.median_s


def _marginal(row: Row | None) -> float | None:
    return None if row is None else row.marginal_ms


def verdicts(results: Results) -> Iterator[Verdict]:
    """Every target, in the order of the issue."""
    mix = results.find("session", "mix")
    yield Verdict("AWS API calls in a play on open sessions", None if mix is None else mix.api_calls, 0)
    for become in (False, True):
        for latency, of_ssh in ((0, 0.4), (20, 0.35)):
            name = f"mix{', become root' if become else ''}, {latency} ms: marginal time of a task"
            ours = _marginal(results.find("session", "mix", become=become, latency_ms=latency))
            for peer, limit in (("ssh", of_ssh), ("mitogen", 1.1)):
                yield Verdict(f"{name} / {peer}", _ratio(ours, _marginal(results.find(peer, "mix", become=become, latency_ms=latency))), limit)
    for workload, words, latencies in (("commands5x10", "5 hosts × 10 command", (0, 20)), ("commands50x10", "50 hosts × 10 command", (0,))):
        for latency in latencies:
            ours, ssh = (_marginal(results.find(transport, workload, latency_ms=latency)) for transport in ("session", "ssh"))
            yield Verdict(f"{words}, {latency} ms, less the empty play / ssh", _ratio(ours, ssh), 0.65)
    for latency in (0, 20):
        ssh = _median(results.find("ssh", "first", latency_ms=latency))
        for transport, words, limit in (("session", "own documents", 1.4), ("session_public", "public documents", 2.0)):
            ours = _median(results.find(transport, "first", latency_ms=latency))
            yield Verdict(f"first command, no mux, {words}, {latency} ms / ssh without master", _ratio(ours, ssh), limit)
        ours, ssh = (_median(results.find(transport, "first_connected", latency_ms=latency)) for transport in ("session", "ssh"))
        yield Verdict(f"first command, mux running, {latency} ms / ssh with master", _ratio(ours, ssh), 1.0)
        for workload, words, limit in (("stdout5", "5 MB of stdout", 1.5), ("copy20", "20 MB there and back", 2.5)):
            ours, ssh = (_median(results.find(transport, workload, latency_ms=latency)) for transport in ("session", "ssh"))
            yield Verdict(f"{words}, {latency} ms / ssh", _ratio(ours, ssh), limit)
    for workload, hosts in (("mix", 1), ("commands5x10", 5), ("stdout20x5", 20), ("commands50x10", 50)):
        row = results.find("session", workload)
        yield Verdict(f"MB of the mux, {hosts} nodes, {workload}", None if row is None else row.background_rss_mb, 90 + 1 + 0.3 * hosts)
    nodes = [row.node_rss_mb for row in results.rows if row.transport == "session" and row.node_rss_mb is not None]
    yield Verdict("MB of a session's processes on the node", max(nodes, default=None), 25)
