# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts of a task: what it says wins over the environment."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.doc_fragments.scope import ModuleDocFragment
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.organization import ORGANIZATION_OPTIONS
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, read_accounts

KEYS = {"access_key": "AKIA1", "secret_key": "s", "session_token": "t"}
ENVIRONMENT = {"AWS_PROFILE": "env", "AWS_ACCESS_KEY_ID": "AKIA1"}


def base(params: dict[str, Any], environ: dict[str, str]) -> tuple[str | None, str | None]:
    (account,) = read_accounts(params, environ).written
    return account.base.profile, account.base.access_key


def test_keys_of_the_environment_yield_to_a_profile_of_the_task_and_win_over_one_of_the_environment() -> None:
    assert base({"profile": "task", **KEYS}, ENVIRONMENT) == ("task", None)
    assert base({"profile": "env", **KEYS}, ENVIRONMENT) == (None, "AKIA1")
    assert base({"profile": "env", **KEYS}, {"AWS_PROFILE": "env"}) == (None, "AKIA1")
    with pytest.raises(OptionError, match="the task has both 'profile' and 'access_key'"):
        base({"profile": "task", **KEYS}, {})


def test_entries_have_what_a_module_gives_them() -> None:
    entry = {"name": "two", "role_arn": "arn:aws:iam::222222222222:role/X", "assume_role_arn": None, "profile": None, "regions": None}
    (account,) = read_accounts({"accounts": [entry], "regions": ["eu-central-1"], "external_id": "x", **KEYS}, {}).written
    assert account.label == "account two" and account.regions == ("eu-central-1",) and account.external_id == "x" and account.base.access_key == "AKIA1"


def test_an_external_id_without_a_role_is_refused() -> None:
    with pytest.raises(OptionError, match="add 'accounts' with 'role_arn'"):
        read_accounts({"external_id": "x"}, {})


def test_options_are_those_of_the_documentation() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    spec = argument_spec()
    assert documented.keys() == spec.keys()
    for option in ("accounts", "organization"):
        assert documented[option]["suboptions"].keys() == spec[option]["options"].keys()
    assert documented["organization"]["suboptions"].keys() == set(ORGANIZATION_OPTIONS)


def test_an_external_id_is_for_the_roles_of_an_organization_too() -> None:
    accounts = read_accounts({"organization": {"role_name": "X", "units": [], "exclude": []}, "external_id": "x", "regions": ["all"], **KEYS}, {})
    assert not accounts.written and accounts.organization
    assert (accounts.organization.external_id, accounts.organization.caller.external_id, accounts.organization.caller.regions) == ("x", None, ("all",))
