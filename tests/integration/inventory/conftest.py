# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that exists in the API only: two accounts, two regions, hybrid nodes, and all that an inventory has to leave out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.controller import Controller
from tests.lab import Lab, NodeKind

OTHER_ACCOUNT = "222222222222"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/FleetOperator"
REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}


def node(name: str, *, first: bool = True, region: int = 0, kind: NodeKind = NodeKind.SIMULATED, **values: Any) -> dict[str, Any]:
    account = "111111111111" if first else OTHER_ACCOUNT
    return {"name": name, "account": account, "region": REGIONS[region], "kind": kind, **values}


@pytest.fixture(scope="session")
def fleet() -> Iterator[Lab]:
    nodes = [
        node("web-1", tags={"Role": "web", "Env": "prod", "Trap": "{{ 6 * 7 }}"}),
        node("web-2", region=1, tags={"Role": "web", "Env": "staging"}),
        node("db-1", first=False, tags={"Role": "db", "Env": "prod"}),
        node("same", tags={"Role": "twin"}),
        node("same", first=False, region=1, tags={"Role": "twin"}),
        node("win-1", region=1, tags={"Role": "ad"}, platform_type="Windows"),
        node("edge-1", tags={"Role": "edge", "Env": "prod"}, hybrid=True),
        node("edge-2", first=False, region=1, tags={"Role": "edge"}, hybrid=True),
        node("lost-1", kind=NodeKind.NONE, registered=True, tags={"Role": "lost"}),
        node("bare-1", kind=NodeKind.NONE, tags={"Role": "bare"}),
        node("stopped-1", kind=NodeKind.NONE, state="stopped", tags={"Role": "bare"}),
    ]
    with Lab(nodes, settings={"connection_lost_after": 0}) as lab:
        yield lab


class Inventory:
    """Inventory files, and what ansible-inventory makes of them."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    def write(self, options: dict[str, Any], name: str = "test.managed_nodes.yml") -> Path:
        path = self.controller.folder / name
        path.write_text(yaml.safe_dump({"plugin": "fleet.ssm.managed_nodes", **options}, sort_keys=False), encoding="utf-8")
        return path

    def run(self, options: dict[str, Any], *arguments: str, name: str = "test.managed_nodes.yml", **environment: str) -> subprocess.CompletedProcess[str]:
        path = self.write(options, name)
        variables = {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", **environment}
        return self.controller.run("ansible-inventory", "-i", str(path), *(arguments or ("--list",)), **variables)

    def list(self, options: dict[str, Any], *, name: str = "test.managed_nodes.yml", **environment: str) -> Listed:
        done = self.run(options, name=name, **environment)
        assert done.returncode == 0, done.stderr
        return Listed(done.stdout, done.stderr)

    def refuse(self, options: dict[str, Any], **environment: str) -> str:
        """What is said about an inventory that cannot be used, in one line."""
        done = self.run(options, **environment)
        assert done.returncode != 0, done.stdout
        return " ".join(done.stderr.split())


class Listed:
    """What `ansible-inventory --list` said."""

    def __init__(self, text: str, warnings: str) -> None:
        self.text = text
        self.warnings = " ".join(warnings.split())
        self._groups = json.loads(text, object_hook=lambda found: found.get("__ansible_unsafe", found))

    @property
    def hosts(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._groups["_meta"]["hostvars"]
        return found

    def group(self, name: str) -> set[str]:
        return set(self._groups.get(name, {}).get("hosts", ()))


@pytest.fixture
def inventory(fleet: Lab, tmp_path: Path) -> Iterator[Inventory]:
    fleet.clear_permissions()
    fleet.clear_faults()
    fleet.reset_requests()
    yield Inventory(Controller(tmp_path / "controller", fleet.env()))
