# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a start-session message asks for: the session document with its parameters put in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

STANDARD_STREAM = "Standard_Stream"
INTERACTIVE = "InteractiveCommands"
NON_INTERACTIVE = "NonInteractiveCommands"
PORT = "Port"


class DocumentError(ValueError):
    """The document asks for what cannot be done."""


@dataclass(frozen=True)
class SessionOrder:
    """One session to start."""

    session_id: str
    session_type: str
    command: str = ""
    elevated: bool = False
    separate: bool = False
    stdout_prefix: str = ""
    stderr_prefix: str = ""
    run_as_enabled: bool = False
    run_as: str = ""
    kms_key: str = ""
    shell_profile: str = ""
    properties: Any = None

    @classmethod
    def parse(cls, payload: bytes) -> SessionOrder:
        """The order in the payload of `interactive_shell`. Raises DocumentError."""
        try:
            content = json.loads(json.loads(payload)["Content"])
            document = content["DocumentContent"]
            session_id = content["SessionId"]
        except (ValueError, KeyError, TypeError) as error:
            raise DocumentError(f"not a start-session message: {error!r}") from error
        given = content.get("Parameters") or {}
        declared = document.get("parameters") or {}
        values = {name: given.get(name, about.get("default", "")) for name, about in declared.items()}
        properties = _replace(document.get("properties"), values)
        inputs = _replace(document.get("inputs") or {}, values)
        session_type = document.get("sessionType", "")
        linux = properties.get("linux") or {} if isinstance(properties, dict) else {}
        if not isinstance(linux, dict):
            raise DocumentError(f"properties of the wrong form: {linux!r}")
        command = str(linux.get("commands") or "")
        return cls(
            session_id=session_id,
            session_type=session_type,
            command=command if session_type in (INTERACTIVE, NON_INTERACTIVE) else "",
            elevated=_truth(linux.get("runAsElevated")),
            separate=_truth(linux.get("separateOutputStream")),
            stdout_prefix=str(linux.get("stdOutSeparatorPrefix") or ""),
            stderr_prefix=str(linux.get("stdErrSeparatorPrefix") or ""),
            run_as_enabled=_truth(inputs.get("runAsEnabled")),
            run_as=(content.get("RunAsUser") or "").strip() or str(inputs.get("runAsDefaultUser") or ""),
            kms_key=str(inputs.get("kmsKeyId") or ""),
            shell_profile=str((inputs.get("shellProfile") or {}).get("linux") or ""),
            properties=properties,
        )


def _truth(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _replace(value: Any, parameters: dict[str, Any]) -> Any:
    """`value` with `{{ name }}` replaced in all its strings; a string that is nothing else takes the parameter's type."""
    if isinstance(value, dict):
        return {key: _replace(part, parameters) for key, part in value.items()}
    if isinstance(value, list):
        return [_replace(part, parameters) for part in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    whole = re.fullmatch(r"\{\{\s*([\w-]+)\s*\}\}", value)
    if whole and whole[1] in parameters:
        return _plain(parameters[whole[1]])
    return re.sub(
        r"\{\{\s*([\w-]+)\s*\}\}",
        lambda found: str(_plain(parameters[found[1]])) if found[1] in parameters else found[0],
        value,
    )


def _plain(value: Any) -> Any:
    """The API hands every parameter on as a list of strings."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
