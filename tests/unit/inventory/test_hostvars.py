# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host variables: no secret, no reserved name, and names that the connection plugin has."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.vars.reserved import get_reserved_names

from ansible_collections.fleet.ssm.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.fleet.ssm.plugins.inventory.managed_nodes import DOCUMENTATION
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError, parse_accounts
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.hostvars import check_affixes, connection_variables, host_variables, variable_names

NODE: dict[str, Any] = {**dict.fromkeys(FIELDS), "instance_id": "i-1", "region": "eu-central-1", "platform": "linux"}
ROLE = "arn:aws:iam::222222222222:role/FleetOperator"


def test_default_prefix_makes_no_reserved_name() -> None:
    prefix = yaml.safe_load(DOCUMENTATION)["options"]["hostvars_prefix"]["default"]
    assert not get_reserved_names() & host_variables(NODE, variable_names(prefix, "")).keys()


def test_bare_names_are_refused() -> None:
    assert "tags" in get_reserved_names() & host_variables(NODE, variable_names("", "")).keys()
    with pytest.raises(OptionError, match="hostvars_prefix"):
        check_affixes("", "")
    check_affixes("", "_x")


def test_keys_never_become_variables() -> None:
    (account,) = parse_accounts([{"access_key": "AKIA", "secret_key": "geheim", "session_token": "streng", "role_arn": ROLE, "external_id": "x"}], {})
    variables = connection_variables(NODE, account)
    assert variables == {
        "ansible_connection": "fleet.ssm.ssm",
        "ansible_ssm_instance_id": "i-1",
        "ansible_ssm_region": "eu-central-1",
        "ansible_ssm_role_arn": ROLE,
        "ansible_ssm_external_id": "x",
    }


def test_profile_and_session_name_of_the_account() -> None:
    (account,) = parse_accounts([{"profile": "hub", "role_arn": ROLE, "role_session_name": "me"}], {})
    variables = connection_variables(NODE, account)
    assert (variables["ansible_ssm_profile"], variables["ansible_ssm_role_session_name"]) == ("hub", "me")


def test_documented_variables_are_the_ones_that_exist() -> None:
    notes = " ".join(yaml.safe_load(DOCUMENTATION)["notes"])
    missing = [name for name in FIELDS if f"C({name})" not in notes]
    assert not missing


def test_connection_plugin_knows_the_variables() -> None:
    options = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    known = {variable["name"] for option in options.values() for variable in option.get("vars", ())}
    (account,) = parse_accounts([{"profile": "hub", "role_arn": ROLE, "external_id": "x", "role_session_name": "me"}], {})
    variables = connection_variables({**NODE, "platform": "windows"}, account).keys()
    assert variables - known == {"ansible_connection", "ansible_shell_type"}
