# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about a node, from EC2 and from Systems Manager, under one set of names. No I/O.

A node is a plain mapping with the keys of `FIELDS`, values that JSON can hold, and no secret, because it goes into the cache
and into host variables as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Node = dict[str, Any]

#: Every key of a node, in the order of the documentation.
FIELDS: tuple[str, ...] = (
    "instance_id", "resource_type", "managed", "account_id", "account_name", "region", "availability_zone", "tags",
    "platform", "platform_name", "platform_version", "computer_name", "agent_version", "agent_is_latest",
    "ping_status", "last_ping", "activation_id", "iam_role", "registered_at",
    "state", "instance_type", "architecture", "image_id", "launched_at", "vpc_id", "subnet_id", "security_group_ids",
    "instance_profile_arn", "key_name", "private_ip_address", "public_ip_address", "private_dns_name", "public_dns_name",
)  # fmt: skip
_EMPTY: Node = dict.fromkeys(FIELDS)


def join(
    instances: Iterable[Mapping[str, Any]],
    information: Iterable[Mapping[str, Any]],
    hybrid_tags: Mapping[str, Mapping[str, str]],
    *,
    account_id: str | None,
    account_name: str | None,
    region: str,
) -> Iterator[Node]:
    """Make the nodes of one account and region.

    :param instances: `Instances` of DescribeInstances, each with its reservation's `OwnerId`.
    :param information: entries of DescribeInstanceInformation. Those of EC2 instances that are not among `instances` (other
        state, other tags, terminated) are left out.
    :param hybrid_tags: tags by id of hybrid node.
    """
    place = {"account_id": account_id, "account_name": account_name, "region": region}
    managed = {entry["InstanceId"]: entry for entry in information}
    seen = set()
    for instance in instances:
        if instance["InstanceId"] in seen:  # by several filters
            continue
        seen.add(instance["InstanceId"])
        entry = managed.get(instance["InstanceId"])
        node = {**_EMPTY, **place, **_from_ec2(instance), "managed": entry is not None}
        if entry:
            node.update(_from_ssm(entry))
        yield node
    for node_id, entry in managed.items():
        if is_hybrid(node_id):
            yield {
                **_EMPTY,
                **place,
                "instance_id": node_id,
                "resource_type": "hybrid",
                "managed": True,
                "tags": dict(hybrid_tags.get(node_id, {})),
                **_from_ssm(entry),
                "private_ip_address": entry.get("IPAddress"),
            }


def is_hybrid(node_id: str) -> bool:
    """Whether the id is of a node that came by an activation, on whatever machine."""
    return node_id.startswith("mi-")


def _from_ec2(instance: Mapping[str, Any]) -> Node:
    return {
        "instance_id": instance["InstanceId"],
        "resource_type": "ec2",
        "account_id": instance["OwnerId"],
        "availability_zone": instance.get("Placement", {}).get("AvailabilityZone"),
        "tags": {tag["Key"]: tag.get("Value", "") for tag in instance.get("Tags", ())},
        "platform": _ec2_platform(instance),
        "state": instance.get("State", {}).get("Name"),
        "instance_type": instance.get("InstanceType"),
        "architecture": instance.get("Architecture"),
        "image_id": instance.get("ImageId"),
        "launched_at": timestamp(instance.get("LaunchTime")),
        "vpc_id": instance.get("VpcId"),
        "subnet_id": instance.get("SubnetId"),
        "security_group_ids": [group["GroupId"] for group in instance.get("SecurityGroups", ())],
        "instance_profile_arn": instance.get("IamInstanceProfile", {}).get("Arn"),
        "key_name": instance.get("KeyName"),
        "private_ip_address": instance.get("PrivateIpAddress"),
        "public_ip_address": instance.get("PublicIpAddress"),
        # Empty strings stand for "none" in EC2's answers.
        "private_dns_name": instance.get("PrivateDnsName") or None,
        "public_dns_name": instance.get("PublicDnsName") or None,
    }


def _from_ssm(entry: Mapping[str, Any]) -> Node:
    return {
        "platform": str(entry.get("PlatformType", "linux")).lower(),
        "platform_name": entry.get("PlatformName") or None,
        "platform_version": entry.get("PlatformVersion") or None,
        "computer_name": entry.get("ComputerName"),
        "agent_version": entry.get("AgentVersion"),
        "agent_is_latest": entry.get("IsLatestVersion"),
        "ping_status": _snake(entry.get("PingStatus")),
        "last_ping": timestamp(entry.get("LastPingDateTime")),
        "activation_id": entry.get("ActivationId"),
        "iam_role": entry.get("IamRole"),
        "registered_at": timestamp(entry.get("RegistrationDate")),
    }


def _ec2_platform(instance: Mapping[str, Any]) -> str:
    """EC2 says only "windows" or nothing; macOS shows in the type."""
    if str(instance.get("Platform", "")).lower() == "windows":
        return "windows"
    return "macos" if str(instance.get("InstanceType", "")).startswith("mac") else "linux"


def _snake(value: str | None) -> str | None:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value).lower() if value else None


def timestamp(value: Any) -> str | None:
    """ISO 8601 in UTC, from seconds since the epoch or from text that is so already."""
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return str(value)
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
