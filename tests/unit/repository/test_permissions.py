# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of permissions has every plugin, module, role and policy; what modules say of their actions stands in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.integration.permissions import BY_ALL, DOCS, Row, actions_of, check_calls, policies_in, rows, section

REPOSITORY = DOCS.parent
PLUGINS = REPOSITORY / "plugins"


def names(kind: str) -> set[str]:
    if kind == "role":
        return {path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir()}
    folder = PLUGINS / ("modules" if kind == "module" else kind)
    return {path.stem for path in folder.glob("*.py")}


@pytest.mark.parametrize("kind", ["module", "role", "connection", "inventory", "callback"])
def test_each_of_the_collection_has_a_row(kind: str) -> None:
    found = [row.name for row in rows() if row.kind == kind]
    assert set(found) == names(kind) and len(found) == len(set(found))


def test_each_policy_is_somebodys() -> None:
    assert policies_in(section()) == {path.stem for path in (DOCS / "policies").glob("*.json")}


@pytest.mark.parametrize("path", sorted((DOCS / "policies").glob("*.json")), ids=lambda path: path.stem)
def test_who_may_give_a_role_to_instances_may_do_so_in_china(path: Path) -> None:
    statements = json.loads(path.read_text(encoding="utf-8"))["Statement"]
    passed = [each["Condition"]["StringEquals"]["iam:PassedToService"] for each in statements if each["Action"] == "iam:PassRole"]
    assert "ec2.amazonaws.com" not in passed and all("ec2.amazonaws.com.cn" in each for each in passed if "ec2.amazonaws.com" in each)


@pytest.mark.parametrize("row", [row for row in rows() if row.kind in ("module", "inventory")], ids=lambda row: row.name)
def test_what_a_module_says_of_its_actions_is_in_the_table(row: Row) -> None:
    folder = "modules" if row.kind == "module" else row.kind
    notes = (PLUGINS / folder / f"{row.name}.py").read_text(encoding="utf-8").partition("EXAMPLES = ")[0]
    said = set(re.findall(r"C\(([\w-]+:[A-Z]\w+)\)", notes))
    assert said <= row.actions | BY_ALL | actions_of("organization")


@pytest.mark.parametrize("row", [row for row in rows() if row.kind in ("role", "playbook")], ids=lambda row: row.name)
def test_a_role_or_playbook_has_what_its_modules_have(row: Row) -> None:
    """What a module has in some cases only counts if it has nothing else; of several policies for several roles one is enough."""
    files = [REPOSITORY / "playbooks" / row.name] if row.kind == "playbook" else (REPOSITORY / "roles" / row.name / "tasks").glob("*.yml")
    named = set(re.findall(r"fleet\.ssm\.(\w+)", "".join(file.read_text(encoding="utf-8") for file in files))) - {row.name}
    used = [each for each in rows() if each.name in named and each.kind in ("module", "role")]
    assert used
    for each in used:
        needed = {action for name in each.policies for action in actions_of(name)} or each.more
        assert needed <= row.actions or (each.name == "account_resources" and each.policies & row.policies), each.name


@pytest.mark.parametrize(
    ("caller", "action", "listed"), [("document", "ssm:GetDocument", True), ("document", "iam:GetRole", False), ("other", "ssm:GetDocument", False)]
)
def test_a_call_that_is_not_in_the_table_is_found(tmp_path: Path, caller: str, action: str, listed: bool) -> None:
    entries = [{"caller": "", "action": "ec2:RunInstances"}, {"caller": caller, "action": action}]
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    if listed:
        check_calls(tmp_path)
    else:
        with pytest.raises(AssertionError, match=f"{caller} calls {action}"):
            check_calls(tmp_path)
