# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be run: the options of a task, checked, as parameters of SendCommand. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..accounts import OptionError
from .mark import Mark, room

SHELL = {"linux": "AWS-RunShellScript", "windows": "AWS-RunPowerShellScript"}
#: Nodes in one SendCommand, and values in one of its targets.
NODES_A_COMMAND = 50
VALUES_A_TARGET = 50
TARGETS_A_COMMAND = 5
DELIVERY = range(30, 2_592_001)
EXECUTION = range(5, 172_801)
_RATE = re.compile(r"[1-9][0-9]{0,6}|[1-9][0-9]?%|100%")
_ERRORS = re.compile(r"[0-9]{1,7}|[0-9]{1,2}%|100%")


@dataclass(frozen=True)
class Request:
    """Everything that all SendCommand calls of a run have in common, but for nodes and mark."""

    run_id: str
    document: str
    comment: str = ""
    document_version: str | None = None
    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    delivery_timeout: int | None = None
    max_concurrency: str = "50"
    max_errors: str = "100%"
    more: Mapping[str, Any] = field(default_factory=dict)  #: outputs and notification, as SendCommand has them

    def in_place(self, account_id: Callable[[], str], region: str) -> Request:
        """With ``<account>`` and ``<region>`` in the folder of outputs filled in. :param account_id: asked only if it is needed."""
        folder = str(self.more.get("OutputS3KeyPrefix", ""))
        if "<" not in folder:
            return self
        if "<account>" in folder:
            folder = folder.replace("<account>", account_id())
        return replace(self, more={**self.more, "OutputS3KeyPrefix": folder.replace("<region>", region)})

    def texts(self) -> list[str]:
        """What it does, as text for the mark: the document and its parameters as they are given, since the service may show others."""
        return [self.document, self.document_version or "", json.dumps({name: list(values) for name, values in self.parameters.items()}, sort_keys=True)]

    def to_api(self, mark: Mark, targets: Mapping[str, Any], max_concurrency: str, max_errors: str) -> dict[str, Any]:
        """The parameters of one call. :param targets: ``InstanceIds`` or ``Targets``. Limits are those of this command."""
        optional = {"DocumentVersion": self.document_version, "TimeoutSeconds": self.delivery_timeout}
        return {
            "DocumentName": self.document,
            "Parameters": {name: list(values) for name, values in self.parameters.items()},
            "Comment": mark.comment(self.comment),
            "MaxConcurrency": max_concurrency,
            "MaxErrors": max_errors,
            **{name: value for name, value in optional.items() if value is not None},
            **self.more,
            **targets,
        }


@dataclass(frozen=True)
class Window:
    """How limits that the service knows for one command hold for all of a place's commands."""

    max_concurrency: str  #: of each command
    nodes: int | None  #: at once in all commands; None: any number
    serial: bool  #: one command after the other, since each is told how many errors the earlier ones have left

    @classmethod
    def of(cls, max_concurrency: str, max_errors: str, nodes: int) -> Window:
        """:param nodes: how many there are by id. A number that is not less is no limit, and of commands at once a percentage is the same as of all."""
        serial = not max_errors.endswith("%") and int(max_errors) < nodes
        at_once = max(1, share(max_concurrency, nodes))
        if at_once >= nodes or (max_concurrency.endswith("%") and not serial):
            return cls(max_concurrency, None, serial)
        return cls(str(min(at_once, NODES_A_COMMAND)), at_once, serial)

    def admits(self, nodes: int, beside: Sequence[int]) -> bool:
        """Whether a command for so many nodes may be sent. :param beside: for how many nodes each command is that is open."""
        if self.serial and beside:
            return False
        return self.nodes is None or not beside or sum(min(each, self.nodes) for each in (nodes, *beside)) <= self.nodes


def share(limit: str, nodes: int) -> int:
    """What a number, or a percentage of all nodes, comes to."""
    return nodes * int(limit[:-1]) // 100 if limit.endswith("%") else int(limit)


