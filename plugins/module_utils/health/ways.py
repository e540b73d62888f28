# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instances do not reach Systems Manager, as evidence."""

from __future__ import annotations

from collections.abc import Iterable

from ..network_state import judged
from ..nodes import Node
from ..scope import Place
from .evidence import Way

#: The services without which no agent is online.
SERVICES = ("ssm", "ssmmessages")


def ways(place: Place, nodes: Iterable[Node]) -> dict[str, Way]:
    """By id of instance. :raises CollectError: if AWS refuses."""
    found = {}
    for each in judged(place, nodes, SERVICES):
        faults, lost = each.judgement.faults, " and ".join(each.judgement.unreached)
        problems = f"From {each.stand.subnet_id} of {each.vpc_id} it does not reach {lost}: {'; '.join(fault.problem for fault in faults)}."
        remedies = "; ".join(fault.remedy for fault in faults if fault.remedy)
        way = Way(problems, f"{remedies[:1].upper()}{remedies[1:]}.") if faults else Way(None)
        found.update(dict.fromkeys(each.instance_ids, way))
    return found
