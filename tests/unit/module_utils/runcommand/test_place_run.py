# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run in one place against a service that shows a little more at each look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.place_run import Options, PlaceRun
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.request import Request
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.sink import Sink
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.targets import Named, Targets
from tests.unit.module_utils.runcommand.service import Service, caller, every, nodes, refusal


def run(service: Service, ids: Sequence[str], options: Options | None = None, **request: Any) -> tuple[PlaceRun, Sink]:
    """A run to its end."""
    sink = Sink(keep=1000)
    part = PlaceRun(caller(service), Request("run", "AWS-RunShellScript", **request), Targets(tuple(map(Named, ids))), ids, options or Options(), sink)
    part.run()
    return part, sink


def test_errors_that_are_seen_little_by_little_are_added_up() -> None:
    service = Service(every(3), speed=10)
    _part, sink = run(service, nodes(100), max_concurrency="50", max_errors="5")
    assert len(service.sent) == 1 and sink.counts == {"success": 33, "failed": 17, "terminated": 50}


@pytest.mark.parametrize("max_concurrency", ["50", "100%"])
def test_a_number_of_errors_holds_for_all_commands(max_concurrency: str) -> None:
    service = Service(every(20), speed=10)
    run(service, nodes(150), max_concurrency=max_concurrency, max_errors="6")
    assert [sent["MaxErrors"] for sent in service.sent] == ["6", "3", "1"]  # of 50 nodes 3, 2 and 3 fail


class OfTwoPlatforms(Service):
    """Every fourth node is none for the document."""

    def refuse(self, parameters: dict[str, Any]) -> None:
        if any(int(node[2:], 16) % 4 == 0 for node in parameters["InstanceIds"]):
            raise refusal("SendCommand", "UnsupportedPlatformType")


@pytest.mark.parametrize("limit", ["10", "50"])
def test_a_command_that_is_divided_keeps_the_number_of_nodes_at_once(limit: str) -> None:
    service = OfTwoPlatforms(speed=2)
    _part, sink = run(service, nodes(40), max_concurrency=limit)
    assert sink.counts == {"success": 30, "invalid_platform": 10} and max(service.open_nodes) <= int(limit)


def test_what_nobody_waits_for_is_sent_at_once() -> None:
    service = OfTwoPlatforms()
    part, sink = run(service, nodes(40), Options(wait=False), max_concurrency="10")
    assert sum(command.total for command in part.commands) == 30 and sink.counts == {"invalid_platform": 10}
