# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of a document put in the place of `{{ name }}`.

A string that is nothing but one placeholder becomes the parameter's value, a list for instance; within other text a
value that is no string is written as JSON. Values are not looked through again. `$$` in a value becomes `$` there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"[a-zA-Z0-9]+")
_PLACEHOLDER = re.compile(r"\{\{\s*([a-zA-Z0-9]+)\s*\}\}")


def parameter_values(given: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """What was given under valid names, and the defaults (None if there is none) of what was not."""
    values = {name: value for name, value in given.items() if _NAME.fullmatch(name)}
    for name, about in declared.items():
        if name not in values:
            values[name] = about.get("default") if isinstance(about, Mapping) else None
    return values


def replace(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` (JSON) with all placeholders of known parameters replaced, in strings however deep; keys stay."""
    if isinstance(value, Mapping):
        return {key: replace(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [replace(part, values) for part in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    if whole and whole[1] in values:
        return values[whole[1]]
    return _PLACEHOLDER.sub(lambda found: _text(values[found[1]]) if found[1] in values else found[0], value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for character in "<>&":  # Go's JSON is safe to stand in HTML
            value = value.replace(character, f"\\u{ord(character):04x}")
    return str(value).replace("$$", "$")
