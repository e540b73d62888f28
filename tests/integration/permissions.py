# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/iam.md that says which policies each plugin, module and role needs; and whether what is called stands in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.lab.dispatch import iam_action

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Needed by whoever names roles, regions or profiles, whatever they do there.
BY_ALL = {"sts:AssumeRole", "sts:GetCallerIdentity", "ec2:DescribeRegions"}


@dataclass(frozen=True)
class Row:
    """Of one plugin, module, role or playbook."""

    kind: str
    name: str
    policies: frozenset[str]
    more: frozenset[str]  #: actions beyond those of the policies

    @property
    def actions(self) -> set[str]:
        """All that it may have to call."""
        return {action for name in self.policies for action in actions_of(name)} | self.more


def actions_of(name: str) -> set[str]:
    """Those that a policy of docs/policies allows."""
    listed = (statement["Action"] for statement in json.loads((DOCS / "policies" / f"{name}.json").read_text(encoding="utf-8"))["Statement"])
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


def section() -> str:
    """The chapter of the table."""
    return (DOCS / "iam.md").read_text(encoding="utf-8").partition("## By module and role\n")[2].partition("\n## ")[0]


def policies_in(text: str) -> frozenset[str]:
    """The policies to which a text of docs has links."""
    return frozenset(re.findall(r"\(policies/([\w-]+)\.json\)", text))


def rows() -> list[Row]:
    """The table, as far as it is about this collection's own."""
    found = re.findall(r"^\| (\w+) `([\w.]+)` \| (.*?) \|(.*)\|$", section(), re.MULTILINE)
    return [Row(kind, name, policies_in(policies), frozenset(re.findall(r"`([\w-]+:\w+)`", more))) for kind, name, policies, more in found]


def check_calls(folder: Path) -> None:
    """See that whoever called a lab, and says who it is, called nothing but what the table has. Roles and playbooks call by their modules.

    :param folder: of the lab.
    """
    by_all = BY_ALL | actions_of("organization")
    allowed = {row.name: {action.lower() for action in row.actions | by_all} for row in rows() if row.kind not in ("role", "playbook")}
    entries = map(json.loads, (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines())
    called = {(entry["caller"], iam_action(entry["action"])) for entry in entries if entry["caller"]}
    unlisted = sorted(f"{caller} calls {action}" for caller, action in called if action.lower() not in allowed.get(caller, ()))
    assert not unlisted, f"docs/iam.md does not say that {', '.join(unlisted)}"
