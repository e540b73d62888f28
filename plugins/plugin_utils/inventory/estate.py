# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the estate: one variable in a file of variables, which inventory, playbooks and roles share. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...module_utils.accounts import OptionError

VARIABLE = "fleet_estate"
#: The options that it may hold, and what each is.
_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "regions": ((list, str), "a list of regions, or all"),
    "accounts": (list, "a list of mappings"),
    "organization": (Mapping, "a mapping with role_name"),
    "external_id": ((str, int), "a string"),
    "role_session_name": (str, "a string"),
    "filters": (Mapping, "a mapping of filters to values"),
    "exclude_filters": (list, "a list of mappings"),
}


def read_estate(variables: Any, file: str) -> dict[str, Any]:
    """The options of the table that are set, by name.

    :param variables: what the file holds.
    :param file: its path, for messages.
    :raises OptionError: if it has no table, or one that cannot be meant so.
    """
    if not isinstance(variables, Mapping) or VARIABLE not in variables:
        raise OptionError(f"{file}, the file of 'estate', has no variable '{VARIABLE}'. Write the table of accounts and regions there as a mapping.")
    table = variables[VARIABLE]
    if not isinstance(table, Mapping):
        raise OptionError(f"'{VARIABLE}' of {file} must be a mapping with keys such as 'accounts' and 'regions', not {table!r}.")
    unknown = sorted(str(key) for key in table if key not in _KINDS)
    if unknown:
        raise OptionError(f"'{VARIABLE}' of {file} has unknown keys: {', '.join(unknown)}. It takes: {', '.join(_KINDS)}.")
    found = {}
    for name, value in table.items():
        if value is None:
            continue
        kind, words = _KINDS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise OptionError(f"'{name}' of '{VARIABLE}' in {file} must be {words}, not {value!r}.")
        found[name] = value
    return found
