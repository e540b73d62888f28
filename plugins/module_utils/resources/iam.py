# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles and instance profiles have in common: listings, tags, and the nodes that use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ..scope import Place, side_by_side
from .kind import State

NOT_THERE = ("NoSuchEntity",)
_REGIONS_AT_ONCE = 8
_NAMED = 5


def listing(place: Place, operation: str, key: str, **parameters: Any) -> list[Any]:
    """All entries of a listing of IAM. :raises CollectError: as `Place.call`."""
    found: list[Any] = []
    while True:
        page = place.call(operation, service="iam", **parameters)
        found += page.get(key, ())
        if not page.get("IsTruncated"):
            return found
        parameters["Marker"] = page["Marker"]


def chosen_tags(entries: Iterable[Mapping[str, str]], wanted: Collection[str]) -> dict[str, str]:
    """Those tags of a resource that a task names; others are other people's."""
    return {entry["Key"]: entry["Value"] for entry in entries if entry["Key"] in wanted}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def texts(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags of a task, which may have numbers as values."""
    return {str(key): str(value) for key, value in (tags or {}).items()}


def cannot_move(now: State, wanted: State) -> tuple[str, str] | None:
    """What is wrong, and what to do, if a path would have to change, which IAM cannot do."""
    if wanted.get("path") in (None, now["path"]):
        return None
    return f"has the path {now['path']}, and IAM changes no paths.", f"Remove it first, or set the path to {now['path']}."


def in_use(place: Place, leaving: Collection[str], *, profile_arns: Collection[str] = (), role: str | None = None) -> str:
    """Which nodes of the account use something, in words; empty if none does.

    :param leaving: ids of instances that will not use it any more.
    :param profile_arns: instances that have one of these profiles use it.
    :param role: machines outside EC2 that registered for this role do.
    :raises CollectError: if a region cannot be asked.
    """

    def users(region: str) -> list[str]:
        there = Place(place.account, region, place.clients)
        return [*(_with_profile(there, profile_arns) if profile_arns else ()), *(_with_role(there, role) if role else ())]

    regions = [region["RegionName"] for region in place.call("DescribeRegions", service="ec2")["Regions"]]
    ids = sorted({each for found in side_by_side(users, regions, _REGIONS_AT_ONCE) for each in found} - set(leaving))
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"nodes use it: {', '.join(ids[:_NAMED])}{more}" if ids else ""


def _with_profile(there: Place, arns: Collection[str]) -> Iterator[str]:
    for entry in there.pages("DescribeIamInstanceProfileAssociations", "IamInstanceProfileAssociations", service="ec2", MaxResults=1000):
        if entry["State"] in ("associating", "associated") and entry["IamInstanceProfile"]["Arn"] in arns:
            yield entry["InstanceId"]


def _with_role(there: Place, role: str) -> Iterator[str]:
    hybrid = [{"Key": "ResourceType", "Values": ["ManagedInstance"]}]
    for entry in there.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=hybrid, MaxResults=50):
        if entry.get("IamRole", "").rpartition("/")[2] == role:
            yield entry["InstanceId"]
