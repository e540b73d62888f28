# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands found and cancelled in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from ..aws_errors import error_code
from ..problems import CollectError
from .caller import Caller
from .mark import Mark
from .status import is_command_final, snake

_PAGE = 50
#: Seconds between looks at a command that is being cancelled.
_PAUSES = (0.5, 1.0, 2.0, 3.0, 5.0)


def find(caller: Caller, *, run_id: str | None = None, command_ids: Iterable[str] = (), since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Commands of a place, as ListCommands has them: of a run, or by id. :raises CollectError: if it refuses.

    :param since: how far to look back for a run; seconds since the epoch.
    """
    for command_id in command_ids:
        try:
            for page in caller.pages("ListCommands", "Commands", CommandId=command_id):
                yield from page
        except CollectError as error:
            if error_code(error) != "InvalidCommandId":
                raise
    if run_id is not None:
        moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for page in caller.pages("ListCommands", "Commands", Filters=[{"key": "InvokedAfter", "value": moment}], MaxResults=_PAGE):
            for entry in page:
                mark = Mark.read(entry.get("Comment", ""))
                if mark is not None and mark.run_id == run_id:
                    yield entry


def cancel(caller: Caller, run_id: str | None, command_ids: Sequence[str], since: float, *, wait: bool, dry: bool) -> list[dict[str, Any]]:
    """Cancel those that are not over; all that were found, each with what it `was` and its `status` now.

    :raises CollectError: if the place refuses.
    """
    found = []
    for entry in find(caller, run_id=run_id, command_ids=command_ids, since=since):
        status = snake(entry.get("StatusDetails") or entry["Status"])
        changes = not is_command_final(status) and status != "cancelling"
        if changes and not dry:
            caller.read("CancelCommand", CommandId=entry["CommandId"])
        found.append({"command_id": entry["CommandId"], **caller.place.describe(), "was": status, "status": status, "changed": changes})
    if wait and not dry:
        for command in found:
            command["status"] = _await_end(caller, command)
    return found


def _await_end(caller: Caller, command: dict[str, Any]) -> str:
    pauses = list(_PAUSES)
    status: str = command["status"]
    while not is_command_final(status):
        caller.wait(pauses.pop(0) if len(pauses) > 1 else pauses[0])
        for page in caller.pages("ListCommands", "Commands", CommandId=command["command_id"]):
            for entry in page:
                status = snake(entry.get("StatusDetails") or entry["Status"])
    return status
