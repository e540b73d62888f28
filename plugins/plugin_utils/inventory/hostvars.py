# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host variables of a node: what is known about it, and how it is reached. No I/O, and no secret in either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...module_utils.accounts import DEFAULT_SESSION_NAME, Account, OptionError
from ...module_utils.nodes import FIELDS, Node

CONNECTION = "fleet.ssm.ssm"


def check_affixes(prefix: str, suffix: str) -> None:
    """:raises OptionError: if names would be as bare as `tags`, which Ansible reserves."""
    if not prefix and not suffix:
        raise OptionError(
            "'hostvars_prefix' and 'hostvars_suffix' cannot both be empty: variables named 'tags' or 'state' clash with Ansible's own. Set one of them."
        )


def variable_names(prefix: str, suffix: str) -> dict[str, str]:
    """The variables' names by those of a node's fields."""
    return {field: f"{prefix}{field}{suffix}" for field in FIELDS}


def host_variables(node: Node, names: Mapping[str, str]) -> dict[str, Any]:
    """All fields of a node under their variables' names; what is not known is null, so that templates can rely on it."""
    return {names[field]: value for field, value in node.items()}


def connection_variables(node: Node, account: Account) -> Mapping[str, Any]:
    """What `fleet.ssm.ssm` needs to reach the node with the same identity that found it, except for access keys.

    Keys stay where they are; see the plugin's notes.
    """
    variables: dict[str, Any] = {
        "ansible_connection": CONNECTION,
        "ansible_ssm_instance_id": node["instance_id"],
        "ansible_ssm_region": node["region"],
    }
    if account.base.profile:
        variables["ansible_ssm_profile"] = account.base.profile
    if account.role_arn:
        variables["ansible_ssm_role_arn"] = account.role_arn
    if account.external_id:
        variables["ansible_ssm_external_id"] = account.external_id
    if account.role_arn and account.role_session_name != DEFAULT_SESSION_NAME:
        variables["ansible_ssm_role_session_name"] = account.role_session_name
    if node["platform"] == "windows":
        variables["ansible_shell_type"] = "powershell"
    return variables
