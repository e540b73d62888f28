# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes there are in a place: of those that are named, or that targets mean."""

from __future__ import annotations

from collections.abc import Sequence

from .caller import Caller
from .targets import Targets, chunks

_PAGE = 50


def registered(caller: Caller, node_ids: Sequence[str]) -> list[str]:
    """Those of the nodes that Systems Manager knows in a place. :raises CollectError: if it refuses."""
    found: set[str] = set()
    for chunk in chunks(node_ids):
        filters = [{"Key": "InstanceIds", "Values": list(chunk)}]
        for page in caller.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=filters, MaxResults=_PAGE):
            found.update(entry["InstanceId"] for entry in page)
    return [node_id for node_id in node_ids if node_id in found]


def resolve(targets: Targets, caller: Caller) -> list[str]:
    """The nodes that the targets mean in a place now. When a command is sent, the service finds them itself.

    :raises CollectError: if they cannot be listed.
    """
    group = targets.group
    if group is not None:
        types = next((values for key, values in targets.criteria if key == "resource-groups:ResourceTypeFilters"), ())
        members: list[str] = []
        pages = caller.place.pages("ListGroupResources", "Resources", service="resource-groups", Group=group)
        for entry in pages:
            identifier = entry["Identifier"]
            if not types or identifier["ResourceType"] in types:
                members.append(identifier["ResourceArn"].rpartition("/")[2])
        return registered(caller, [node_id for node_id in members if node_id.startswith(("i-", "mi-"))])
    filters = [{"Key": key, "Values": list(values)} for key, values in targets.criteria]
    found: list[str] = []
    for page in caller.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=filters, MaxResults=_PAGE):
        found += [entry["InstanceId"] for entry in page]
    return found
