# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups by `groups` and `keyed_groups` are those that Ansible's own Constructable makes, host by host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.template import Templar

from ansible_collections.fleet.ssm.plugins.inventory.managed_nodes import trust_as_template
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.constructing import Constructed

HOSTS: Mapping[str, Mapping[str, Any]] = {
    f"node-{number}": {
        "own_role": role,
        "own_zone": zone,
        "own_tags": tags,
        "own_groups": ["sg-1", ""][: number % 3],
    }
    for number, (role, zone, tags) in enumerate(
        (role, zone, tags)
        for tags in ({"Env": "prod", "Name": "x"}, {"Env": ""}, {"items": "1", "Cost Centre": "7"}, {})
        for role in ("web", "db", "", None)
        for zone in ("a", "b")
    )
}
GROUPS = {
    "web in a": "own_role == 'web' and own_zone == 'a'",
    "keyed_web": "own_role == 'db'",  # joined by an entry below as well
    "tagged": "own_tags",
    "broken": "own_tags.Absent.too_deep",
    "by_host": "inventory_hostname.endswith('1')",
}
KEYED = [
    {"key": "own_role", "prefix": "keyed"},
    {"key": "own_role", "prefix": "known", "default_value": "none"},
    {"key": "own_tags", "prefix": "tag", "trailing_separator": False},
    {"key": "own_groups", "prefix": "in", "default_value": "nothing"},
    {"key": "own_tags.Env", "prefix": "env", "parent_group": "envs"},
    {"key": "own_tags.items", "prefix": "method"},
    {"key": "own_zone ~ '-' ~ own_role", "parent_group": "{{ own_zone }}"},
    {"key": "own_zone | upper", "separator": ""},
    {"key": "own_zone if own_role else absent", "prefix": "if"},
]


class Options:
    """An inventory plugin as it is after its options were read."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = InventoryData()
        self.templar = Templar(DataLoader())
        self._vars: dict[str, Any] = {}

    def get_option(self, name: str) -> Any:
        return {"use_extra_vars": False, "leading_separator": True, "strict": False}[name]


class Plain(Options, BaseInventoryPlugin, Constructable):  # type: ignore[misc]
    NAME = "plain"


class Fast(Options, BaseInventoryPlugin, Constructed):  # type: ignore[misc]
    NAME = "fast"


def trusted(value: Any) -> Any:
    """As it comes from an inventory file."""
    if isinstance(value, dict):
        return {name: trusted(each) for name, each in value.items()}
    if isinstance(value, list):
        return [trusted(each) for each in value]
    return trust_as_template(value) if isinstance(value, str) else value


def populate(plugin: Any, fetch: bool) -> InventoryData:
    """:param fetch: whether keyed groups see the groups that a host has already."""
    inventory = plugin.inventory
    if isinstance(plugin, Fast):
        plugin.begin({"own_role", "own_zone", "own_tags", "own_groups"}, None, {})
    for name, variables in HOSTS.items():
        inventory.add_host(name)
        for key, value in variables.items():
            inventory.set_variable(name, key, value)
        facts = {**variables, "inventory_hostname": name}
        plugin._add_host_to_composed_groups(trusted(GROUPS), facts, name, strict=False, fetch_hostvars=False)
        keyed = [{"key": "group_names", "prefix": "has"}, *KEYED] if fetch else KEYED
        plugin._add_host_to_keyed_groups(trusted(keyed), facts, name, strict=False, fetch_hostvars=fetch)
    if isinstance(plugin, Fast):
        plugin.join_groups()
    inventory.reconcile_inventory()
    return inventory


def described(inventory: InventoryData) -> dict[str, Any]:
    """Groups with their children and members, hosts with their variables and the names of their groups."""
    groups = {
        name: (sorted(child.name for child in group.child_groups), [host.name for host in group.hosts], [host.name for host in group.get_hosts()])
        for name, group in inventory.groups.items()
    }
    return {"groups": groups, "hosts": {name: (host.get_vars(), {group.name for group in host.get_groups()}) for name, host in inventory.hosts.items()}}


@pytest.mark.parametrize("fetch", [False, True])
def test_groups_are_those_that_ansible_makes(fetch: bool) -> None:
    plain, fast = described(populate(Plain(), fetch)), described(populate(Fast(), fetch))
    assert len(plain["groups"]) > 20
    assert fast == plain
