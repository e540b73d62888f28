# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the estate as the source of an inventory's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.integration.inventory.conftest import BOTH, REGIONS, Inventory
from tests.lab import Lab


def table(inventory: Inventory, **estate: Any) -> Path:
    """A file with this table, in a folder beside that of the inventory file."""
    folder = inventory.controller.folder / "vars"
    folder.mkdir(exist_ok=True)
    path = folder / "estate.yml"
    path.write_text(yaml.safe_dump({"fleet_estate": estate, "of_other_things": "{{ not_defined }}"}, sort_keys=False), encoding="utf-8")
    return path


ESTATE = {"estate": "vars/estate.yml"}


def test_its_options_are_the_inventorys_unless_the_file_says_otherwise(fleet: Lab, inventory: Inventory) -> None:
    table(inventory, **BOTH, filters={"tag:Env": "{{ lookup('env', 'WANTED') }}"}, exclude_filters=[{"tag:Role": "edge"}])
    assert inventory.list(ESTATE, WANTED="prod").hosts.keys() == {"web-1", "db-1"}
    found = inventory.list({**ESTATE, "accounts": [{"name": "mine"}], "filters": {"tag:Role": "web"}, "exclude_filters": []})
    assert {name: host["ssm_account_name"] for name, host in found.hosts.items()} == {"web-1": "mine", "web-2": "mine"}


def test_another_table_is_another_inventory_for_the_cache(fleet: Lab, inventory: Inventory, tmp_path: Path) -> None:
    cached = {**ESTATE, "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    for region, name in zip(REGIONS, ("web-1", "web-2"), strict=True):
        table(inventory, regions=[region], filters={"tag:Role": "web"})
        assert inventory.list(cached).hosts.keys() == {name}
    fleet.reset_requests()
    assert inventory.list(cached).hosts.keys() == {"web-2"}
    assert fleet.requests().total == 0


def test_what_is_wrong_with_it_is_said(fleet: Lab, inventory: Inventory) -> None:
    path = table(inventory, regoins=REGIONS)
    assert f"'fleet_estate' of {path} has unknown keys: regoins. It takes: regions," in inventory.refuse(ESTATE)
    table(inventory, regions=REGIONS, accounts=[{"rolearn": "x"}])
    said = inventory.refuse(ESTATE)
    assert "accounts[1] has unknown keys: rolearn" in said and "vars/estate.yml" in said
    assert "relative to the inventory file" in inventory.refuse({"estate": "elsewhere.yml"})
    assert fleet.requests().total == 0
