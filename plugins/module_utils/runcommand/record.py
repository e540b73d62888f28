# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's invocation gave, as a plain mapping: made of an entry of ListCommandInvocations. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..nodes import timestamp
from .status import is_final, snake

#: Characters of output that the listing gives at most.
BRIEF = 2_500
#: Characters of stdout and of stderr that GetCommandInvocation gives at most.
API_STDOUT, API_STDERR = 24_000, 8_000
#: What the agent puts where it has cut a stream: for several steps it does so long before the API would (from its source).
_CUT = ("--output truncated--", "---Output truncated---", "---Error truncated----")
#: What the agent puts between the streams of a reply.
SEPARATOR = "\n----------ERROR-------\n"

Record = dict[str, Any]


def invocation_record(entry: Mapping[str, Any], place: Mapping[str, Any], *, attempt: int = 0, output: bool = True) -> Record:
    """A node's result.

    With several steps, status, rc and URIs are those of the first step that did not succeed, or of the last one; output is that of all steps.

    :param entry: with details.
    :param place: account_id, account_name and region.
    """
    steps = list(entry.get("CommandPlugins") or ())
    telling = next((step for step in steps if step.get("StatusDetails") not in ("Success", None)), steps[-1] if steps else {})
    status = snake(entry.get("StatusDetails") or entry["Status"])
    started = [step["ResponseStartDateTime"] for step in steps if step.get("ResponseStartDateTime")]
    ended = [step["ResponseFinishDateTime"] for step in steps if step.get("ResponseFinishDateTime")]
    record: Record = {
        "instance_id": entry["InstanceId"],
        **place,
        "command_id": entry["CommandId"],
        "status": status,
        "rc": _rc(telling),
        "attempt": attempt,
        "requested_at": timestamp(entry.get("RequestedDateTime")),
        "started_at": timestamp(started[0]) if started else None,
        "ended_at": timestamp(ended[-1]) if ended else None,
        "stdout_uri": telling.get("StandardOutputUrl") or entry.get("StandardOutputUrl") or None,
        "stderr_uri": telling.get("StandardErrorUrl") or entry.get("StandardErrorUrl") or None,
        "steps": [_step_record(step, ended=is_final(status)) for step in steps],
    }
    if output:
        texts = [str(step.get("Output") or "") for step in steps]
        parts = [split(text) for text in texts]
        record["stdout"] = "".join(stdout for stdout, _stderr in parts)
        record["stderr"] = "".join(stderr for _stdout, stderr in parts)
        record["output_truncated"] = any(is_cut(text, BRIEF) for text in texts)
    return record


def _step_record(step: Mapping[str, Any], *, ended: bool) -> Record:
    """A step's result, with what is known of its objects: an empty stream has none.

    :param ended: whether the whole command has. Before that, nothing is known of a stream whose text is empty.
    """
    text = str(step.get("Output") or "")
    stdout, _stderr = split(text)
    shown = ended and len(text) < BRIEF  # what the agent cuts itself has the beginning of each stream; what the API cuts need not (agent's source)
    return {
        "name": step.get("Name"),
        "status": snake(step.get("StatusDetails") or step.get("Status") or ""),
        "rc": _rc(step),
        "stdout_uri": step.get("StandardOutputUrl") or None,
        "stderr_uri": step.get("StandardErrorUrl") or None,
        "stdout_empty": False if stdout else shown or None,
        "stderr_empty": False if SEPARATOR in text else shown or None,
    }


def _rc(step: Mapping[str, Any]) -> int | None:
    code: int | None = step.get("ResponseCode")
    return None if code == -1 else code


def is_cut(text: str, limit: int) -> bool:
    """Whether an output of the API lacks its end. :param limit: the most characters that the API gives of it."""
    return len(text) >= limit or any(stream.endswith(_CUT) for stream in split(text))


def split(output: str) -> tuple[str, str]:
    """A step's stdout and stderr, as far as the listing has them."""
    stdout, _separator, stderr = output.partition(SEPARATOR)
    return stdout, stderr


def refused_record(node_id: str, place: Mapping[str, Any], status: str, message: str, *, attempt: int = 0) -> Record:
    """A node to which nothing was sent, with the reason."""
    nothing = ("command_id", "rc", "requested_at", "started_at", "ended_at", "stdout_uri", "stderr_uri")
    return {"instance_id": node_id, **place, "status": status, "attempt": attempt, "msg": message, "steps": [], **dict.fromkeys(nothing)}


def steps_of(entry: Mapping[str, Any]) -> list[str]:
    """The names of a command's steps, by which GetCommandInvocation is asked."""
    return [str(step["Name"]) for step in entry.get("CommandPlugins") or ()]
