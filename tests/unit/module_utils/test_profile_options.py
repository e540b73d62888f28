# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of instance_profile_association that are refused before anything is asked of AWS."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.instances import read_selection
from ansible_collections.fleet.ssm.plugins.modules.instance_profile_association import read_wanted

GIVEN: dict[str, Any] = {
    "state": "present", "instance_profile": "FleetNode", "other_profile": "fail", "policies": ["P"],
    "instance_ids": [], "filters": {"tag:Env": "prod"}, "exclude_filters": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filters": {}}, "one of 'instance_ids' and 'filters' must say which instances are meant"),
        ({"instance_profile": "arn:aws:iam::111111111111:instance-profile/X"}, "'instance_profile' must be the name of a profile"),
        ({"instance_profile": "path/X"}, "'instance_profile' must be the name of a profile"),
        ({"instance_ids": ["mi-1"]}, "Hybrid nodes are none"),
        ({"filters": ["web"]}, "'filters' must hold mappings"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_wanted({**GIVEN, **options})
        read_selection({**GIVEN, **options})


def test_ids_are_asked_for_in_whatever_state_the_instances_are() -> None:
    assert read_selection(GIVEN).states == ("pending", "running", "stopping", "stopped")
    assert read_selection({**GIVEN, "instance_ids": [f"i-{number}" for number in range(250)]}).states == ()
    assert len(read_selection({**GIVEN, "instance_ids": [f"i-{number}" for number in range(250)]}).ec2_queries()) == 2
