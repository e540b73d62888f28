# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have come, and why others have not."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.awaited import judge, pauses
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS


def node(node_id: str = "i-1", **values: Any) -> dict[str, Any]:
    known = {"instance_id": node_id, "region": "eu-central-1", "account_id": "1", "managed": True, "state": "running", "ping_status": "online"}
    return {**dict.fromkeys(FIELDS), **known, **values}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "stopped"}, "start it"),
        ({"state": "terminated"}, "remove it"),
        ({"managed": False, "ping_status": None}, "no instance profile"),
        ({"managed": False, "ping_status": None, "instance_profile_arn": "arn:p"}, "the role of arn:p"),
        ({"managed": False, "ping_status": None, "state": "pending"}, "still starting"),
        ({"ping_status": "connection_lost", "last_ping": "2026-01-01T00:00:00Z"}, "is lost since 2026-01-01T00:00:00Z"),
        ({"ping_status": "inactive", "state": None}, "is inactive"),
    ],
)
def test_reasons(values: dict[str, Any], words: str) -> None:
    waiting = judge([node(), node("i-2", **values)])
    assert [each["instance_id"] for each in waiting.online] == ["i-1"]
    (late,) = waiting.late
    assert words in (late["reason"] or "") and late["instance_id"] == "i-2" and not waiting.enough(None)


def test_it_is_enough_when_all_are_there_and_as_many_as_wanted() -> None:
    assert judge([node()]).enough(None) and judge([node()], ["i-1"]).enough(1)
    assert not judge([node()]).enough(2) and not judge([]).enough(None)
    assert not judge([node()], ["i-1", "mi-2", "mi-2"]).enough(None)
    assert [late["instance_id"] for late in judge([node()], ["i-1", "mi-2", "mi-2"]).late] == ["mi-2"]


def test_pauses_grow_to_a_limit() -> None:
    found = list(islice(pauses(), 12))
    assert found[0] == 2 and found == sorted(found) and found[-1] == 15
