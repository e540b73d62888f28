# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every API request: one JSON line each, and counters."""

from __future__ import annotations

import datetime
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_REMEMBERED = 10_000


@dataclass(frozen=True)
class LoggedRequest:
    """One request; `action` as `ssm:StartSession`, `milliseconds` until the answer was ready. No parameters, no secrets."""

    time: str
    account: str
    region: str
    action: str
    principal: str
    status: int
    error: str
    milliseconds: float
    request_bytes: int
    response_bytes: int
    by_node: bool  #: an agent called, not a controller
    caller: str = ""  #: which plugin or module of the collection it says that it is


def caller_of(headers: Mapping[str, str]) -> str:
    """What the collection's clients say at the end of their user agent: ``fleet.ssm/document``."""
    return next((name for word in headers.get("User-Agent", "").split() if (name := word.removeprefix("fleet.ssm/")) != word), "")


class RequestLog:
    """Written to a file line by line, counted since the start or the last reset."""

    def __init__(self, path: Path, listener: Callable[[LoggedRequest], None] | None = None) -> None:
        self._listener = listener
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._entries: deque[LoggedRequest] = deque(maxlen=_REMEMBERED)
        self._counts: Counter[str] = Counter()
        self._node_counts: Counter[str] = Counter()

    def add(self, entry: LoggedRequest) -> None:
        """Note a request."""
        self._entries.append(entry)
        (self._node_counts if entry.by_node else self._counts)[entry.action] += 1
        self._file.write(json.dumps(asdict(entry)) + "\n")
        if self._listener is not None:
            self._listener(entry)

    def summary(self, *, entries: bool = False) -> dict[str, Any]:
        """Counters of controllers and of nodes by action, and the latest requests if wanted."""
        found: dict[str, Any] = {"counts": dict(self._counts), "node_counts": dict(self._node_counts)}
        if entries:
            found["entries"] = [asdict(entry) for entry in self._entries]
        return found

    def reset(self) -> None:
        """Count from zero again; the file stays."""
        self._entries.clear()
        self._counts.clear()
        self._node_counts.clear()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def timestamp() -> str:
    """Now, in UTC, with milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
