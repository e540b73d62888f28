# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules let everyone in, and which of them may be closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.port_plan import RDP, SSH, User, judge, opened
from ansible_collections.fleet.ssm.plugins.module_utils.security_rules import SecurityRule

PORTS = [SSH, RDP]
RULE = SecurityRule("sgr-1", "sg-1", False, "tcp", 22, 22, "0.0.0.0/0")


@pytest.mark.parametrize(
    ("rule", "ports"),
    [
        (RULE, (22,)),
        (replace(RULE, source="::/0"), (22,)),
        (replace(RULE, protocol="6"), (22,)),
        (replace(RULE, first=0, last=65535), (22, 3389)),
        (replace(RULE, first=1, last=21), ()),
        (replace(RULE, first=23, last=3388), ()),
        (replace(RULE, first=23, last=4000), (3389,)),
        (replace(RULE, protocol="-1", first=-1, last=-1), (22, 3389)),
        (replace(RULE, protocol="udp"), ()),
        (replace(RULE, protocol="udp", first=3389, last=3389), (3389,)),
        (replace(RULE, protocol="17", first=0, last=65535), (3389,)),
        (replace(RULE, protocol="icmp", first=-1, last=-1), ()),
        (replace(RULE, source="10.0.0.0/8"), ()),
        (replace(RULE, source="sg-2"), ()),
        (replace(RULE, source="pl-1"), ()),
        (replace(RULE, egress=True), ()),
    ],
)
def test_ports_that_a_rule_opens_to_everyone(rule: SecurityRule, ports: tuple[int, ...]) -> None:
    assert opened(rule, PORTS) == ports


A, B = User("eni-1", "i-a"), User("eni-2", "i-b")
BALANCER = User("eni-3", None, "ELB net/front")


@pytest.mark.parametrize(
    ("rule", "users", "answering", "wide", "reason"),
    [
        (RULE, [A, B], {"i-a", "i-b"}, False, ""),
        (RULE, [], set(), False, ""),
        (RULE, [A, B], {"i-a"}, False, "used by instances that do not answer over Systems Manager: i-b"),
        (RULE, [A, B], set(), True, "used by instances that do not answer over Systems Manager: i-a, i-b"),
        (RULE, [A, BALANCER], {"i-a"}, False, "used by what is no instance, and so cannot answer: eni-3 (ELB net/front)"),
        (replace(RULE, first=22, last=23), [A], {"i-a"}, False, "it opens other ports as well"),
        (replace(RULE, protocol="-1", first=-1, last=-1), [A], {"i-a"}, False, "it opens other ports as well"),
        (replace(RULE, protocol="-1", first=-1, last=-1), [A], {"i-a"}, True, ""),
        (replace(RULE, protocol="-1", first=-1, last=-1), [A], set(), True, "do not answer"),
    ],
)
def test_rules_that_may_be_closed(rule: SecurityRule, users: list[User], answering: set[str], wide: bool, reason: str) -> None:
    (verdict,) = judge([rule], PORTS, {"sg-1": users, "sg-2": [User("eni-9", "i-z")]}, answering, wide=wide)
    assert verdict.close == (not reason) and reason in verdict.reason


def test_many_names_are_cut() -> None:
    (verdict,) = judge([RULE], PORTS, {"sg-1": [User(f"eni-{number}", f"i-{number}") for number in range(9)]}, set(), wide=False)
    assert verdict.reason.endswith("i-0, i-1, i-2, i-3, i-4 and 4 more")
