# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the estate: each error names the file, the key and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.doc_fragments.scope import ModuleDocFragment
from ansible_collections.fleet.ssm.plugins.inventory.managed_nodes import DOCUMENTATION
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.estate import read_estate

SHIPPED = Path(__file__).resolve().parents[3] / "playbooks" / "vars" / "estate.yml"


def test_only_what_is_set_is_given() -> None:
    table = {"regions": "all", "accounts": [{"profile": "hub"}], "organization": None, "filters": {"tag:Managed": "yes"}}
    assert read_estate({"fleet_estate": table, "other": 1}, "x") == {key: value for key, value in table.items() if value is not None}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (None, ("estate.yml", "no variable 'fleet_estate'")),
        ({"estate": {}}, ("estate.yml", "no variable 'fleet_estate'")),
        ({"fleet_estate": []}, ("fleet_estate", "mapping", "accounts")),
        ({"fleet_estate": {"regoins": []}}, ("regoins", "It takes: regions, accounts, organization")),
        ({"fleet_estate": {"profile": "hub"}}, ("profile", "It takes")),
        ({"fleet_estate": {"accounts": {"name": "hub"}}}, ("accounts", "list of mappings")),
        ({"fleet_estate": {"organization": ["ou-1"]}}, ("organization", "role_name")),
        ({"fleet_estate": {"exclude_filters": {"tag:A": "b"}}}, ("exclude_filters", "list of mappings")),
        ({"fleet_estate": {"external_id": True}}, ("external_id", "a string")),
    ],
)
def test_refused(variables: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as caught:
        read_estate(variables, "estate.yml")
    assert all(word in str(caught.value) for word in ("estate.yml", *words)), str(caught.value)


def test_its_keys_are_options_of_the_inventory() -> None:
    table = read_estate(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), "x")
    options = {**yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"], **yaml.safe_load(DOCUMENTATION)["options"]}
    assert table.keys() <= options.keys()
