# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles: the argument specs are the one truth, and names say whose a variable is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS
from tests.tools.role_readme import ROLES, readme, specs

roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


@roles
def test_the_readme_is_what_the_specs_say(role: Path) -> None:
    assert (role / "README.md").read_text(encoding="utf-8") == readme(role), "run: python tests/tools/role_readme.py"


@roles
def test_defaults_are_those_of_the_specs(role: Path) -> None:
    """A specification cannot say a default of mappings that is an expression."""
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    options = {name: option for name, option in specs(role)["options"].items() if not option.get("required")}
    assert defaults.keys() == options.keys()
    assert defaults == {name: option.get("default", defaults[name]) for name, option in options.items()}
    assert all(str(defaults[name]).startswith("{{") for name, option in options.items() if "default" not in option)


@roles
def test_every_variable_has_the_roles_name(role: Path) -> None:
    assert all(name.startswith(f"{role.name}_") for name in specs(role)["options"])
    internal = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))
    assert all(name.startswith(f"__{role.name}_") for name in internal)
    texts = [path.read_text(encoding="utf-8") for path in role.rglob("*.yml")]
    used = {name for text in texts for name in re.findall(rf"(?<![\w-])_*{role.name}_\w+", text)}
    made = {name for text in texts for name in re.findall(rf"(?m)^\s+(_*{role.name}_\w+):|register: (__{role.name}_\w+)", text) for name in name if name}
    known = {*specs(role)["options"], *internal, *made, *FIELDS}
    assert used <= known, used - known
