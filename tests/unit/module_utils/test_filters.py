# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters, judged as EC2 judges them, and which questions they make."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection, parse_filters
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS

EMPTY: dict[str, Any] = dict.fromkeys(FIELDS)


def node(**fields: Any) -> dict[str, Any]:
    return {**EMPTY, "resource_type": "ec2", "managed": True, "platform": "linux", "ping_status": "online", "tags": {}, **fields}


@pytest.mark.parametrize(
    ("filters", "fields", "matches"),
    [
        ({"tag:Role": "web"}, {"tags": {"Role": "web"}}, True),
        ({"tag:Role": "web"}, {"tags": {"Role": "Web"}}, False),
        ({"tag:Role": ["db", "web"]}, {"tags": {"Role": "web"}}, True),
        ({"tag:Role": "web", "tag:Env": "prod"}, {"tags": {"Role": "web", "Env": "test"}}, False),
        ({"tag:Role": "w*"}, {"tags": {"Role": "web\n2"}}, True),
        ({"tag:Role": "we?"}, {"tags": {"Role": "we"}}, False),
        ({"tag:Role": r"w\*"}, {"tags": {"Role": "web"}}, False),
        ({"tag:Role": r"w\*"}, {"tags": {"Role": "w*"}}, True),
        ({"tag:Role": "w.b"}, {"tags": {"Role": "web"}}, False),
        ({"tag:Role": ""}, {"tags": {"Role": ""}}, True),
        ({"tag:Role": "*"}, {"tags": {}}, False),
        ({"tag-key": "Role"}, {"tags": {"Role": "x"}}, True),
        ({"tag-key": "Role"}, {"tags": {"Other": "Role"}}, False),
        ({"vpc-id": "vpc-1"}, {"vpc_id": "vpc-1"}, True),
        ({"vpc-id": "vpc-1"}, {"vpc_id": None}, False),
        ({"instance.group-id": "sg-2"}, {"security_group_ids": ["sg-1", "sg-2"]}, True),
        ({"tag:Count": 3}, {"tags": {"Count": "3"}}, True),
        ({"tag:On": True}, {"tags": {"On": "true"}}, True),
        ({"monitoring-state": "enabled"}, {}, False),
    ],
)
def test_matches(filters: dict[str, Any], fields: dict[str, Any], matches: bool) -> None:
    (entry,) = parse_filters(filters, "filters")
    assert entry.matches(node(**fields)) is matches


@pytest.mark.parametrize("value", ["tag:Role", [{}], ["x"], [{"tag:Role": []}], {"tag:Role": {"a": 1}}])
def test_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="exclude_filters"):
        parse_filters(value, "exclude_filters")


def test_queries_ask_for_states_unless_a_filter_does() -> None:
    selection = Selection(include=parse_filters([{"tag:A": "1"}, {"instance-state-name": "stopped"}], "include_filters"))
    assert selection.ec2_queries() == [
        [{"Name": "tag:A", "Values": ["1"]}, {"Name": "instance-state-name", "Values": ["running"]}],
        [{"Name": "instance-state-name", "Values": ["stopped"]}],
    ]
    assert Selection(states=()).ec2_queries() == [[]]


def test_only_exclusions_that_cannot_be_judged_here_are_asked() -> None:
    selection = Selection(exclude=parse_filters([{"tag:A": "1"}, {"monitoring-state": "enabled"}], "exclude_filters"))
    assert selection.ec2_exclusions() == [[{"Name": "monitoring-state", "Values": ["enabled"]}]]


def test_states_of_nodes_are_asked_of_the_service_only_if_absence_means_nothing() -> None:
    selection = Selection(ping_status=("connection_lost",), platforms=("macos",))
    assert selection.ssm_filters() == [{"Key": "PingStatus", "Values": ["ConnectionLost"]}, {"Key": "PlatformTypes", "Values": ["MacOS"]}]
    assert Selection(ping_status=("online",), unmanaged=True).ssm_filters() == []


HYBRID = {"resource_type": "hybrid", "instance_id": "mi-1", "tags": {"Role": "edge"}}


@pytest.mark.parametrize(
    ("selection", "fields", "wanted"),
    [
        (Selection(), {}, True),
        (Selection(), {"managed": False}, False),
        (Selection(unmanaged=True), {"managed": False, "ping_status": None}, True),
        (Selection(unmanaged=True, ping_status=("online",)), {"managed": False, "ping_status": None}, True),
        (Selection(unmanaged=True, ping_status=("online",)), {"ping_status": "connection_lost"}, False),
        (Selection(platforms=("windows",)), {}, False),
        (Selection(hybrid=False), HYBRID, False),
        (Selection(include=parse_filters({"tag:Role": "edge"}, "f")), HYBRID, True),
        (Selection(include=parse_filters({"tag:Role": "web"}, "f")), HYBRID, False),
        (Selection(include=parse_filters({"vpc-id": "*"}, "f")), HYBRID, False),
        (Selection(exclude=parse_filters({"tag:Role": "e*"}, "f")), HYBRID, False),
        # EC2 has judged its own instances; a filter that is unknown here must not drop them.
        (Selection(include=parse_filters({"monitoring-state": "enabled"}, "f")), {}, True),
    ],
)
def test_wants(selection: Selection, fields: dict[str, Any], wanted: bool) -> None:
    assert selection.wants(node(**fields)) is wanted


def test_all_instances_are_meant_by_a_condition_that_asks_for_nothing() -> None:
    every = parse_filters({"instance-id": "*"}, "filters")
    chosen = Selection(include=every)
    assert chosen.ec2_queries() == Selection().ec2_queries() and not chosen.narrow
    assert chosen.wants(node(instance_id="mi-1", resource_type="hybrid"))
    some = Selection(include=parse_filters({"instance-id": "*", "tag:Role": "web"}, "filters"))
    assert some.narrow and [each["Name"] for each in some.ec2_queries()[0]] == ["tag:Role", "instance-state-name"]
    assert not Selection(exclude=every).wants(node(instance_id="i-1"))
