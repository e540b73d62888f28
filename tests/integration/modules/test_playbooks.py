# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples in playbooks/ that run commands on a fleet, as they are shipped: their accounts and regions are the lab's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import REPOSITORY, Run
from tests.integration.modules.local import Local
from tests.lab import Lab, LabNode

Play = Callable[..., Run]

pytestmark = pytest.mark.slow


@pytest.fixture
def play(lab: Lab, tmp_path: Path) -> Play:
    """Runs a playbook with extra variables."""
    controller = Local(tmp_path / "controller", lab).controller

    def run(name: str, **variables: Any) -> Run:
        started = controller.start("ansible-playbook", "-i", str(controller.inventory), str(REPOSITORY / "playbooks" / name), "-e", json.dumps(variables))
        return Run.of(started)

    return run


def said(run: Run, task: str) -> list[str]:
    """What a looped debug has shown."""
    return [result["msg"] for result in run.result(task).get("results", [])]


def test_by_tag_over_all_accounts(lab: Lab, play: Play) -> None:
    run = play("run_by_tag.yml", run_tags={"Role": ["web", "db"]}).check()
    assert run.result("Say what came of it")["msg"] == "6 of 6 nodes, error ratio 0.0" and said(run, "Say what failed") == []
    assert {node["account_id"] for node in run.result("Run it")["nodes"]} == set(lab.accounts)
    failed = play("run_by_tag.yml", run_commands=["echo no >&2; exit 4"])
    assert failed.returncode != 0 and all(text.startswith("failed, rc 4: no") for text in said(failed, "Say what failed"))
    assert len(said(failed, "Say what failed")) == failed.result("Run it")["summary"]["total"] > 0


@pytest.mark.parametrize("by", [{"cancel_name": "reindex"}, {"cancel_tag": "Role=db"}])
def test_started_and_cancelled(play: Play, by: dict[str, str]) -> None:
    started = play("start_command.yml", start_name="reindex" if "cancel_name" in by else "", start_tags={"Role": "db"}).check()
    sent = {command["command_id"] for command in started.result("Start it")["commands"] if command["nodes"]}
    assert sent and "cancel_name" in started.result("Say how it is found again")["msg"]
    cancelled = play("cancel.yml", **by).check()
    texts = said(cancelled, "Say what was cancelled")
    assert {text.partition(":")[0] for text in texts if text.endswith("now cancelled")} == sent
    assert play("cancel.yml").returncode != 0


FIXES = [{"id": "KB5031364", "on": "2026-11-10"}, {"id": "KB5030211", "on": "2026-10-13"}]


@pytest.fixture
def windows(lab: Lab) -> Iterator[list[LabNode]]:
    """A node with two fixes, and one with none."""
    tables = [[{"pattern": "Get-HotFix", "stdout": json.dumps(fixes)}] for fixes in (FIXES, [])]
    nodes = [{"name": f"win-{n}", "kind": "windows", "tags": {"Os": "windows"}, "options": {"scripts": table}} for n, table in enumerate(tables)]
    made = lab.add(*nodes)
    for node in made:
        node.wait_online()
    yield made
    for node in made:
        node.terminate()


def test_patch_level_of_windows_nodes(play: Play, windows: list[LabNode], tmp_path: Path) -> None:
    report = tmp_path / "patches.json"
    run = play("windows_patch_level.yml", patch_report=str(report)).check()
    assert sorted(said(run, "Say what the newest fix of each node is")) == ["KB5031364, installed 2026-11-10", "none, installed never"]
    assert json.loads(report.read_text()) == {windows[0].node_id: FIXES, windows[1].node_id: []}
