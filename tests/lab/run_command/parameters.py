# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of a Command document: those that SendCommand gives, checked, in the form in which agents get them. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import AwsError


def check_parameters(content: Mapping[str, Any], given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The given ones with their types; defaults are the agent's affair. Raises `AwsError` InvalidParameters."""
    declared: Mapping[str, Mapping[str, Any]] = content.get("parameters") or {}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise _invalid(f"{', '.join(unknown)} not declared in the document")
    missing = sorted(name for name, entry in declared.items() if "default" not in entry and name not in given)
    if missing:
        raise _invalid(f"{', '.join(missing)} required and not given")
    return {name: _typed(name, declared[name], values) for name, values in given.items()}


def _typed(name: str, declaration: Mapping[str, Any], values: Sequence[str]) -> Any:
    kind = declaration["type"]
    for value in values:
        _check_value(name, declaration, value)
    if kind in ("StringList", "MapList"):
        least, most = declaration.get("minItems"), declaration.get("maxItems")
        if (least is not None and len(values) < int(least)) or (most is not None and len(values) > int(most)):
            raise _invalid(f"{name} must have {least or 0} to {most or 'any number of'} items")
        return list(values) if kind == "StringList" else [_parsed(name, value, dict) for value in values]
    if len(values) != 1:
        raise _invalid(f"{name} is a {kind}: it takes one value")
    (value,) = values
    if kind == "StringMap":
        return _parsed(name, value, dict)
    if kind == "Boolean":
        if value.lower() not in ("true", "false"):
            raise _invalid(f"{name} is a Boolean")
        return value.lower() == "true"
    if kind == "Integer":
        return _parsed(name, value, int)
    return value


def _check_value(name: str, declaration: Mapping[str, Any], value: str) -> None:
    pattern, choices = declaration.get("allowedPattern"), declaration.get("allowedValues")
    if pattern and re.fullmatch(pattern, value) is None:
        raise _invalid(f"{name} does not match {pattern}")
    if choices and value not in [choice if isinstance(choice, str) else json.dumps(choice) for choice in choices]:
        raise _invalid(f"{name} must be one of {', '.join(map(str, choices))}")
    least, most = declaration.get("minChars"), declaration.get("maxChars")
    if (least is not None and len(value) < int(least)) or (most is not None and len(value) > int(most)):
        raise _invalid(f"{name} must have {least or 0} to {most or 'any number of'} characters")


def _parsed(name: str, value: str, kind: type) -> Any:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, kind) or isinstance(found, bool):
        raise _invalid(f"{name} is no JSON {'object' if kind is dict else 'number'}")
    return found


def _invalid(text: str) -> AwsError:
    return AwsError("InvalidParameters", f"Parameters are not valid: {text}.")
