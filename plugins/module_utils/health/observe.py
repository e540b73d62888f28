# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at hybrid nodes for some time: an id that several machines have changes its name and address with each of their pings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..collect import INFORMATION_PAGE, Answered
from ..problems import CollectError
from ..scope import side_by_side
from .evidence import Machines

#: Seconds between two looks. Agents speak every five minutes (`UpdateInstanceInformation`).
_PAUSE = 30.0


def observe(places: Sequence[Answered], seconds: float, earlier: Iterable[Mapping[str, Any]], max_workers: int) -> tuple[Machines, list[CollectError]]:
    """Who is seen under the ids of hybrid nodes.

    :param places: with what was found already, which is the first look.
    :param seconds: for how long to look again.
    :param earlier: nodes of an earlier report; their addresses may have changed since, their names not.
    """
    machines, errors = Machines(), list[CollectError]()
    ids = {node["instance_id"] for answered in places for node in answered.nodes if node["resource_type"] == "hybrid"}

    machines.look((node["instance_id"], node.get("computer_name"), None) for node in earlier if node.get("instance_id") in ids)
    for answered in places:
        machines.look((node["instance_id"], node["computer_name"], node["private_ip_address"]) for node in answered.nodes if node["instance_id"] in ids)
    with_hybrid = [answered.place for answered in places if any(node["resource_type"] == "hybrid" for node in answered.nodes)]
    filters = [{"Key": "ResourceType", "Values": ["ManagedInstance"]}]

    def ask(place: Any) -> list[dict[str, Any]] | CollectError:
        try:
            return list(place.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=filters, MaxResults=INFORMATION_PAGE))
        except CollectError as error:
            return error

    deadline = time.monotonic() + seconds
    while with_hybrid and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, _PAUSE, seconds / 4))
        for found in side_by_side(ask, with_hybrid, max_workers):
            if isinstance(found, CollectError):
                errors.append(found)
            else:
                machines.look((entry["InstanceId"], entry.get("ComputerName"), entry.get("IPAddress")) for entry in found if entry["InstanceId"] in ids)
    return machines, errors
