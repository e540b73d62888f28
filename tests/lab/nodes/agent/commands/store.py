# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What survives the agent and the node: commands that wait or run, with their results so far, and ids once seen.

`pending/ID.json` and `current/ID.json` are states of documents, `current/ID.events` what the document's worker has to
tell, one JSON object a line. A file is written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .order import CommandOrder, Step
from .result import IN_PROGRESS, StepResult

_SEEN_FOR = 3600.0  #: seconds that the id of a command is known at least


@dataclass
class DocumentState:
    """A command and how far it is."""

    order: CommandOrder
    status: str = IN_PROGRESS
    results: dict[str, StepResult] = field(default_factory=dict)
    pid: int = 0  #: of its worker, in the boot named
    boot_id: str = ""
    read: int = 0  #: bytes of the events that were passed on
    runs: int = 0  #: how often an agent took it up again

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DocumentState:
        given: dict[str, Any] = json.loads(text)
        order = given["order"]
        steps = tuple(
            Step(
                **{
                    **step,
                    "conditions": {
                        operator: [tuple(pair) for pair in arguments]
                        for operator, arguments in step["conditions"].items()
                    },
                }
            )
            for step in order["steps"]
        )
        return cls(
            **{
                **given,
                "order": CommandOrder(**{**order, "steps": steps}),
                "results": {name: StepResult(**result) for name, result in given["results"].items()},
            }
        )


class Store:
    """The files of one node's commands."""

    def __init__(self, folder: Path) -> None:
        self._pending, self._current, self._seen = folder / "pending", folder / "current", folder / "seen"
        for place in (self._pending, self._current, self._seen):
            place.mkdir(parents=True, exist_ok=True)

    def add_pending(self, state: DocumentState) -> None:
        _write(self._pending / f"{state.order.command_id}.json", state.to_json())

    def begin(self, state: DocumentState) -> None:
        """It runs now: no longer pending."""
        self.save(state)
        (self._pending / f"{state.order.command_id}.json").unlink(missing_ok=True)

    def save(self, state: DocumentState) -> None:
        _write(self._current / f"{state.order.command_id}.json", state.to_json())

    def load(self, command_id: str) -> DocumentState:
        return DocumentState.from_json((self._current / f"{command_id}.json").read_text())

    def remove(self, command_id: str) -> None:
        (self._current / f"{command_id}.json").unlink(missing_ok=True)
        self.events_path(command_id).unlink(missing_ok=True)

    def events_path(self, command_id: str) -> Path:
        return self._current / f"{command_id}.events"

    def current(self) -> list[DocumentState]:
        return _states(self._current)

    def pending(self) -> list[DocumentState]:
        return _states(self._pending)

    def first_seen(self, command_id: str) -> bool:
        """Whether this command comes for the first time; from now on it does not."""
        now = time.time()
        for path in self._seen.iterdir():
            if path.stat().st_mtime < now - _SEEN_FOR:
                path.unlink(missing_ok=True)
        path = self._seen / command_id.replace("/", "_")
        if path.exists():
            return False
        path.touch()
        return True

    def forget_seen(self, command_id: str) -> None:
        """It was not taken after all, and may come again."""
        (self._seen / command_id.replace("/", "_")).unlink(missing_ok=True)


def _states(folder: Path) -> list[DocumentState]:
    return [DocumentState.from_json(path.read_text()) for path in sorted(folder.glob("*.json"))]


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)
