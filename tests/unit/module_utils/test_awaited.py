# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have come, and why others have not."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.awaited import judge, pauses
from ansible_collections.fleet.ssm.plugins.module_utils.health.evidence import Evidence, Way
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS

NOW = 1_800_000_000.0


def node(node_id: str = "i-1", **values: Any) -> dict[str, Any]:
    known = {
        "instance_id": node_id, "resource_type": "ec2", "region": "eu-central-1", "account_id": "1", "managed": True, "state": "running",
        "ping_status": "online", "instance_profile_arn": "arn:p/App",
    }  # fmt: skip
    return {**dict.fromkeys(FIELDS), **known, **values}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "stopped"}, "Start it"),
        ({"state": "terminated"}, "Remove it"),
        ({"state": "pending"}, "still starting"),
        ({"managed": False, "ping_status": None, "instance_profile_arn": None}, "It never registered. It has no instance profile."),
        ({"managed": False, "ping_status": None}, "Or: agent_back_off"),
        ({"managed": False, "ping_status": None, "state": "pending"}, "still starting"),
        ({"ping_status": "connection_lost", "last_ping": "2026-01-01T00:00:00Z"}, "is lost since 2026-01-01T00:00:00Z. The agent"),
        ({"ping_status": "inactive", "state": None, "resource_type": "hybrid"}, "The machine or its agent"),
    ],
)
def test_reasons(values: dict[str, Any], words: str) -> None:
    waiting = judge([node(), node("i-2", **values)], now=NOW)
    assert [each["instance_id"] for each in waiting.online] == ["i-1"]
    (late,) = waiting.late
    assert words in late["reason"] and late["instance_id"] == "i-2" and late["causes"] and not waiting.enough(None)


def test_evidence_makes_the_reason_better() -> None:
    way = Way("It has no way to the endpoints.", "Build one.")
    (late,) = judge([node(managed=False, ping_status=None)], evidence={"i-1": Evidence(way=way)}, now=NOW).late
    assert late["reason"].startswith("It never registered. It has no way to the endpoints. Build one.") and late["causes"][0]["cause"] == "no_route"


def test_it_is_enough_when_all_are_there_and_as_many_as_wanted() -> None:
    assert judge([node()], now=NOW).enough(None) and judge([node()], ["i-1"], now=NOW).enough(1)
    assert not judge([node()], now=NOW).enough(2) and not judge([], now=NOW).enough(None)
    assert not judge([node()], ["i-1", "mi-2", "mi-2"], now=NOW).enough(None)
    assert [late["instance_id"] for late in judge([node()], ["i-1", "mi-2", "mi-2"], now=NOW).late] == ["mi-2"]


def test_pauses_grow_to_a_limit() -> None:
    found = list(islice(pauses(), 12))
    assert found[0] == 2 and found == sorted(found) and found[-1] == 30
