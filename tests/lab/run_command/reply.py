# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent says about a command: the content of `agent_job_reply`, and the payload of SendReply, are the same JSON."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .status import Details

#: documentStatus and the status of plugins, as the agent's source has them, to StatusDetails.
_DETAILS = {
    "Success": Details.SUCCESS,
    "TestPass": Details.SUCCESS,
    "Skipped": Details.SUCCESS,
    "Failed": Details.FAILED,
    "TestFailure": Details.FAILED,
    "Cancelled": Details.CANCELLED,
    "TimedOut": Details.EXECUTION_TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class PluginResult:
    """The result of one step. Times are seconds since the epoch, texts are cut by the agent already."""

    details: Details
    code: int  #: -1 while it runs
    started: float | None = None
    ended: float | None = None
    stdout: str = ""
    stderr: str = ""
    output: str = ""  #: both, as ListCommandInvocations shows it


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply."""

    details: Details
    plugins: Mapping[str, PluginResult]  #: by the step's name; schema 1.2: by the plugin's
    trace: str = ""


def parse_reply(text: str) -> Reply:
    """Parse a reply; raises `ValueError`, `AttributeError` or `TypeError` for what is none."""
    content: dict[str, Any] = json.loads(text)
    plugins = {name: _plugin(values) for name, values in (content.get("runtimeStatus") or {}).items()}
    details = _DETAILS.get(content["documentStatus"], Details.IN_PROGRESS)
    return Reply(details, plugins, content.get("documentTraceOutput") or "")


def _plugin(values: dict[str, Any]) -> PluginResult:
    details = _DETAILS.get(values["status"], Details.IN_PROGRESS)
    return PluginResult(
        details=details,
        code=values.get("code", 0) if details.final else -1,
        started=_seconds(values.get("startDateTime")),
        ended=_seconds(values.get("endDateTime")),
        stdout=values.get("standardOutput") or "",
        stderr=values.get("standardError") or "",
        output=values.get("output") or "",
    )


def _seconds(text: str | None) -> float | None:
    """Go's zero time means none."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.datetime.fromisoformat(text).timestamp()
