# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The causes for which a node is not online: each with its code, a sentence, and a remedy. No I/O.

Facts about the agent (its back-off, hibernation, the clock) are those of the public source of amazon-ssm-agent and of AWS's documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

#: The longest pause of an agent that found no credentials or was refused, in seconds; the first is five minutes, and it doubles.
LONGEST_BACK_OFF = 3600.0

#: The first agent that takes the role of the default host management configuration (AWS's documentation of it).
DEFAULT_ROLE_AGENT = "3.2.582.0"


class Likelihood(StrEnum):
    """How sure a cause is."""

    CERTAIN = "certain"  #: it is so, and reason enough
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(frozen=True)
class Cause:
    """One reason, for a person who can do something about it."""

    cause: str  #: a code, for programs
    likelihood: Likelihood
    sentence: str
    remedy: str

    def describe(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def instance_state(state: str) -> Cause:
    remedy = "Start it." if state in ("stopped", "stopping") else "Remove it from the task."
    return Cause("instance_stopped", Likelihood.CERTAIN, f"The instance is {state}.", remedy)


def instance_starting() -> Cause:
    return Cause("instance_starting", Likelihood.LIKELY, "The instance is still starting.", "Wait some minutes.")


def status_check_failed(check: str) -> Cause:
    remedy = {
        "system": "Stop it and start it again, which moves it to other hardware.",
        "instance": "Look at its console output and reboot it; a full disk or memory and a broken network configuration are the usual reasons.",
    }
    return Cause("status_check_failed", Likelihood.CERTAIN, f"EC2's {check} status check fails.", remedy[check])


def metadata_disabled() -> Cause:
    return Cause(
        "metadata_disabled", Likelihood.CERTAIN, "The instance metadata service is disabled, so the agent has neither an identity nor a role.",
        "Enable it: aws ec2 modify-instance-metadata-options --http-endpoint enabled --http-tokens required, and restart the agent.",
    )  # fmt: skip


def no_role(default_role: str | None) -> Cause:
    return Cause(
        "no_role", _without(default_role), "It has no instance profile.",
        "Attach one whose role has AmazonSSMManagedInstanceCore (fleet.ssm.instance_profile_association does that while it runs), or turn on the default "
        "host management configuration; then restart the agent, since it looks for a role again only after five minutes to an hour.",
    )  # fmt: skip


def default_role_unused(role: str, too_old: str | None) -> Cause:
    of = f"the role {role} of the default host management configuration"
    return Cause(
        "default_role_unused", Likelihood.CERTAIN if too_old else Likelihood.LIKELY,
        f"It has no instance profile, and its agent {too_old} is too old for {of}." if too_old else f"It has no instance profile, and does not take {of}.",
        f"That needs agent {DEFAULT_ROLE_AGENT} or newer and version 2 of the metadata service. Update the agent, or attach an instance profile.",
    )  # fmt: skip


def role_missing(profile: str) -> Cause:
    return Cause(
        "role_missing", Likelihood.CERTAIN, f"Its instance profile {profile} holds no role, or was deleted.",
        "Put a role into the profile, or attach another one, and restart the agent.",
    )  # fmt: skip


def role_without_permission(role: str, missing: Iterable[str], default_role: str | None) -> Cause:
    return Cause(
        "role_without_permission", _without(default_role),
        f"Its role {role} is not allowed {', '.join(sorted(missing))}.",
        "Attach AmazonSSMManagedInstanceCore to it, and look at its permissions boundary and service control policies. An agent that was refused tries again "
        "after five minutes to an hour; restart it to shorten that.",
    )  # fmt: skip


def agent_back_off(profile: str, since: float, launched: float) -> Cause:
    minutes = max(1, round((since - launched) / 60))
    return Cause(
        "agent_back_off", Likelihood.LIKELY,
        f"Its instance profile {profile} came {minutes} minutes after its start. An agent that found no role looks again after five minutes, and then more "
        "and more seldom, up to an hour.",
        f"Restart the agent (systemctl restart amazon-ssm-agent) or reboot the instance; else it comes by itself until {_clock(since + LONGEST_BACK_OFF)}.",
    )  # fmt: skip


def perhaps_back_off(profile: str) -> Cause:
    return Cause(
        "agent_back_off", Likelihood.POSSIBLE, f"Its instance profile {profile} may have come after its start; an agent that found no role then looks again "
        "only after five minutes to an hour.",
        "Restart the agent (systemctl restart amazon-ssm-agent) or reboot the instance.",
    )  # fmt: skip


def no_route(sentence: str, remedy: str) -> Cause:
    return Cause("no_route", Likelihood.LIKELY, sentence, remedy)


def registered_as_hybrid(others: Iterable[str]) -> Cause:
    return Cause(
        "registered_as_hybrid", Likelihood.LIKELY, f"The machine at its address is online as hybrid node {', '.join(others)}: the agent goes by an activation, "
        "perhaps one that was left in the image.",
        "On the machine, run amazon-ssm-agent -register -clear and restart the agent. Then deregister the hybrid node.",
    )  # fmt: skip


def registered_again(others: Iterable[str]) -> Cause:
    return Cause(
        "registered_again", Likelihood.LIKELY, f"The same machine is online as {', '.join(others)}: it was registered again.",
        "Deregister the old node (aws ssm deregister-managed-instance).",
    )  # fmt: skip


def several_agents(machines: Iterable[str], returning: bool) -> Cause:
    return Cause(
        "several_agents", Likelihood.CERTAIN if returning else Likelihood.LIKELY,
        f"Several machines speak under this id: {', '.join(dict.fromkeys(machines))}. They take each other's commands.",
        "They are clones of one that was registered. On all but one, run amazon-ssm-agent -register -clear, and register them with an activation of their own. "
        "Register machines after they were cloned, not before.",
    )  # fmt: skip


def agent_stopped(likelihood: Likelihood, last_ping: str | None, restarted: str | None) -> Cause:
    heard = f"was heard last at {last_ping}" if last_ping else "is not heard any more"
    if restarted:
        sentence = f"The agent {heard}, before the instance was started at {restarted}: it does not start with the machine, or fails."
    else:
        sentence = f"The agent {heard}, and the instance runs: the agent has stopped, or the machine hangs."
    return Cause(
        "agent_stopped", likelihood, sentence,
        "Start the agent (systemctl enable --now amazon-ssm-agent, on Windows Start-Service AmazonSSMAgent). Its log in /var/log/amazon/ssm says why it ended.",
    )  # fmt: skip


def machine_away(likelihood: Likelihood, last_ping: str | None) -> Cause:
    heard = f"since {last_ping}" if last_ping else "any more"
    return Cause(
        "machine_away", likelihood, f"The machine or its agent was not heard {heard}: it is off, its agent stopped, or its network has no way out.",
        "Start the machine and its agent; it must reach ssm and ssmmessages of its region on port 443.",
    )  # fmt: skip


def agent_not_running(likelihood: Likelihood) -> Cause:
    return Cause(
        "agent_not_running", likelihood, "The agent is not installed, or does not run.",
        "Install and start it, as the role fleet.ssm.agent does over ssh or as user data; systemctl status amazon-ssm-agent tells whether it runs.",
    )  # fmt: skip


def clock_wrong(likelihood: Likelihood) -> Cause:
    if likelihood is Likelihood.POSSIBLE:
        seen = "The machine's clock may be wrong: AWS refuses requests that are signed more than five minutes off."
    else:
        seen = "The agent says that its requests are refused for their time: the machine's clock is wrong."
    return Cause("clock_wrong", likelihood, seen, "Set the clock, and let it follow a time service (on EC2: 169.254.169.123), then restart the agent.")


def hop_limit() -> Cause:
    return Cause(
        "hop_limit", Likelihood.POSSIBLE, "The metadata service wants tokens and lets them go one hop: an agent in a container gets none.",
        "If the agent runs in a container: aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2, or give the container the host's network.",
    )  # fmt: skip


def refused() -> Cause:
    return Cause(
        "role_without_permission", Likelihood.LIKELY, "The agent says that it is refused.",
        "Look at the role's policies, its permissions boundary, service control policies and the policies of VPC endpoints; then restart the agent.",
    )  # fmt: skip


def unreachable() -> Cause:
    return Cause(
        "no_route", Likelihood.LIKELY, "The agent says that it does not reach the endpoints.",
        "Look at route tables, VPC endpoints and their security groups, network ACLs, DNS, and the proxy of the agent.",
    )  # fmt: skip


def agent_outdated(version: str | None, minimum: str | None) -> Cause:
    than = f"older than {minimum}" if minimum else "not the latest"
    return Cause(
        "agent_outdated", Likelihood.CERTAIN, f"Its agent {version or 'of unknown version'} is {than}.",
        "Update it: playbook fleet.ssm.update_agents, or the document AWS-UpdateSSMAgent.",
    )  # fmt: skip


def _without(default_role: str | None) -> Likelihood:
    """How sure a cause is that a default role would do away with: it is known that there is none, or that there is one, or nothing (None)."""
    return Likelihood.CERTAIN if default_role == "" else Likelihood.LIKELY


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
