# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instances of a place that a task is about, and what EC2 is asked about many things at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .accounts import OptionError
from .filters import FILTER_VALUES, Selection, parse_filters, with_ids
from .nodes import Node, join
from .scope import Place

_PAGE = 1000
_SMALLER_PAGES = {"DescribeRouteTables": 100}
_STATES = ("pending", "running", "stopping", "stopped")


def argument_spec() -> dict[str, Any]:
    """The options of the doc fragment `fleet.ssm.instances`."""
    return {
        "instance_ids": {"type": "list", "elements": "str", "default": []},
        "filters": {"type": "dict", "default": {}},
        "exclude_filters": {"type": "list", "elements": "dict", "default": []},
    }


def read_selection(params: Mapping[str, Any]) -> Selection:
    """Which instances are asked for. :raises OptionError: if that is all there are, or the filters have another shape."""
    ids = params["instance_ids"]
    if not ids and not params["filters"]:
        raise OptionError("one of 'instance_ids' and 'filters' must say which instances are meant. For all, write 'filters: {instance-id: \"*\"}'.")
    wrong = [instance_id for instance_id in ids if not instance_id.startswith("i-")]
    if wrong:
        raise OptionError(f"'instance_ids' takes ids of EC2 instances (i-…), not {', '.join(wrong)}. Hybrid nodes are none.")
    return Selection(
        include=with_ids(parse_filters(params["filters"], "filters"), ids),
        exclude=parse_filters(params["exclude_filters"], "exclude_filters"),
        states=() if ids else _STATES,
        hybrid=False,
        unmanaged=True,
    )


def selected(place: Place, selection: Selection) -> list[Node]:
    """The instances, in the order of their ids; nothing is known of their agents. :raises CollectError: if they cannot be seen."""
    found: dict[str, dict[str, Any]] = {}
    for filters in selection.ec2_queries():
        found.update(_instances(place, filters))
    for filters in selection.ec2_exclusions() if found else ():
        for instance_id in _instances(place, filters):
            found.pop(instance_id, None)
    nodes = join(found.values(), (), {}, account_id=None, account_name=place.account.name, region=place.region)
    return sorted((node for node in nodes if selection.wants(node)), key=lambda node: str(node["instance_id"]))


def described(place: Place, operation: str, key: str, name: str, values: Collection[str]) -> Iterator[dict[str, Any]]:
    """All entries of a listing of EC2 whose filter `name` has one of these values. :raises CollectError: as `Place.call`."""
    distinct = sorted(set(values))
    size = _SMALLER_PAGES.get(operation, _PAGE)
    for start in range(0, len(distinct), FILTER_VALUES):
        chosen = [{"Name": name, "Values": distinct[start : start + FILTER_VALUES]}]
        yield from place.pages(operation, key, service="ec2", Filters=chosen, MaxResults=size)


def _instances(place: Place, filters: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    reservations = place.pages("DescribeInstances", "Reservations", service="ec2", Filters=filters, MaxResults=_PAGE)
    return {entry["InstanceId"]: {**entry, "OwnerId": each.get("OwnerId")} for each in reservations for entry in each.get("Instances", ())}
