# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a run is: done, failed, rate, and how long it will take. No I/O, and no clock but the times it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """Nodes, summed up over commands."""

    total: int = 0
    done: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.total + other.total, self.done + other.done, self.failed + other.failed)


class Progress:
    """Turns counts into a rate and an estimate."""

    #: Seconds over which the rate is taken, so that it follows what happens now.
    SPAN = 30.0

    def __init__(self, started: float) -> None:
        self._seen: list[tuple[float, int]] = [(started, 0)]
        self._started = started

    def look(self, counts: Counts, now: float) -> dict[str, Any]:
        """What to show: total, done, failed, seconds, rate (nodes a second), left (seconds, None if it cannot be told)."""
        if counts.done < self._seen[-1][1]:  # a retry has taken nodes back
            self._seen = [(now, counts.done)]
        elif counts.done != self._seen[-1][1] or now - self._seen[-1][0] > 1:
            self._seen.append((now, counts.done))
        while len(self._seen) > 2 and self._seen[1][0] < now - self.SPAN:
            del self._seen[0]
        since, done = self._seen[0]
        rate = (counts.done - done) / (now - since) if now > since else 0.0
        rest = max(0, counts.total - counts.done)
        return {
            "total": counts.total,
            "done": counts.done,
            "failed": counts.failed,
            "seconds": round(now - self._started, 1),
            "rate": round(rate, 2),
            "left": 0 if not rest else round(rest / rate) if rate > 0 else None,
        }


def line(shown: dict[str, Any]) -> str:
    """One line for a person."""
    left = "" if shown["left"] is None or not shown["left"] else f", about {duration(shown['left'])} left"
    failed = f", {shown['failed']:,} failed" if shown["failed"] else ""
    return f"{shown['done']:,} of {shown['total']:,} nodes done{failed}, {shown['rate']:g} a second{left}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
