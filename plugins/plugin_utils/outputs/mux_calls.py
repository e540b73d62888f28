# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS calls that the mux has made, by its own count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..mux.client import MuxClient, MuxError
from ..mux.protocol import FrameType

_PATIENCE = 5.0
"""Seconds for which a mux that says nothing is waited for: a report is not worth more."""


@dataclass(frozen=True)
class Calls:
    """Counts since a mux began."""

    pid: int
    by_action: Mapping[str, int]
    throttled: int

    @classmethod
    def of_status(cls, status: Mapping[str, Any]) -> Calls:
        """Of what the mux answers to STATUS."""
        counts: Counter[str] = Counter()
        for identity in status["identities"]:
            counts.update(identity["api_calls"])
        return cls(status["pid"], dict(counts), sum(limit["throttled"] for limit in status["limits"]))

    def since(self, before: Calls | None) -> Calls:
        """What was added; all, if it was another mux before."""
        if before is None or before.pid != self.pid:
            return self
        added = {name: count - before.by_action.get(name, 0) for name, count in self.by_action.items()}
        return Calls(self.pid, {name: count for name, count in added.items() if count > 0}, self.throttled - before.throttled)


def ask_mux(directory: str) -> Calls | None:
    """The counts of the mux that runs; `None` if none does. It is never started for this."""
    try:
        client = MuxClient.connect_if_running(directory, patience=_PATIENCE)
        if client is None:
            return None
        try:
            return Calls.of_status(client.ask(FrameType.STATUS))
        finally:
            client.close()
    except (MuxError, OSError, KeyError):
        return None
