# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""aws:runDocument: the steps of another document, from the command's downloads or from Systems Manager."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..identity import stored_credentials
from .order import InvalidDocumentError, Step, parse_document
from .result import FAILED, merge_status
from .runner import Plugin, Registry, Surroundings, run_steps
from .script import downloads, step_folder
from .streams import StepOutput

_NOTHING = "AWS-Noop"
_MAX_DEPTH = 3


class _InputError(ValueError):
    pass


def document_plugin(registry: Registry) -> Plugin:
    """The plugin; its steps find theirs in `registry`."""

    def run(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
        depth = around.depth + 1
        if depth > _MAX_DEPTH:
            output.fail(
                "Maximum depth for document execution exceeded. "
                f"Maximum depth permitted - {_MAX_DEPTH} and current depth - {depth}"
            )
            return
        try:
            kind, path, given = _inputs(properties)
            if path == _NOTHING:
                output.succeed()
                return
            text = _fetch(around, path) if kind == "SSMDocument" else _read(around, step, path)
            steps = parse_document(_decode(text), given)
        except _InputError as error:
            output.fail(str(error))
            return
        except (OSError, InvalidDocumentError, ValueError) as error:
            output.fail(f"There was an error while preparing documents - {error}")
            return
        # Its outputs are part of this step's: nothing of its own goes to S3, and nothing cancels it.
        inner = dataclasses.replace(
            around,
            folder=step_folder(around, step),
            outputs=step_folder(around, step) / step.step_id,
            bucket="",
            upload=None,
            depth=depth,
            cancelled=lambda: False,
            wake=-1,
        )
        for result in run_steps(inner, registry, steps, {}):
            output.write("stdout", result.stdout.encode())
            output.write("stderr", result.stderr.encode())
            if result.error:
                output.fail(result.error)
            output.status = merge_status(output.status, result.status)
        if output.status == FAILED:
            output.code = output.code or 1

    return run


def _inputs(properties: Any) -> tuple[str, str, dict[str, Any]]:
    given = properties if isinstance(properties, Mapping) else {}
    kind, path = given.get("documentType") or "", given.get("documentPath") or ""
    if not kind:
        raise _InputError("invalid input: Document Type must be specified to either by SSMDocument or LocalPath.")
    if kind not in ("SSMDocument", "LocalPath"):
        raise _InputError("invalid input: Document type specified in invalid")
    if not path:
        raise _InputError("invalid input: Document Path must be provided")
    parameters = given.get("documentParameters") or {}
    if isinstance(parameters, str):
        parameters = _decode(parameters)
    if not isinstance(parameters, Mapping):
        raise _InputError(
            "There was an error while preparing documents - parameter type specified to run document is unknown"
        )
    return kind, path, {name: value for name, value in parameters.items() if value is not None}


def _read(around: Surroundings, step: Step, path: str) -> str:
    place = Path(path) if os.path.isabs(path) else downloads(around, step) / path
    text = place.read_text() if place.is_file() else ""
    if not text:
        raise ValueError("File is empty!")
    return text


def _fetch(around: Surroundings, name: str) -> str:
    """A document of Systems Manager, its version after a colon."""
    _base, _colon, version = name.rpartition("/")[2].partition(":")
    arguments = {"Name": name.removesuffix(f":{version}") if version else name}
    if version:
        arguments["DocumentVersion"] = version
    answer = around.service.call("AmazonSSM.GetDocument", arguments, stored_credentials(around.service))
    return str(answer["Content"])


def _decode(text: str) -> Any:
    """JSON; the real agent takes YAML too, for which the standard library has nothing."""
    return json.loads(text)
