# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that are taken away while others take some away, too."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.ssm.plugins.module_utils.port_plan import Verdict
from ansible_collections.fleet.ssm.plugins.module_utils.port_state import PortPlace
from ansible_collections.fleet.ssm.plugins.module_utils.security_rules import SecurityRule
from tests.unit.module_utils.api import Api


def test_a_rule_that_is_gone_already_keeps_no_other_one_open(api: Api) -> None:
    there = {"sgr-open"}

    def revoke(parameters: dict[str, Any]) -> Any:
        rule_ids = {value for name, value in parameters.items() if name.startswith("SecurityGroupRuleId.")}
        if not there.issuperset(rule_ids):
            return "InvalidSecurityGroupRuleId.NotFound"
        there.difference_update(rule_ids)
        return {}

    api.answer(RevokeSecurityGroupIngress=revoke)
    place = PortPlace(api.place(), [22], False, _users={"sg-1": []})
    rules = [SecurityRule(rule_id, "sg-1", False, "tcp", 22, 22, "0.0.0.0/0") for rule_id in ("sgr-gone", "sgr-open")]
    place.verdicts = [Verdict(rule, (22,), close=True) for rule in rules]
    place.close()
    assert place.closed == {"sgr-gone", "sgr-open"} and not there and not place.errors
