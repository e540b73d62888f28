# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of steps, the state of a document made of them, and the content of replies.

Limits count bytes of UTF-8, as the agent does: 24,000 for each of the two streams, 2,500 for the two in one.
"""

from __future__ import annotations

import codecs
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

NOT_STARTED = "NotStarted"
IN_PROGRESS = "InProgress"
SUCCESS = "Success"
FAILED = "Failed"
TIMED_OUT = "TimedOut"
CANCELLED = "Cancelled"
SKIPPED = "Skipped"
SUCCESS_AND_REBOOT = "SuccessAndReboot"

_STREAM_LIMIT = 24_000
_STREAM_CUT = b"--output truncated--"
_BOTH_LIMIT = 2500
_ERROR_TITLE = b"\n----------ERROR-------\n"
_OUTPUT_CUT = b"\n---Output truncated---"
_ERROR_CUT = b"\n---Error truncated----"
_NO_TIME = "0001-01-01T00:00:00.000Z"
_MERGE_ORDER = (SKIPPED, SUCCESS, SUCCESS_AND_REBOOT, NOT_STARTED, IN_PROGRESS, FAILED, CANCELLED, TIMED_OUT)


def _replace_each(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("fleet_lab_each", _replace_each)


def text_of(data: bytes) -> str:
    """UTF-8 with U+FFFD for each byte that is not."""
    return data.decode("utf-8", "fleet_lab_each")


def cut_stream(data: bytes) -> bytes:
    """The beginning of a stream as a reply has it. Exactly 24,000 bytes are cut too."""
    return data if len(data) < _STREAM_LIMIT else data[: _STREAM_LIMIT - len(_STREAM_CUT)] + _STREAM_CUT


def join_streams(stdout: bytes, stderr: bytes) -> bytes:
    """Both streams in one text of at most 2,500 bytes."""
    title = _ERROR_TITLE if stderr else b""
    space = _BOTH_LIMIT - len(title)
    if len(stdout) + len(stderr) < space:
        return stdout + title + stderr
    half = space // 2
    if len(stdout) > half and len(stderr) > half:
        each = (space - len(_ERROR_CUT) - len(_OUTPUT_CUT)) // 2
        return stdout[:each] + _OUTPUT_CUT + title + stderr[:each] + _ERROR_CUT
    if len(stdout) <= half:
        return stdout + title + stderr[: space - len(_ERROR_CUT) - len(stdout)] + _ERROR_CUT
    return stdout[: space - len(_OUTPUT_CUT) - len(stderr)] + _OUTPUT_CUT + title + stderr


def merge_status(current: str, new: str) -> str:
    """The state of parts of one step: the worse."""
    if not current or not new:
        return current or new
    return max(current, new, key=_MERGE_ORDER.index)


@dataclass(frozen=True)
class AgentInfo:
    """What replies tell about the agent."""

    version: str
    os: str = "linux"


@dataclass
class StepResult:
    """One step so far. Times in seconds since the epoch, 0 for none; `output` None where nothing was executed."""

    step_id: str
    plugin: str
    status: str = ""
    code: int = 0
    output: str | None = None
    error: str = ""
    stdout: str = ""
    stderr: str = ""
    started: float = 0.0
    ended: float = 0.0
    bucket: str = ""
    key_prefix: str = ""
    step_name: str = ""  #: of the S3 key; only with a bucket

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def runtime_status(self) -> dict[str, Any]:
        """As `runtimeStatus` of a reply has it."""
        return {
            "status": self.status,
            "code": 1 if self.status == FAILED and self.code == 0 else self.code,
            "name": self.plugin,
            "output": self.error or ("<nil>" if self.output is None else self.output),
            "startDateTime": iso(self.started),
            "endDateTime": iso(self.ended),
            "outputS3BucketName": self.bucket,
            "outputS3KeyPrefix": self.key_prefix if self.bucket else "",
            "stepName": self.step_name if self.bucket else "",
            "standardOutput": self.stdout,
            "standardError": self.stderr,
        }


def document_status(results: Mapping[str, StepResult]) -> str:
    """The state of a document whose steps are through."""
    counts = Counter(result.status for result in results.values())
    for status in (SUCCESS_AND_REBOOT, FAILED, TIMED_OUT, CANCELLED):
        if counts[status]:
            return status
    return SUCCESS if counts[SUCCESS] + counts[SKIPPED] == len(results) else IN_PROGRESS


def result_content(
    agent: AgentInfo, last_step: str, results: Mapping[str, StepResult]
) -> dict[str, Any]:
    """The content of a reply: after a step with that step alone, at the end (no `last_step`) with the only one, if so."""
    shown = {last_step: results[last_step]} if last_step else dict(results) if len(results) <= 1 else {}
    return _content(
        agent,
        IN_PROGRESS if last_step else document_status(results),
        dict(Counter(result.status for result in results.values())),
        {step: result.runtime_status() for step, result in shown.items()},
    )


def status_content(agent: AgentInfo, status: str, trace: str = "") -> dict[str, Any]:
    """The content of a reply about the document alone."""
    return _content(agent, status, None, None, trace)


def _content(
    agent: AgentInfo,
    status: str,
    counts: dict[str, int] | None,
    steps: dict[str, Any] | None,
    trace: str = "",
) -> dict[str, Any]:
    return {
        "additionalInfo": {
            "agent": {
                "lang": "en-US",
                "name": "amazon-ssm-agent",
                "os": agent.os,
                "osver": "1",
                "ver": agent.version,
            },
            "dateTime": iso(time.time()),
            "runId": "",
            "runtimeStatusCounts": counts,
        },
        "documentStatus": status,
        "documentTraceOutput": trace,
        "runtimeStatus": steps,
    }


def iso(moment: float) -> str:
    """A time with milliseconds and Z; that of nothing is Go's."""
    if not moment:
        return _NO_TIME
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
