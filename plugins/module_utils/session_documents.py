# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own session documents, for the module that installs them. No I/O.

The same contents are JSON files in ``plugin_utils/mux/session_documents``, for those who create them with AWS's own tools;
a test keeps them equal. A module cannot read files of the collection, as Ansible sends it code alone.
"""

from __future__ import annotations

from typing import Any

#: Documents by the power that they give.
SETS = {"session": ("FleetSSM-Input", "FleetSSM-Output"), "root": ("FleetSSM-RootInput", "FleetSSM-RootOutput")}
_PLATFORMS = ("linux", "macos")


def own_documents(*sets: str) -> dict[str, dict[str, Any]]:
    """Contents by name, of the sets that are named (keys of `SETS`)."""
    found = {}
    for each in sets:
        root = each == "root"
        who = "as root" if root else "as the session's user"
        runner, output = SETS[each]
        found[runner] = _document(f"fleet.ssm: the runner of a node, {who}", "InteractiveCommands", root)
        found[output] = _document(f"fleet.ssm: the fast way for the runner's output, {who}", "NonInteractiveCommands", root)
    return found


def _document(description: str, session_type: str, root: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {"commands": "{{ command }}", "runAsElevated": root}
    if session_type == "NonInteractiveCommands":
        properties |= {"separateOutputStream": True, "stdOutSeparatorPrefix": "", "stdErrSeparatorPrefix": ""}
    return {
        "schemaVersion": "1.0",
        "description": description,
        "sessionType": session_type,
        "parameters": {"command": {"type": "String", "description": "The loader that the fleet.ssm collection starts."}},
        "properties": {platform: dict(properties) for platform in _PLATFORMS},
    }
