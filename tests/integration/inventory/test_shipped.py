# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every inventory that users are told to start from is one: of documented options, and with nodes in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import inventory_loader

from ansible_collections.fleet.ssm.plugins.inventory.managed_nodes import EXAMPLES
from tests.integration.controller import REPOSITORY
from tests.integration.inventory.conftest import OTHER_ACCOUNT, Inventory
from tests.lab import Lab

PLUGIN = "fleet.ssm.managed_nodes"
FOLDER = REPOSITORY / "playbooks" / "inventories"
SHIPPED = sorted(FOLDER.iterdir())


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and the options of each inventory file in folder, plugin and documentation."""
    for path in SHIPPED:
        yield path.name, yaml.safe_load(path.read_text(encoding="utf-8"))
    for number, options in enumerate(yaml.safe_load_all(EXAMPLES), 1):
        yield f"example-{number}", options
    for page in sorted((REPOSITORY / "docs").glob("*.md")):
        for number, block in enumerate(re.findall(r"^```yaml\n(plugin: fleet\.ssm\.managed_nodes\n.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S), 1):
            yield f"{page.name}-{number}", yaml.safe_load(block)


DOCUMENTS = dict(documents())


def test_there_are_some_of_each_kind() -> None:
    assert len(SHIPPED) >= 3 and len(DOCUMENTS) >= len(SHIPPED) + 4 + 2


@pytest.fixture(scope="module")
def documented() -> set[str]:
    """The names of all options, aliases included."""
    options = inventory_loader.get(PLUGIN).option_definitions
    return {spelling for option, definition in options.items() for spelling in (option, *definition.get("aliases", ()))}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_are_documented(documented: set[str], name: str) -> None:
    """Ansible ignores others in silence."""
    assert DOCUMENTS[name].keys() <= documented


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_file_is_taken(path: Path) -> None:
    assert inventory_loader.get(PLUGIN).verify_file(str(path))


@pytest.mark.parametrize("name", [name if name.endswith(".yml") else pytest.param(name, marks=pytest.mark.slow) for name in DOCUMENTS])
def test_it_is_an_inventory(fleet: Lab, inventory: Inventory, tmp_path: Path, name: str) -> None:
    config = tmp_path / "config"
    config.write_text("")
    for profile, account in (("default", None), ("profile hub", None), ("profile laboratory", OTHER_ACCOUNT)):
        key = fleet.env(account=account)
        with config.open("a") as file:
            file.write(
                f"[{profile}]\naws_access_key_id={key['AWS_ACCESS_KEY_ID']}\naws_secret_access_key={key['AWS_SECRET_ACCESS_KEY']}\nregion=eu-central-1\n"
            )
    options = dict(DOCUMENTS[name])
    if "estate" in options:  # relative to its own folder, or to that of the shipped ones
        options["estate"] = str(FOLDER / options["estate"])
    done = inventory.run(options, AWS_CONFIG_FILE=str(config))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["_meta"]["hostvars"], done.stderr
    # The lab has two accounts; those of the examples that it has not may not be assumed.
    assert [line for line in done.stderr.splitlines() if "WARNING" in line and "333333333333" not in line and "account factory" not in line] == []
