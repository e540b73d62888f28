# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the past in one place, and their results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ..aws_errors import error_code
from ..nodes import timestamp
from ..problems import CollectError
from .caller import Caller
from .mark import Mark, words
from .outputs import Outputs
from .record import Record, invocation_record
from .status import snake

_PAGE = 50


@dataclass(frozen=True)
class Question:
    """Which commands are asked for; all that is given must match."""

    command_ids: Sequence[str] = ()
    run_id: str | None = None
    since: str | None = None  #: ISO 8601
    before: str | None = None
    document: str | None = None
    status: str | None = None  #: as the service spells it
    instance_id: str | None = None
    limit: int = 1000


def commands(caller: Caller, question: Question) -> Iterator[dict[str, Any]]:
    """Commands as ListCommands has them, newest first. :raises CollectError: if the place refuses."""
    named = {"DocumentName": question.document, "Status": question.status, "InvokedAfter": question.since, "InvokedBefore": question.before}
    parameters: dict[str, Any] = {"InstanceId": question.instance_id} if question.instance_id else {}
    filters = [{"key": key, "value": value} for key, value in named.items() if value]
    if filters:
        parameters["Filters"] = filters
    return islice(_matching(caller, question, parameters), question.limit)


def _matching(caller: Caller, question: Question, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    each: list[dict[str, Any]] = [{"CommandId": command_id} for command_id in question.command_ids]
    for wanted in each or [{"MaxResults": _PAGE}]:
        try:
            for page in caller.pages("ListCommands", "Commands", **wanted, **parameters):
                for entry in page:
                    mark = Mark.read(entry.get("Comment", ""))
                    if question.run_id is None or (mark is not None and mark.run_id == question.run_id):
                        yield entry
        except CollectError as error:
            # A command's id is asked for in every place, and known in one.
            if error_code(error) != "InvalidCommandId":
                raise


def results(caller: Caller, entry: Mapping[str, Any], question: Question, place: Mapping[str, Any], output: str) -> Iterator[Record]:
    """The results of a command's nodes, as they are now. :raises CollectError: if the place refuses."""
    parameters = {"InstanceId": question.instance_id} if question.instance_id else {}
    outputs, mark = Outputs(caller, full=output == "full"), Mark.read(entry.get("Comment", ""))
    attempt = mark.attempt if mark else 0
    pages = caller.pages(
        "ListCommandInvocations", "CommandInvocations", CommandId=entry["CommandId"], Details=True, MaxResults=_PAGE, **parameters
    )
    for page in pages:
        for invocation in page:
            record = invocation_record(invocation, place, attempt=attempt, output=output != "none")
            outputs.complete(record, invocation)
            yield record


def view(entry: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """A command for a module's result."""
    mark = Mark.read(entry.get("Comment", ""))
    return {
        "command_id": entry["CommandId"],
        **place,
        "run_id": mark.run_id if mark else None,
        "attempt": mark.attempt if mark else 0,
        "comment": words(entry.get("Comment", "")),
        "document": entry["DocumentName"],
        "document_version": entry.get("DocumentVersion"),
        "parameters": dict(entry.get("Parameters") or {}),
        "status": snake(entry.get("StatusDetails") or entry["Status"]),
        "requested_at": timestamp(entry.get("RequestedDateTime")),
        "expires_at": timestamp(entry.get("ExpiresAfter")),
        "total": int(entry.get("TargetCount") or 0),
        "done": int(entry.get("CompletedCount") or 0),
        "failed": int(entry.get("ErrorCount") or 0) + int(entry.get("DeliveryTimedOutCount") or 0),
        "instance_ids": list(entry.get("InstanceIds") or ()),
        "targets": [{"key": target["Key"], "values": list(target["Values"])} for target in entry.get("Targets") or ()],
        "max_concurrency": entry.get("MaxConcurrency"),
        "max_errors": entry.get("MaxErrors"),
        "s3_bucket": entry.get("OutputS3BucketName") or None,
        "s3_prefix": entry.get("OutputS3KeyPrefix") or None,
    }