def read_request(params: Mapping[str, Any], run_id: str) -> Request:
    """Of a module's parameters. :raises OptionError: that names the option, its limits, and the remedy."""
    comment = params.get("comment") or ""
    if len(comment) > room(run_id):
        raise OptionError(f"'comment' has {len(comment)} characters, and {room(run_id)} are left beside the mark of the run: shorten it, or 'run_id'.")
    _check_rates(params)
    delivery = params.get("delivery_timeout")
    if delivery is not None and delivery not in DELIVERY:
        raise OptionError(f"'delivery_timeout' must be {DELIVERY.start} to {DELIVERY.stop - 1} seconds, not {delivery}.")
    return Request(
        run_id=run_id,
        document=_document(params),
        comment=comment,
        document_version=params.get("document_version"),
        parameters=_parameters(params),
        delivery_timeout=delivery,
        max_concurrency=params["max_concurrency"],
        max_errors=params["max_errors"],
        more={**_output(params), **_notification(params)},
    )


def _document(params: Mapping[str, Any]) -> str:
    document = params.get("document")
    if document:
        return str(document)
    if not params.get("commands"):
        raise OptionError("Nothing to run: set 'commands', or 'document' with its 'parameters'.")
    return SHELL[params["platform"]]


def _parameters(params: Mapping[str, Any]) -> dict[str, list[str]]:
    found = {str(name): _strings(value, f"parameters.{name}") for name, value in (params.get("parameters") or {}).items()}
    execution = params.get("execution_timeout")
    if execution is not None and execution not in EXECUTION:
        raise OptionError(
            f"'execution_timeout' must be {EXECUTION.start} to {EXECUTION.stop - 1} seconds, not {execution}: the agent would silently take 3,600."
        )
    own = {
        "commands": list(params.get("commands") or ()),
        "workingDirectory": [params["working_directory"]] if params.get("working_directory") else [],
        "executionTimeout": [str(execution)] if execution is not None else [],
    }
    for name, values in own.items():
        if values and name in found:
            raise OptionError(f"'parameters' has {name}, which is set by an option of its own: keep one of them.")
        if values:
            found[name] = values
    return found


def _strings(value: Any, where: str) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, (str, int, float)) for item in values):
        raise OptionError(f"'{where}' must be a string or a list of strings, not {value!r}. Write a mapping as JSON text.")
    return [str(item).lower() if isinstance(item, bool) else str(item) for item in values]


def _check_rates(params: Mapping[str, Any]) -> None:
    if not _RATE.fullmatch(params["max_concurrency"]):
        raise OptionError(f"'max_concurrency' must be a number of nodes from 1, or 1% to 100%, not {params['max_concurrency']!r}.")
    if not _ERRORS.fullmatch(params["max_errors"]):
        raise OptionError(f"'max_errors' must be a number of nodes from 0, or 0% to 100%, not {params['max_errors']!r}.")


def _output(params: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if params.get("s3_prefix") and not params.get("s3_bucket"):
        raise OptionError("'s3_prefix' needs 's3_bucket'.")
    if len(params.get("s3_prefix") or "") > 500:
        raise OptionError("'s3_prefix' may have 500 characters.")
    for name, key in (("s3_bucket", "OutputS3BucketName"), ("s3_prefix", "OutputS3KeyPrefix"), ("s3_region", "OutputS3Region")):
        if params.get(name):
            found[key] = params[name]
    if params.get("cloudwatch_output") or params.get("cloudwatch_log_group"):
        group = {"CloudWatchLogGroupName": params["cloudwatch_log_group"]} if params.get("cloudwatch_log_group") else {}
        found["CloudWatchOutputConfig"] = {"CloudWatchOutputEnabled": True, **group}
    return found


def _notification(params: Mapping[str, Any]) -> dict[str, Any]:
    given = params.get("notification")
    if not given:
        return {}
    return {
        "ServiceRoleArn": given["role_arn"],
        "NotificationConfig": {
            "NotificationArn": given["topic_arn"],
            "NotificationEvents": [_EVENTS[event] for event in given["events"]],
            "NotificationType": given["type"].capitalize(),
        },
    }


_EVENTS = {
    "all": "All", "in_progress": "InProgress", "success": "Success", "timed_out": "TimedOut", "cancelled": "Cancelled", "failed": "Failed",
}  # fmt: skip
EVENTS = tuple(_EVENTS)
