# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which actions a role's policies allow, read rather than simulated: for callers who may not simulate. No I/O.

It is the simpler judge: permissions boundaries and service control policies are not looked at, an Allow counts whatever its resource and
conditions, and a Deny only without both. So what it calls missing is missing, and it may overlook something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def missing_actions(documents: Iterable[Mapping[str, Any]], actions: Iterable[str]) -> frozenset[str]:
    """The actions that none of the policies allows, or one denies."""
    statements = [statement for document in documents for statement in _listed(document.get("Statement", []))]
    allowing = [each for each in statements if each.get("Effect") == "Allow"]
    denying = [each for each in statements if each.get("Effect") == "Deny" and not each.get("Condition") and "*" in _listed(each.get("Resource", "*"))]
    return frozenset(action for action in actions if not _any_names(allowing, action) or _any_names(denying, action))


def _any_names(statements: Iterable[Mapping[str, Any]], action: str) -> bool:
    return any(_names(statement, action) for statement in statements)


def _names(statement: Mapping[str, Any], action: str) -> bool:
    if "NotAction" in statement:
        return not _matches(statement["NotAction"], action)
    return _matches(statement.get("Action", []), action)


def _matches(patterns: Any, action: str) -> bool:
    return any(fnmatchcase(action.lower(), str(pattern).lower()) for pattern in _listed(patterns))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
