# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for nodes to be online: which have come, and why the others have not. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .nodes import Node, is_hybrid

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 15.0


@dataclass(frozen=True)
class Waiting:
    """What one look at the nodes told."""

    online: tuple[Node, ...]
    late: tuple[dict[str, str | None], ...]  #: instance_id, account_id, region, reason; with null where nothing is known

    def enough(self, count: int | None) -> bool:
        """Whether everything awaited is there; `count` is how many nodes there must be at least."""
        return not self.late and len(self.online) >= (count or 1)


def judge(nodes: Iterable[Node], wanted_ids: Sequence[str] = ()) -> Waiting:
    """Tell nodes that are online from others.

    :param nodes: all that were found, managed or not.
    :param wanted_ids: ids that must be among them; one that is not found is late, too.
    """
    found = list(nodes)
    online = tuple(node for node in found if node["ping_status"] == "online" and node["state"] in (None, "running"))
    ready = {node["instance_id"] for node in online}
    late = [_late(node["instance_id"], node, reason(node)) for node in found if node["instance_id"] not in ready]
    known = {node["instance_id"] for node in found}
    late += [_late(node_id, None, _missing(node_id)) for node_id in dict.fromkeys(wanted_ids) if node_id not in known]
    return Waiting(online, tuple(late))


def reason(node: Node) -> str:
    """Why a node is not online, and what to do."""
    state = node["state"]
    if state not in (None, "running", "pending"):
        remedy = "start it" if state in ("stopped", "stopping") else "remove it from the task"
        return f"the instance is {state}: {remedy}"
    if not node["managed"]:
        if state == "pending":
            return "the instance is still starting"
        if not node["instance_profile_arn"]:
            return (
                "it never registered, and has no instance profile: attach one whose role has AmazonSSMManagedInstanceCore, "
                "or turn on the default host management configuration"
            )
        return (
            f"it never registered: check that the agent is installed and runs, that it reaches ssm.{node['region']}.amazonaws.com, "
            f"and that the role of {node['instance_profile_arn']} has AmazonSSMManagedInstanceCore"
        )
    since = f" since {node['last_ping']}" if node["last_ping"] else ""
    if node["ping_status"] == "inactive":
        return f"its agent is inactive{since}: start the machine and its agent, or register it again"
    return f"the connection to its agent is lost{since}: check that machine and agent run and reach ssmmessages.{node['region']}.amazonaws.com"


def pauses() -> Iterator[float]:
    """Seconds between looks, growing."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _missing(node_id: str) -> str:
    kind = "no hybrid node" if is_hybrid(node_id) else "no EC2 instance"
    return f"there is {kind} of this id in the accounts and regions that were asked: check the id, 'accounts' and 'regions'"


def _late(node_id: str, node: Node | None, text: str) -> dict[str, str | None]:
    place = {name: (str(node[name]) if node and node[name] else None) for name in ("account_id", "region")}
    return {"instance_id": node_id, **place, "reason": text}
