# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles and instance profiles have in common: listings, tags, and the instances that use them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


def in_use(place: Place, profile_arns: Collection[str], leaving: Collection[str]) -> str:
    """Which instances of the account have one of these profiles, in words; empty if none has.

    :param leaving: ids of instances that will not have it any more.
    :raises CollectError: if a region cannot be asked.
    """
    if not profile_arns:
        return ""

    def users(region: str) -> list[str]:
        there = Place(place.account, region, place.clients)
        entries = there.pages("DescribeIamInstanceProfileAssociations", "IamInstanceProfileAssociations", service="ec2", MaxResults=1000)
        found = (entry for entry in entries if entry["State"] in ("associating", "associated"))
        return [entry["InstanceId"] for entry in found if entry["IamInstanceProfile"]["Arn"] in profile_arns]

    regions = [region["RegionName"] for region in place.call("DescribeRegions", service="ec2")["Regions"]]
    ids = sorted({each for found in side_by_side(users, regions, _REGIONS_AT_ONCE) for each in found} - set(leaving))
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"instances use it: {', '.join(ids[:_NAMED])}{more}" if ids else ""
