# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run in one place against a service that shows a little more at each look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.place_run import Options, PlaceRun
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.request import Request
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.run import assign
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.sink import Sink
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.targets import Named, Targets
from tests.unit.module_utils.api import Api, refusal
from tests.unit.module_utils.runcommand.service import Hurry, Service, caller, every, nodes


def run(api: Api, service: Service, ids: Sequence[str], options: Options | None = None, **request: Any) -> tuple[PlaceRun, Sink]:
    """A run to its end."""
    sink = Sink(keep=1000)
    part = PlaceRun(caller(api, service), Request("run", "AWS-RunShellScript", **request), Targets(tuple(map(Named, ids))), ids, options or Options(), sink)
    part.run()
    return part, sink


def test_errors_that_are_seen_little_by_little_are_added_up(api: Api) -> None:
    service = Service(every(3), speed=10)
    _part, sink = run(api, service, nodes(100), max_concurrency="50", max_errors="5")
    assert len(service.sent) == 1 and sink.counts == {"success": 33, "failed": 17, "terminated": 50}


@pytest.mark.parametrize("max_concurrency", ["50", "100%"])
def test_a_number_of_errors_holds_for_all_commands(api: Api, max_concurrency: str) -> None:
    service = Service(every(20), speed=10)
    run(api, service, nodes(150), max_concurrency=max_concurrency, max_errors="6")
    assert [sent["MaxErrors"] for sent in service.sent] == ["6", "3", "1"]  # of 50 nodes 3, 2 and 3 fail


class OfTwoPlatforms(Service):
    """Every fourth node is none for the document."""

    def refuse(self, parameters: dict[str, Any]) -> None:
        if any(int(node[2:], 16) % 4 == 0 for node in parameters["InstanceIds"]):
            raise refusal("SendCommand", "UnsupportedPlatformType")


@pytest.mark.parametrize("limit", ["10", "50"])
def test_a_command_that_is_divided_keeps_the_number_of_nodes_at_once(api: Api, limit: str) -> None:
    service = OfTwoPlatforms(speed=2)
    _part, sink = run(api, service, nodes(40), max_concurrency=limit)
    assert sink.counts == {"success": 30, "invalid_platform": 10} and max(service.open_nodes) <= int(limit)


def test_what_nobody_waits_for_is_sent_at_once(api: Api) -> None:
    service = OfTwoPlatforms()
    part, sink = run(api, service, nodes(40), Options(wait=False), max_concurrency="10")
    assert sum(command.total for command in part.commands) == 30 and sink.counts == {"invalid_platform": 10}


class Forgetful(Service):
    """The first node of a command is never listed, and the last one never ends."""

    def listed(self, invocations: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        return [*invocations[1:-1], {**invocations[-1], "Status": "InProgress", "StatusDetails": "InProgress"}]


@pytest.mark.parametrize("count", [5, 60])
def test_nodes_that_are_never_listed_are_unknown_in_the_end(api: Api, count: int) -> None:
    _part, sink = run(api, Forgetful(), nodes(count))
    commands = 1 if count < 50 else 2
    assert sink.counts == {"unknown": commands, "in_progress": commands, "success": count - 2 * commands}
    (node, *_others) = (record for record in sink.kept() if record["status"] == "unknown")
    assert f"it is not listed among the results of command {1:036}" in node["msg"] and node["command_id"] == f"{1:036}"


def test_of_a_tag_those_that_are_never_listed_are_an_error(api: Api) -> None:
    sink = Sink(keep=1000)
    service = Forgetful(tagged=nodes(5))
    part = PlaceRun(caller(api, service), Request("run", "AWS-RunShellScript"), Targets((), (("tag:Role", ("web",)),)), None, Options(), sink)
    part.run()
    assert sink.counts == {"success": 3, "in_progress": 1} and part.error is not None and part.error.text.startswith("1 of 5 nodes are not listed")


def test_one_that_is_listed_late_is_no_matter(api: Api) -> None:
    class Late(Service):
        def listed(self, invocations: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
            return invocations if self.calls.count("ListCommandInvocations") > 15 else invocations[1:]

    _part, sink = run(api, Late(), nodes(5))
    assert sink.counts == {"success": 5}


def test_nothing_is_sent_after_the_time_for_waiting_if_another_place_took_it_to_look(api: Api) -> None:
    stop, sink, ids, service = Hurry(), Sink(), nodes(5), Service()
    request, options = Request("run", "AWS-RunShellScript"), Options(adopt_since=0.0)
    part = PlaceRun(caller(api, service, stop=stop), request, Targets(tuple(map(Named, ids))), ids, options, sink)
    part.adopt()
    stop.set()
    part.run()
    assert not service.sent and sink.counts == {"not_sent": 5}


# -- which nodes are where


class Registry:
    """Knows some nodes; None: refuses."""

    def __init__(self, known: Sequence[str] | None) -> None:
        self._known = known

    def describe_instance_information(self, **_parameters: Any) -> dict[str, Any]:
        if self._known is None:
            raise refusal("DescribeInstanceInformation", "AccessDeniedException")
        return {"InstanceInformationList": [{"InstanceId": node} for node in self._known]}


def test_a_place_that_refuses_costs_no_other_ones_nodes(api: Api) -> None:
    one, two, three = nodes(3)
    callers = [caller(api, Registry([one]), "eu-central-1"), caller(api, Registry(None), "us-east-1"), caller(api, Registry([two]), "us-west-2")]
    found = assign(Targets((Named(one), Named(two), Named(three))), callers)
    assert found.nodes == [[one], [], [two]] and found.lost == [Named(three)]
    (error,) = found.errors
    assert error.region == "us-east-1" and error.action == "ssm:DescribeInstanceInformation"


def test_a_node_that_is_named_twice_is_one(api: Api) -> None:
    one, two = nodes(2)
    callers = [caller(api, Registry([one, two]), "eu-central-1"), caller(api, Registry([]), "us-east-1")]
    named = (Named(one), Named(two, region="eu-central-1"), Named(one, region="eu-central-1"), Named(two))
    assert [sorted(ids) for ids in assign(Targets(named), callers).nodes] == [[one, two], []]
    assert assign(Targets(named), callers[:1]).nodes == [[one, two]]


class OfAnotherPlace(Service):
    """Does not say which node it does not know, and tells nobody which ones it knows."""

    def refuse(self, parameters: dict[str, Any]) -> None:
        if any(int(node[2:], 16) == 3 for node in parameters["InstanceIds"]):
            raise refusal("SendCommand", "InvalidInstanceId")

    def describe_instance_information(self, **_parameters: Any) -> dict[str, Any]:
        raise refusal("DescribeInstanceInformation", "AccessDeniedException")


def test_a_stranger_is_found_by_halves_where_nobody_says_which_one_it_is(api: Api) -> None:
    _part, sink = run(api, OfAnotherPlace(), nodes(10))
    assert sink.counts == {"success": 9, "undeliverable": 1}
