# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write README.md of each role from its argument specs, which are the one truth about its variables.

python tests/tools/role_readme.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent for path in (REPOSITORY / "roles").glob("*/meta/argument_specs.yml"))


def specs(role: Path) -> dict[str, Any]:
    """The entry point ``main``."""
    found: dict[str, Any] = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    return found


def readme(role: Path) -> str:
    """The whole text."""
    spec = specs(role)
    lines = [f"# fleet.ssm.{role.name}", "", f"{spec['short_description']}.", ""]
    lines += [f"- {_plain(line)}" for line in spec["description"]]
    page = REPOSITORY / "docs" / f"{role.name.replace('_', '-')}.md"
    if page.exists():
        lines += ["", f"How it works, and what it promises: [docs/{page.name}](../../docs/{page.name})."]
    example = REPOSITORY / "playbooks" / f"{role.name}.yml"
    if example.exists():
        lines += ["", f"An example: [playbooks/{example.name}](../../playbooks/{example.name})."]
    lines += ["", "| variable | type | default | meaning |", "|---|---|---|---|"]
    lines += _rows(spec["options"], yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")))
    return "\n".join([*lines, "", f"This file is written by `python tests/tools/{Path(__file__).name}`.", ""])


def _rows(options: dict[str, Any], defaults: dict[str, Any], within: str = "") -> Iterator[str]:
    """A line of the table for each variable, and for each key of its entries; with the defaults of those to which the specs cannot give one."""
    for name, option in options.items():
        default = "**required**" if option.get("required") else f"`{_shown(option.get('default', defaults.get(name, '')))}`"
        kind = f"list of {option['elements']}" if "elements" in option else option["type"]
        choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if "choices" in option else ""
        words = option["description"] if isinstance(option["description"], list) else [option["description"]]
        yield f"| `{within}{name}` | {kind} | {default} | {' '.join(_plain(word) for word in words)}{choices} |"
        yield from _rows(option.get("options", {}), {}, f"{within}{name}{'[]' if 'elements' in option else ''}.")


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else '""' if value == "" else str(value)
    return text.replace("|", "\\|")  # which would end a cell, even within code


def _plain(text: str) -> str:
    """Without the marks of Ansible's documentation."""
    return re.sub(r"[A-Z]\(([^)]*)\)", r"`\1`", text).replace("#module", "").replace("#role", "")


if __name__ == "__main__":
    for each in ROLES:
        (each / "README.md").write_text(readme(each), encoding="utf-8")
