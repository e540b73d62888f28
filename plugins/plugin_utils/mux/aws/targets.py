# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the option `host` says to one node's id, and from a refused start to the reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..errors import RequestError, ServiceFault, unreachable
from ..protocol import ErrorKind
from .helper import AwsHelperError, CredentialsError
from .identity import Identity
from .lookups import Found, Lookup

_INSTANCE = re.compile(r"^i-(?:[0-9a-f]{8}|[0-9a-f]{17})$")
_HYBRID = re.compile(r"^mi-[0-9a-f]{17}$")
_TAG = re.compile(r"^tag:(?P<key>[^=]+)=(?P<value>.*)$")


@dataclass(frozen=True)
class TagTarget:
    """A node named by one of its tags."""

    key: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


def parse(host: str) -> str | TagTarget:
    """A node id, or the tag to look for: ``tag:Key=Value``, else the tag Name.

    :raises RequestError: it looks like an id but is none.
    """
    if _INSTANCE.match(host) or _HYBRID.match(host):
        return host
    if tag := _TAG.match(host):
        return TagTarget(tag["key"], tag["value"])
    if re.match(r"^m?i-[0-9A-Fa-f]+$", host):
        raise RequestError(ErrorKind.UNREACHABLE, f"{host!r} is not an instance id: i- and 8 or 17, or mi- and 17, digits 0-9a-f")
    return TagTarget("Name", host)


@dataclass(frozen=True)
class Candidate:
    """A managed node that carries the tag."""

    node_id: str
    ping: str
    name: str
    address: str

    def __str__(self) -> str:
        details = ", ".join(part for part in (self.name, self.address, self.ping) if part)
        return f"{self.node_id} ({details})"


async def settle(identity: Identity) -> None:
    """Know region, endpoints and credentials, or say why not.

    :raises ServiceFault: AWS could not say; another try may work.
    :raises RequestError: something is missing.
    """
    try:
        settings = await identity.settings()
    except ServiceFault:
        raise
    except (CredentialsError, ValueError) as error:
        raise unreachable(str(error)) from error
    except Exception as error:
        raise unreachable(identity.explain(error, "sts:GetCallerIdentity", identity.label)) from error
    if not settings.region:
        raise RequestError(ErrorKind.OPTION, "no region is known: set the option 'region' (ansible_ssm_region), AWS_REGION, or a region in the profile")


async def resolve(identity: Identity, host: str, deadline: float) -> str:
    """The id of the node that ``host`` means.

    :raises ServiceFault: AWS could not say; another try may work.
    :raises RequestError: none, or more than one; the candidates are listed.
    """
    target = parse(host)
    if isinstance(target, str):
        return target
    candidates = await _managed(identity, target, deadline)
    if len(candidates) > 1:
        candidates = await _without_terminated(identity, candidates)
    if len(candidates) == 1:
        return candidates[0].node_id
    where = f"in {identity.region} for {identity.label}"
    if candidates:
        listed = ", ".join(sorted(str(candidate) for candidate in candidates))
        raise unreachable(f"{len(candidates)} nodes have the tag {target} {where}: {listed}. Set ansible_ssm_host to the id of the one that is meant")
    raise unreachable(await _why_no_candidate(identity, target, where))


async def _managed(identity: Identity, target: TagTarget, deadline: float) -> list[Candidate]:
    found: list[Candidate] = []
    parameters: dict[str, Any] = {"Filters": [{"Key": f"tag:{target.key}", "Values": [target.value]}], "MaxResults": 50}
    while True:
        page = await describe(identity, deadline, **parameters)
        for entry in page["InstanceInformationList"]:
            found.append(Candidate(entry["InstanceId"], entry.get("PingStatus", ""), entry.get("ComputerName", ""), entry.get("IPAddress", "")))
        if not page.get("NextToken"):
            return found
        parameters["NextToken"] = page["NextToken"]


async def describe(identity: Identity, deadline: float, **parameters: Any) -> dict[str, Any]:
    """DescribeInstanceInformation, with errors in words.

    :raises ServiceFault: another try may work.
    :raises RequestError: none will.
    """
    try:
        return await identity.call("ssm", "describe_instance_information", deadline=deadline, resource="*", **parameters)
    except ServiceFault:
        raise
    except CredentialsError as error:
        raise unreachable(str(error)) from error
    except Exception as error:
        text = identity.explain(error, "ssm:DescribeInstanceInformation", "*")
        if errors.is_throttling(error) or errors.is_transient(error):
            raise ServiceFault(text, error) from error
        raise unreachable(text) from error


