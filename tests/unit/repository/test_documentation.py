# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README and docs name only what there is: options, variables, commands, targets, files and headings."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cli import _parser as lab_parser

REPOSITORY = Path(__file__).resolve().parents[3]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
COMPATIBLE = {"plugin"}
"""Options that do nothing but let the old plugin's variables stand."""

MEASURED = {REPOSITORY / "tests" / "bench" / "results" / name for name in ("bench.json", "measures.json")}
"""Written by `make bench`."""

PLUGINS = (("connection", "fleet.ssm.ssm"), ("inventory", "fleet.ssm.managed_nodes"), ("callback", "fleet.ssm.outputs"))

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def options(kind: str, name: str) -> dict[str, Any]:
    """A plugin's options as ansible-doc has them."""
    program = Path(sys.executable).parent / "ansible-doc"
    done = subprocess.run([program, "-t", kind, name, "--json"], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)[name]["doc"]["options"]
    return found


def names(key: str) -> set[str]:
    """All variables (`vars`) or environment variables (`env`) of the plugins' options."""
    return {entry["name"] for plugin in PLUGINS for option in options(*plugin).values() for entry in option.get(key, ())}


def prose(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path) -> list[str]:
    """Commands of console blocks without their remarks, and code within sentences."""
    text = prose(page)
    commands = [line[2:].partition(" #")[0].strip() for line in text.splitlines() if line.startswith("$ ")]
    return [*commands, *re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)]


def rows(heading: str) -> list[list[str]]:
    """The cells of a table of the README, without its head."""
    section = prose(REPOSITORY / "README.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return table[2:]


def test_the_table_of_options_is_that_of_the_plugin():
    documented = options("connection", "fleet.ssm.ssm")
    table = rows("Options")
    assert len(table) > 10
    for name, variable, default, meaning in table:
        option = documented[name.strip("`")]
        assert variable.strip("`") in {entry["name"] for entry in option["vars"]}, name
        assert meaning
        if "default" in option:
            assert default == f"`{str(option['default']).lower()}`", name
        else:
            assert not re.fullmatch(r"`[a-z\d]+`", default), name


def test_all_but_the_old_plugins_options_have_a_variable_an_environment_variable_and_a_key():
    for name, option in options("connection", "fleet.ssm.ssm").items():
        if name in COMPATIBLE:
            assert [entry["name"] for entry in option["vars"]] == [f"ansible_aws_ssm_{name}"]
            assert not option.get("env") and not option.get("ini")
        else:
            assert f"ansible_ssm_{name}" in {entry["name"] for entry in option["vars"]}
            assert [entry["name"] for entry in option["env"]] == [f"FLEET_SSM_{name.upper()}"]
            assert [(entry["section"], entry["key"]) for entry in option["ini"]] == [("fleet_ssm", name)]


def test_all_options_of_the_callback_have_a_variable_an_environment_variable_and_a_key():
    for name, option in options("callback", "fleet.ssm.outputs").items():
        if name != "control_path_dir":  # the connection's
            assert f"fleet_ssm_outputs_{name}" in {entry["name"] for entry in option["vars"]}
            assert f"FLEET_SSM_OUTPUTS_{name.upper()}" in {entry["name"] for entry in option["env"]}
            assert [(entry["section"], entry["key"]) for entry in option["ini"]] == [("fleet_ssm_outputs", name)]
        assert not any(entry["name"].startswith("ANSIBLE_") for entry in option["env"])


@pages
def test_options_that_are_called_so_exist(page):
    known = {name for plugin in PLUGINS for name in options(*plugin)}
    assert set(re.findall(r"\boptions? [`'](\w+)", prose(page))) <= known


@pages
def test_variables_exist(page):
    assert set(re.findall(r"\bansible_(?:aws_)?ssm_\w+", prose(page))) <= names("vars")


@pages
def test_environment_variables_exist(page):
    mentioned = set(re.findall(r"\bFLEET_SSM_[A-Z\d_]*[A-Z\d]", prose(page))) - names("env")
    folders = ("tests/lab", "tests/integration", "extensions")
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".yml")]
    assert [name for name in mentioned if not any(name in source for source in sources)] == []


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _mark, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists() or target in MEASURED, link
        assert not anchor or anchor in anchors(target), link


@pages
def test_commands_of_the_lab_are_taken(page, monkeypatch):
    for command in code(page):
        if "-m tests.lab" not in command or "COMMAND" in command:
            continue
        words = shlex.split(command.partition("-m tests.lab")[2])
        try:
            lab_parser().parse_args(words)
        except SystemExit as end:
            assert end.code == 0, command


@pages
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {target for command in code(page) for target in re.findall(r"^make ([a-z-]+)", command)} <= targets


@pages
def test_files_that_are_named_exist(page):
    roots = ("docs/", "extensions/", "playbooks/", "plugins/", "roles/", "tests/")
    named = {word for command in code(page) for word in command.split() if word.startswith(roots) and not re.search(r"[$…*<]", word)}
    assert [name for name in named if not (REPOSITORY / name.rstrip(",;")).exists() and REPOSITORY / name not in MEASURED] == []
