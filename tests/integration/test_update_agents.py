# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks about the agents of an estate: their health, and their update by Run Command, in two accounts and regions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import REPOSITORY, Controller, Run
from tests.integration.modules.local import ROLE
from tests.integration.test_policies import OPERATOR, policy, without
from tests.lab import Lab, LabNode

HUB, OTHER = "111111111111", "222222222222"
REGIONS = ["eu-central-1", "us-east-1"]
ESTATE = {"regions": REGIONS, "accounts": [{"name": "hub"}, {"name": "other", "role_arn": ROLE}]}
OLD, NEW = "3.1.0.0", "3.3.0.0"
numbers = itertools.count(1)

Update = Callable[..., Run]


@pytest.fixture(scope="module")
def estate() -> Iterator[Lab]:
    with Lab([], settings={"latest_agent": NEW, "connection_lost_after": 0}) as lab:
        yield lab


@pytest.fixture
def controller(estate: Lab, tmp_path: Path) -> Controller:
    made = Controller(tmp_path / "controller", estate.env())
    made.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})
    return made


@pytest.fixture
def group() -> dict[str, str]:
    """A tag that only one test's nodes have."""
    return {"Set": f"set-{next(numbers)}"}


@pytest.fixture
def play(controller: Controller, group: dict[str, str]) -> Update:
    """Runs one of the playbooks on the nodes of a test."""

    def run(name: str, *arguments: str, **variables: Any) -> Run:
        given = {"fleet_estate": {**ESTATE, "filters": {"tag:Set": group["Set"]}}, **variables}
        words = ["-i", str(controller.inventory), str(REPOSITORY / "playbooks" / name), "--extra-vars", json.dumps(given), *arguments]
        return Run.of(controller.start("ansible-playbook", *words))

    return run


def add(lab: Lab, group: dict[str, str], count: int = 1, **values: Any) -> list[LabNode]:
    known = {"name": "it", "kind": "simulated", "account": HUB, "region": REGIONS[0], "agent_version": OLD, "options": {"available_version": NEW}}
    return lab.add(*({**known, "tags": group, **values} for _each in range(count)))