async def _without_terminated(identity: Identity, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Systems Manager lists terminated instances for some time; EC2 knows better, where it may be asked."""
    ids = [candidate.node_id for candidate in candidates if candidate.node_id.startswith("i-")]
    try:
        instances = await identity.instances({"Filters": [{"Name": "instance-id", "Values": ids}]})
    except Exception:  # not permitted or not reachable: all of them stay candidates
        return list(candidates)
    alive = {instance["id"] for instance in instances if instance["state"] not in ("terminated", "shutting-down")}
    return [candidate for candidate in candidates if candidate.node_id in alive or candidate.node_id.startswith("mi-")]


async def _why_no_candidate(identity: Identity, target: TagTarget, where: str) -> str:
    text = f"no managed node has the tag {target} {where}"
    try:
        instances = await identity.instances({"Filters": [{"Name": f"tag:{target.key}", "Values": [target.value]}]})
    except Exception as error:
        return f"{text}; EC2 could not be asked whether an instance has it: {_short(error)}"
    if not instances:
        return f"{text}, and no EC2 instance either: check the name, the region and the account"
    listed = ", ".join(f"{instance['id']} ({instance['state']}{_no_profile(instance)})" for instance in instances)
    return f"{text}; EC2 has {listed}, not registered with Systems Manager"


def _no_profile(instance: Mapping[str, Any]) -> str:
    return "" if instance["profile"] else ", no instance profile"


async def why_not_connected(identity: Identity, node_id: str, deadline: float, service: str = "Session Manager") -> str:
    """The reason why a service refuses a node: what EC2 and Systems Manager, asked at once, know about it by the deadline."""
    where = f"in {identity.region} for {identity.label}"
    is_instance = node_id.startswith("i-")
    (known, denied), (instance, more) = await asyncio.gather(
        _look_up(identity.lookups.managed, node_id, deadline, "Systems Manager could not be asked for the reason"),
        _look_up(identity.lookups.instances if is_instance else None, node_id, deadline, "EC2 could not be asked for its state"),
    )
    denied += more
    if is_instance and not instance and not more:
        return f"there is no instance {node_id} {where}: check the id, the region and the account"
    if instance and instance["state"] != "running":
        reason = f": {instance['reason']}" if instance["reason"] else ""
        return f"the instance {node_id} is {instance['state']}{reason}"
    if known:
        since = known.get("LastPingDateTime")
        since_text = f" at {since.astimezone().isoformat(timespec='seconds')}" if since is not None else ""
        version = known.get("AgentVersion", "?")
        if known.get("PingStatus") == "Online":
            return (
                f"{node_id} is not connected to {service}, though its agent {version} was last heard of{since_text}: it was lost a moment ago, or is"
                f" just starting, or lacks the permission ssmmessages:CreateControlChannel or the way to the ssmmessages endpoint{denied}"
            )
        last = f"last heard of{since_text} (agent {version}, {known.get('PingStatus')})"
        return f"the agent of {node_id} is lost, {last}: is the node up, does amazon-ssm-agent run?{denied}"
    if instance:
        if not instance["profile"]:
            return f"{node_id} runs but was never registered with Systems Manager, and has no instance profile: attach a role with AmazonSSMManagedInstanceCore"
        return (
            f"{node_id} runs but was never registered with Systems Manager: is amazon-ssm-agent installed and running, does its role"
            f" ({instance['profile']}) have AmazonSSMManagedInstanceCore, can it reach the ssm and ssmmessages endpoints?"
        )
    if denied:
        return f"{node_id} is not connected to {service} {where}{denied}"
    return f"{node_id} is not registered with Systems Manager {where}: check the id, the region and the account"


async def _look_up(lookup: Lookup | None, node_id: str, deadline: float, otherwise: str) -> tuple[Found | None, str]:
    """What is known, and in words why it is not."""
    if lookup is None:
        return None, ""
    try:
        async with asyncio.timeout_at(deadline):
            return await lookup.find(node_id), ""
    except TimeoutError:
        return None, f" ({otherwise}: no answer in time)"
    except Exception as error:
        return None, f" ({otherwise}: {_short(error)})"


def _short(error: BaseException) -> str:
    if isinstance(error, AwsHelperError | CredentialsError) and not errors.error_code(error):
        return str(error)
    return f"{errors.error_code(error) or type(error).__name__}: {errors.error_message(error)}"
