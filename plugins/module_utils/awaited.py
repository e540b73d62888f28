# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for nodes to be online: which have come, and why the others have not. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .health.causes import Cause, instance_starting
from .health.diagnosis import Status, diagnose, status_of
from .health.evidence import NOTHING, Evidence
from .nodes import Node, is_hybrid

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Waiting:
    """What one look at the nodes told."""

    online: tuple[Node, ...]
    late: tuple[dict[str, Any], ...]  #: instance_id, account_id, region, reason, causes; with null where nothing is known

    def enough(self, count: int | None) -> bool:
        """Whether everything awaited is there; `count` is how many nodes there must be at least."""
        return not self.late and len(self.online) >= (count or 1)


def judge(nodes: Iterable[Node], wanted_ids: Sequence[str] = (), evidence: Mapping[str, Evidence] | None = None, *, now: float) -> Waiting:
    """Tell nodes that are online from others.

    :param nodes: all that were found, managed or not.
    :param wanted_ids: ids that must be among them; one that is not found is late, too.
    :param evidence: what is known about nodes that are late, by id.
    :param now: seconds since the epoch.
    """
    found, known = list(nodes), evidence or {}
    online = tuple(node for node in found if node["ping_status"] == "online" and node["state"] in (None, "running"))
    ready = {node["instance_id"] for node in online}
    late = []
    for node in found:
        if node["instance_id"] not in ready:  # an agent that is heard before EC2 calls its instance running has no cause, but is starting
            late.append(_late(node, diagnose(node, known.get(node["instance_id"], NOTHING), now=now) or [instance_starting()]))
    ids = {node["instance_id"] for node in found}
    late += [_unknown(node_id) for node_id in dict.fromkeys(wanted_ids) if node_id not in ids]
    return Waiting(online, tuple(late))


def pauses() -> Iterator[float]:
    """Seconds between looks, growing."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _late(node: Node, causes: Sequence[Cause]) -> dict[str, Any]:
    since = f" since {node['last_ping']}" if node["last_ping"] else ""
    state = {Status.NEVER_REGISTERED: "It never registered. ", Status.LOST: f"The connection to its agent is lost{since}. "}.get(status_of(node), "")
    reason = f"{state}{causes[0].sentence} {causes[0].remedy}"
    others = [cause.cause for cause in causes[1:]]
    if others:
        reason += f" Or: {', '.join(others)}."
    return {
        "instance_id": node["instance_id"], "account_id": node["account_id"], "region": node["region"], "reason": reason,
        "causes": [cause.describe() for cause in causes],
    }  # fmt: skip


def _unknown(node_id: str) -> dict[str, Any]:
    kind = "hybrid node" if is_hybrid(node_id) else "EC2 instance"
    text = f"There is no {kind} of this id in the accounts and regions that were asked. Check the id, 'accounts' and 'regions'."
    return {"instance_id": node_id, "account_id": None, "region": None, "reason": text, "causes": []}