def told(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.result("fleet.ssm.agent : Report it")["msg"]
    return found


def test_old_agents_are_updated_once_and_check_mode_says_so_before(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group, 3)
    add(estate, group, 2, account=OTHER, region=REGIONS[1])
    add(estate, group, agent_version=NEW)
    estate.reset_requests()
    plan = play("update_agents.yml", "--check").check()
    assert plan.stats["localhost"]["changed"] == 1 and "ssm:SendCommand" not in estate.requests().counts
    assert told(plan)["before"] == told(plan)["after"] == {OLD: 5, NEW: 1}
    done = play("update_agents.yml").check()
    assert told(done)["nodes"] == "6 online, 5 with another agent than latest"
    assert (told(done)["before"], told(done)["after"]) == ({OLD: 5, NEW: 1}, {NEW: 6})
    estate.reset_requests()
    again = play("update_agents.yml").check()
    assert again.stats["localhost"]["changed"] == 0 and "ssm:SendCommand" not in estate.requests().counts


@pytest.mark.slow
def test_a_version_is_pinned_and_no_agent_becomes_older_unless_told(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group)
    add(estate, group, agent_version=NEW)
    pinned = play("update_agents.yml", agent_version="3.2.0.0").check()
    assert told(pinned)["after"] == {"3.2.0.0": 1, NEW: 1}
    older = play("update_agents.yml", agent_version="3.2.0.0", agent_downgrade=True).check()
    assert told(older)["after"] == {"3.2.0.0": 2}


@pytest.mark.slow
def test_too_many_failures_stop_the_update(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group, 8, options={"failing": 1.0})
    run = play("update_agents.yml", agent_update_concurrency="1", agent_update_max_errors="2")
    assert run.returncode != 0
    assert (int(told(run)["failed"]), int(told(run)["not_sent"])) == (3, 5) and told(run)["after"] == {OLD: 8}
    assert "3 failed" in run.result("fleet.ssm.agent : See that all went well")["msg"]


def test_a_command_that_is_not_sent_is_no_success(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group)
    for mode in ((), ("--check",)):
        run = play("update_agents.yml", *mode, agent_update_max_errors="many")
        assert run.returncode != 0 and told(run)["after"] == {OLD: 1}
        assert "'max_errors'" in run.result("fleet.ssm.agent : See that all went well")["msg"]


def test_an_account_that_is_refused_is_told_and_the_others_are_updated(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group)
    add(estate, group, account=OTHER)
    guarded = estate.create_role(OTHER, "Guarded", external_id="sesame")
    accounts = [{"name": "hub"}, {"name": "guarded", "role_arn": guarded}]
    run = play("update_agents.yml", fleet_estate={"regions": REGIONS[:1], "accounts": accounts, "filters": {"tag:Set": group["Set"]}})
    assert run.returncode != 0 and told(run)["after"] == {NEW: 1}
    assert "account guarded: " in run.result("fleet.ssm.agent : See that all went well")["msg"]
    assert len(told(run)["errors"]) == 1


@pytest.mark.parametrize("lacking", ["", "tag:GetResources"])
def test_the_policies_that_the_docs_name_are_enough(estate: Lab, group: dict[str, str], play: Update, lacking: str) -> None:
    """With the document that it runs in place of those of the policy; and hybrid nodes need what the docs say of them."""
    add(estate, group)
    add(estate, group, hybrid=True)
    statements = [*policy("inventory")["Statement"], *policy("run_command")["Statement"]]
    allowed = json.loads(json.dumps(without({"Version": "2012-10-17", "Statement": statements}, lacking)).replace("AWS-RunShellScript", "AWS-UpdateSSMAgent"))
    estate.policy(allowed, principal=OPERATOR)
    try:
        run = play("update_agents.yml", fleet_estate={"regions": REGIONS, "filters": {"tag:Set": group["Set"]}})
    finally:
        estate.clear_permissions()
    if lacking:
        assert run.returncode != 0 and f"{lacking} is not allowed" in run.result("fleet.ssm.agent : See that all went well")["msg"]
    else:
        assert told(run.check())["after"] == {NEW: 2}


@pytest.mark.slow
def test_an_agent_that_runs_says_its_new_version(estate: Lab, group: dict[str, str], play: Update) -> None:
    add(estate, group, kind="process", options={"available_version": NEW, "health_interval": 1})
    assert told(play("update_agents.yml", agent_version="3.2.0.0").check())["after"] == {"3.2.0.0": 1}
    run = play("update_agents.yml", agent_version="3.9.0.0")
    assert run.returncode and int(told(run)["failed"]) == 1 and told(run)["after"] == {"3.2.0.0": 1}
    assert told(play("update_agents.yml").check())["after"] == {NEW: 1}


@pytest.mark.slow
def test_an_update_that_succeeds_and_brings_nothing_is_no_success(estate: Lab, group: dict[str, str], play: Update) -> None:
    (node,) = add(estate, group, options={})
    run = play("update_agents.yml", agent_timeout=5)
    assert run.returncode and int(told(run)["unchanged"]) == 1 and told(run)["after"] == {OLD: 1}
    assert node.node_id in run.result("fleet.ssm.agent : See that all went well")["msg"]


@pytest.mark.slow
def test_the_health_of_the_estate_as_text_json_and_page(estate: Lab, group: dict[str, str], play: Update, tmp_path: Path) -> None:
    add(estate, group)
    (ill,) = add(estate, group, kind="none", profile=None, age=7200)
    files = {"health_json": str(tmp_path / "health.json"), "health_html": str(tmp_path / "health.html")}
    run = play("node_health.yml", **files).check()
    shown = "\n".join(run.result("Show what is wrong")["msg"])
    assert shown.startswith("outdated 1, never_registered 1") and f"{ill.node_id} " in shown
    assert "never_registered, certain no_role" in shown and "It has no instance profile. Attach one" in shown
    report = json.loads(Path(files["health_json"]).read_text(encoding="utf-8"))
    assert report["causes"] == {"agent_outdated": 1, "no_role": 1} and len(report["nodes"]) == 2
    page = Path(files["health_html"]).read_text(encoding="utf-8")
    assert ill.node_id in page and "<b>no role</b> (certain): It has no instance profile." in page
