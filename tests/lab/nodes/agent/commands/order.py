# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job asks for: a document with its parameters put in, or the end of another one."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .parameters import parameter_values, replace

SEND_COMMAND = "aws.ssm.sendCommand"
CANCEL_COMMAND = "aws.ssm.cancelCommand"

_V1 = ("1.0", "1.2")
_V2 = ("2.0", "2.0.1", "2.0.2", "2.0.3", "2.2")


class InvalidDocumentError(ValueError):
    """The agent does not understand the document; the text is its own."""


@dataclass(frozen=True)
class Step:
    """One step: a plugin with its properties. For schema 1.x `step_id` is the plugin's name."""

    plugin: str
    step_id: str
    properties: Any
    conditions: dict[str, list[tuple[str, str]]]  #: operator → arguments, each as written and with parameters put in
    cross_platform: bool  #: schema 2.2: conditions are looked at, unsupported plugins skipped


@dataclass(frozen=True)
class CommandOrder:
    """One command for this node."""

    job_id: str
    command_id: str
    created: str  #: ISO 8601
    steps: tuple[Step, ...]
    bucket: str = ""
    key_prefix: str = ""  #: up to and with the node's id
    upstream: str = "mgs"  #: where it came from and its replies go: mgs (control channel) or mds (ec2messages)

    @property
    def topic(self) -> str:
        return SEND_COMMAND


@dataclass(frozen=True)
class CancelOrder:
    """The end of a command is wanted."""

    job_id: str
    cancelled_job_id: str

    @property
    def topic(self) -> str:
        return CANCEL_COMMAND


def parse_order(
    topic: str, job_id: str, content: str, node_id: str, created: str, upstream: str
) -> CommandOrder | CancelOrder:
    """The order in a message. Raises InvalidDocumentError."""
    if topic.startswith(CANCEL_COMMAND):
        return CancelOrder(job_id, _object(content).get("CancelMessageId") or "")
    if not topic.startswith(SEND_COMMAND):
        raise InvalidDocumentError(f"unexpected topic name {topic}")
    given = _object(content)
    steps = parse_document(given.get("DocumentContent"), given.get("Parameters") or {})
    return CommandOrder(
        job_id=job_id,
        command_id=command_of(job_id),
        created=created,
        steps=steps,
        bucket=given.get("OutputS3BucketName") or "",
        key_prefix=join_key(given.get("OutputS3KeyPrefix") or "", given.get("CommandId") or "", node_id),
        upstream=upstream,
    )


def parse_document(document: Any, given: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a document (JSON, decoded) with parameters put in. Raises InvalidDocumentError."""
    if not isinstance(document, Mapping):
        raise InvalidDocumentError("encountered error while parsing input - internal error no document")
    version = document.get("schemaVersion", "")
    values = parameter_values(given, document.get("parameters") or {})
    if version in _V1:
        plugins = document.get("runtimeConfig") or {}
        if not plugins:
            raise InvalidDocumentError("Unsupported schema format")
        return tuple(
            Step(name, name, replace(about.get("properties"), values), {}, cross_platform=False)
            for name, about in plugins.items()
        )
    if version in _V2:
        steps = document.get("mainSteps") or []
        if not steps:
            raise InvalidDocumentError("Unsupported schema format")
        return tuple(_step(about, values, cross_platform=version == "2.2") for about in steps)
    raise InvalidDocumentError(
        f"Document with schema version {version} is not supported by this version of ssm agent, please update to latest version"
    )


def command_of(job_id: str) -> str:
    """The command in `aws.ssm.COMMAND.NODE`; anything else is its own."""
    parts = job_id.split(".")
    return parts[-2] if job_id.startswith("aws.ssm.") and len(parts) > 3 else job_id


def join_key(*parts: str) -> str:
    """An S3 key of its parts, without colons in any but the first, and normalised like a path: the agent does so."""
    first, *others = parts
    given = [part for part in (first, *(part.replace(":", "") for part in others)) if part]
    return posixpath.normpath("/".join(given)) if given else ""


def _step(about: Mapping[str, Any], values: Mapping[str, Any], *, cross_platform: bool) -> Step:
    for number in ("timeoutSeconds", "maxAttempts"):
        if not isinstance(about.get(number, 0), int):  # decoded into an integer, or not at all
            raise InvalidDocumentError(f"encountered error while parsing input - internal error {number} is no number")
    conditions = {
        operator: [(argument, str(replace(argument, values))) for argument in arguments]
        for operator, arguments in (about.get("precondition") or {}).items()
    }
    inputs = replace(about.get("inputs"), values)
    return Step(about.get("action", ""), about.get("name", ""), inputs, conditions, cross_platform)


def _object(content: str) -> dict[str, Any]:
    try:
        given = json.loads(content)
    except ValueError as error:
        raise InvalidDocumentError(f"encountered error while parsing input - internal error {error}") from error
    if not isinstance(given, dict):
        raise InvalidDocumentError("encountered error while parsing input - internal error no object")
    return given
