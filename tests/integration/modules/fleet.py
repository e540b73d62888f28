# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of many kinds that answer without executing, told apart by their tag Role."""

from __future__ import annotations

from typing import Any

from tests.integration.modules.local import ROLE
from tests.lab import Lab, NodeKind

HUB, OTHER = "111111111111", "222222222222"
REGION = "eu-central-1"
REGIONS = [REGION, "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}
ECHO = {"commands": ["echo hello"]}


def simulated(count: int, prefix: str, *, account: str = HUB, region: str = REGION, hybrid: bool = True, **values: Any) -> list[dict[str, Any]]:
    """Definitions of so many alike; their names and their tag begin with `prefix`."""
    place = {"account": account, "region": region, "kind": NodeKind.SIMULATED, "hybrid": hybrid}
    return [{"name": f"{prefix}-{number}", "tags": {"Role": prefix}, **place, **values} for number in range(1, count + 1)]


def definitions() -> list[dict[str, Any]]:
    """All of them."""
    return [
        *simulated(49, "batch"),
        *simulated(120, "crowd"),
        *simulated(3, "app", options={"stdout": "I am {name}\n"}),
        *simulated(2, "app", account=OTHER, region=REGIONS[1]),
        *simulated(2, "bad", options={"failing": 1.0, "code": 3, "stderr": "no\n"}),
        *simulated(60, "broken", options={"failing": 1.0}),
        *simulated(2, "slow", options={"seconds": 20}),
        *simulated(3, "steady", account=OTHER, options={"seconds": 3}),
        *simulated(1, "silent", options={"silent": 1.0}),
        *simulated(2, "pane", platform_type="Windows"),
        *simulated(4, "wordy", options={"stdout": "x" * 3000, "seconds": 1}),
    ]


def ids(lab: Lab, prefix: str) -> list[str]:
    """The ids of those whose name begins so."""
    return [node.node_id for node in lab.nodes() if node.name.startswith(f"{prefix}-")]
