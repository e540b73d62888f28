# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a node and the evidence to its status and the likely causes. No I/O, and no clock but the time it is given.

This is the one place that says why a node is not online: the health report and the time-out of a wait both come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from ..nodes import Node
from . import causes as because
from .causes import LONGEST_BACK_OFF, Cause, Likelihood
from .evidence import NOTHING, Evidence

#: A profile that comes later after the start than this was attached to a running instance, in seconds.
_LATE = 90.0
#: How long an instance may need until its agent registers, in seconds.
_STARTING = 180.0
#: How far beyond the longest back-off an agent is still waited for, in seconds.
_GRACE = 300.0


class Status(StrEnum):
    """What a node is in a word."""

    ONLINE = "online"
    OUTDATED = "outdated"  #: online, with an old agent
    LOST = "lost"  #: known, but not heard
    NEVER_REGISTERED = "never_registered"
    STOPPED = "stopped"  #: the instance does not run


def status_of(node: Node, minimum_version: str | None = None) -> Status:
    """The status of a node.

    :param minimum_version: agents that are older are outdated; without it, those that are not the latest.
    """
    if node["state"] not in (None, "pending", "running"):
        return Status.STOPPED
    if not node["managed"]:
        return Status.NEVER_REGISTERED
    if node["ping_status"] != "online":
        return Status.LOST
    return Status.OUTDATED if _is_outdated(node, minimum_version) else Status.ONLINE


def diagnose(node: Node, evidence: Evidence = NOTHING, *, now: float, minimum_version: str | None = None) -> list[Cause]:
    """Why a node is as it is, the likeliest cause first. Empty for one that is well.

    :param now: seconds since the epoch.
    """
    status = status_of(node, minimum_version)
    found: list[Cause] = []
    if len(evidence.machines) > 1:
        found.append(because.several_agents(evidence.machines, len(set(evidence.machines)) < len(evidence.machines)))
    if status is Status.OUTDATED:
        found.append(because.agent_outdated(node["agent_version"], minimum_version))
    elif status is Status.STOPPED:
        found.append(because.instance_state(node["state"]))
    elif status in (Status.LOST, Status.NEVER_REGISTERED):
        found += _facts(node, evidence, status, now)
        if not any(cause.likelihood is Likelihood.CERTAIN for cause in found):
            found += _guesses(node, evidence, status, Likelihood.POSSIBLE if found else Likelihood.LIKELY)
    order = list(Likelihood)
    found.sort(key=lambda cause: order.index(cause.likelihood))
    likeliest: dict[str, Cause] = {}
    for cause in found:
        likeliest.setdefault(cause.cause, cause)
    return list(likeliest.values())


def _facts(node: Node, evidence: Evidence, status: Status, now: float) -> Iterator[Cause]:
    """What speaks for itself."""
    if node["resource_type"] == "hybrid":
        if evidence.role is not None and evidence.role.missing:
            yield because.role_without_permission(node["iam_role"], evidence.role.missing, "")
        if evidence.others:
            yield because.registered_again(evidence.others)
    else:
        yield from _of_instance(node, evidence)
        if status is Status.NEVER_REGISTERED:
            yield from _of_new_instance(node, evidence, now)
    if "clock_wrong" in evidence.log:
        yield because.clock_wrong(Likelihood.LIKELY)
    if "role_without_permission" in evidence.log:
        yield because.refused()
    if "no_route" in evidence.log:
        yield because.unreachable()


def _of_instance(node: Node, evidence: Evidence) -> Iterator[Cause]:
    """What can be wrong about an instance, whether its agent was ever heard or not."""
    if evidence.failed_check:
        yield because.status_check_failed(evidence.failed_check)
    if evidence.metadata is not None and not evidence.metadata.enabled:
        yield because.metadata_disabled()
    profile, role = profile_name(node), evidence.role
    if profile is None:
        default = evidence.default_role
        yield because.default_role_unused(default, _too_old_for_default_role(node)) if default else because.no_role(default)
    elif role is not None and role.name is None:
        yield because.role_missing(profile)
    elif role is not None and role.name is not None and role.missing:
        yield because.role_without_permission(role.name, role.missing, evidence.default_role)
    if evidence.way is not None and evidence.way.blocked:
        yield because.no_route(evidence.way.blocked, evidence.way.remedy)


def _of_new_instance(node: Node, evidence: Evidence, now: float) -> Iterator[Cause]:
    launched, since, profile = seconds(node["launched_at"]), _attached(evidence), profile_name(node)
    if node["state"] == "pending" or evidence.initializing or (launched is not None and now - launched < _STARTING):
        yield because.instance_starting()
    if evidence.others:
        yield because.registered_as_hybrid(evidence.others)
    if profile and launched is not None and since is not None and since - launched > _LATE and now < since + LONGEST_BACK_OFF + _GRACE:
        yield because.agent_back_off(profile, since, launched)


def _guesses(node: Node, evidence: Evidence, status: Status, likelihood: Likelihood) -> Iterator[Cause]:
    """What nothing speaks for in particular, and little against.

    :param likelihood: of the most usual of them.
    """
    if node["resource_type"] == "hybrid":
        yield because.machine_away(likelihood, node["last_ping"])
    elif status is Status.LOST:
        launched, heard = seconds(node["launched_at"]), seconds(node["last_ping"])
        restarted = launched is not None and heard is not None and launched > heard
        yield because.agent_stopped(likelihood, node["last_ping"], node["launched_at"] if restarted else None)
    else:
        yield because.agent_not_running(likelihood)
        profile = profile_name(node)
        if profile and evidence.profile_since is None:
            yield because.perhaps_back_off(profile)
    yield because.clock_wrong(Likelihood.POSSIBLE)
    metadata = evidence.metadata
    if metadata is not None and metadata.tokens_required and metadata.hop_limit < 2:
        yield because.hop_limit()


def _attached(evidence: Evidence) -> float | None:
    """When the instance got its profile: as EC2 says, or not before the profile was made."""
    moments = [moment for moment in (evidence.profile_since, evidence.role.created if evidence.role else None) if moment is not None]
    return max(moments, default=None)


def _is_outdated(node: Node, minimum: str | None) -> bool:
    if minimum:
        return _version(node["agent_version"]) < _version(minimum)
    return node["agent_is_latest"] is False


def _too_old_for_default_role(node: Node) -> str | None:
    """The version of its agent, if that is why it takes no default role."""
    version = node["agent_version"]
    return version if version and _version(version) < _version(because.DEFAULT_ROLE_AGENT) else None


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "0").split(".") if part.isdigit())


def profile_name(node: Node) -> str | None:
    """The name of a node's instance profile."""
    arn = node["instance_profile_arn"]
    return str(arn).rpartition("/")[2] if arn else None


def seconds(moment: str | None) -> float | None:
    """A node's time as seconds since the epoch."""
    return datetime.fromisoformat(moment).timestamp() if moment else None
