# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is selected, and the questions that it takes, without Ansible around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import ClientPool
from ansible_collections.fleet.ssm.plugins.module_utils.collect import Collected, collect
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection, parse_filters
from tests.integration.inventory.conftest import REGIONS, ROLE, node
from tests.lab import Lab


def ask(lab: Lab, selection: Selection, *, regions: tuple[str, ...] = tuple(REGIONS), role: bool = True, workers: int = 8) -> Collected:
    environment = lab.env()
    base = BaseIdentity(access_key=environment["AWS_ACCESS_KEY_ID"], secret_key=environment["AWS_SECRET_ACCESS_KEY"])
    accounts = [Account(base=base, regions=regions)]
    if role:
        accounts.append(Account(base=base, role_arn=ROLE, regions=regions))
    lab.reset_requests()
    return collect(accounts, selection, ClientPool(endpoint_url=lab.api_url), max_workers=workers)


def names(collected: Collected) -> set[str]:
    assert not collected.errors
    return {found["tags"]["Name"] for _account, found in collected.nodes}


def chosen(include: Any = None, exclude: Any = None, **values: Any) -> Selection:
    return Selection(include=parse_filters(include, "filters"), exclude=parse_filters(exclude, "exclude_filters"), **values)


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (chosen({"tag:Role": ["web", "edge"]}), {"web-1", "web-2", "edge-1", "edge-2"}),
        (chosen({"tag:Role": "web", "tag:Env": "prod"}), {"web-1"}),
        (chosen([{"tag:Role": "*b"}, {"tag:Env": "prod"}]), {"web-1", "web-2", "db-1", "edge-1"}),
        (chosen({"tag:Env": "prod"}, {"tag:Role": "web"}), {"db-1", "edge-1"}),
        (chosen({"tag:Env": "prod"}, {"tag:Role": "web", "tag:Env": "staging"}), {"web-1", "db-1", "edge-1"}),
        (chosen({"tag:Env": "prod"}, {"source-dest-check": "true"}), {"edge-1"}),
        (chosen({"tag:Env": "prod", "instance-type": "t3.micro"}), {"web-1", "db-1"}),
        (chosen(platforms=("windows",)), {"win-1"}),
        (chosen(ping_status=("connection_lost",)), {"lost-1"}),
        (chosen({"tag:Env": "*"}, hybrid=False), {"web-1", "web-2", "db-1"}),
        (chosen({"tag:Role": "bare"}, unmanaged=True), {"bare-1"}),
        (chosen({"tag:Role": "bare"}, unmanaged=True, states=("stopped",)), {"stopped-1"}),
        (chosen({"tag:Role": "bare", "instance-state-name": ["running", "stopped"]}, unmanaged=True), {"bare-1", "stopped-1"}),
        (chosen({"tag:Role": "nothing"}), set()),
    ],
)
def test_selection(fleet: Lab, selection: Selection, wanted: set[str]) -> None:
    assert names(ask(fleet, selection)) == wanted


def test_order_does_not_depend_on_who_answers_first(fleet: Lab) -> None:
    def places(collected: Collected) -> list[tuple[str, str]]:
        return [(account.label, found["region"]) for account, found in collected.nodes]

    with fleet.fault_calls("ec2:DescribeInstances", delay=0.3, count=1):
        first = places(ask(fleet, Selection()))
    assert first == sorted(first, key=lambda place: ("role" in place[0], place[1]))
    assert first == places(ask(fleet, Selection()))


def test_one_thread_is_enough(fleet: Lab) -> None:
    assert len(ask(fleet, Selection(), workers=1).nodes) == len(ask(fleet, Selection()).nodes)


def test_without_hybrid_nodes_and_instances_systems_manager_is_not_asked(fleet: Lab) -> None:
    assert not ask(fleet, Selection(hybrid=False), regions=("eu-west-3",), role=False).nodes
    assert fleet.requests().counts == {"ec2:DescribeInstances": 1}


@pytest.fixture(scope="module")
def crowd() -> Iterator[Lab]:
    """More nodes than a page of any of the operations has."""
    instances = [node(f"ec2-{number}", tags={"Half": str(number % 2)}) for number in range(110)]
    hybrid = [node(f"mi-{number}", hybrid=True, tags={"Half": str(number % 2)}) for number in range(120)]
    with Lab([*instances[:60], *hybrid]) as lab:
        lab.add(*instances[60:])  # a second reservation, since EC2 of the lab counts those on a page
        yield lab


HERE = {"regions": ("eu-central-1",), "role": False}


def test_pages(crowd: Lab) -> None:
    assert len(names(ask(crowd, Selection(), **HERE))) == 230
    assert crowd.requests().counts == {"ec2:DescribeInstances": 1, "ssm:DescribeInstanceInformation": 5, "tag:GetResources": 2}


def test_few_of_many_are_asked_by_id(crowd: Lab) -> None:
    found = ask(crowd, chosen({"tag:Half": "1"}, hybrid=False), **HERE)
    assert len(names(found)) == 55
    assert crowd.requests().counts == {"ec2:DescribeInstances": 1, "ssm:DescribeInstanceInformation": 2}


def test_more_than_a_page_of_instances_are_asked_by_id_while_the_next_page_comes(crowd: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.fleet.ssm.plugins.module_utils.collect.INSTANCES_PAGE", 1)
    assert len(names(ask(crowd, Selection(hybrid=False), **HERE))) == 110
    assert crowd.requests().counts == {"ec2:DescribeInstances": 2, "ssm:DescribeInstanceInformation": 3}  # 60 and 50 by id
    assert len(names(ask(crowd, Selection(), **HERE))) == 230
    assert crowd.requests().counts["ssm:DescribeInstanceInformation"] == 6  # and 120 hybrid ones in pages


@pytest.mark.slow
def test_throttling_costs_time_but_no_node(crowd: Lab) -> None:
    with crowd.throttle("ssm:DescribeInstanceInformation", rate=5):
        assert len(names(ask(crowd, Selection(), **HERE))) == 230


def test_failure_in_the_middle_leaves_no_half_region(crowd: Lab) -> None:
    crowd.deny("tag:GetResources")
    found = ask(crowd, Selection(), **HERE)
    crowd.clear_permissions()
    assert found.nodes == []
    assert [error.action for error in found.errors] == ["tag:GetResources"]
