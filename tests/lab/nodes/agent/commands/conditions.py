# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step runs, is skipped, or fails: plugins that do not exist here, conditions, steps before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from .order import Step

#: Every plugin that the agent knows by name, on whatever platform.
KNOWN = frozenset(
    {
        *("aws:applications", "aws:cloudWatch", "aws:configureDaemon", "aws:configureDocker", "aws:configurePackage"),
        *("aws:domainJoin", "aws:downloadContent", "aws:psModule", "aws:refreshAssociation", "aws:runDocument"),
        *("aws:runDockerAction", "aws:runPowerShellScript", "aws:runShellScript", "aws:softwareInventory"),
        *("aws:updateAgent", "aws:updateSsmAgent"),
    }
)


class Decision(Enum):
    EXECUTE = auto()
    SKIP = auto()
    FAIL = auto()


def decide(step: Step, *, platform: str, here: bool, supported: bool, left: bool) -> tuple[Decision, str]:
    """What becomes of a step, and the agent's words for it.

    `here`: there is code for the plugin; `supported`: the plugin is one of this `platform`; `left`: a step before this
    one ended the document.
    """
    plugin, name = step.plugin, step.step_id
    if left:
        return Decision.SKIP, f"Plugin with name {plugin} and id {name} skipped due to prior step with an exit condition"
    unknown = (
        Decision.FAIL,
        f"Plugin with name {plugin} is not supported by this version of ssm agent, please update to latest version. "
        f"Step name: {name}",
    )
    if not step.cross_platform:
        if plugin not in KNOWN:
            return unknown
        if not supported:
            return Decision.FAIL, f"Plugin with name {plugin} is not supported in current platform. Step name: {name}"
        if step.conditions:
            return (
                Decision.FAIL,
                f"Precondition is not supported for document schema version prior to 2.2. Step name: {name}",
            )
        if not here:
            return Decision.FAIL, f"Plugin with name {plugin} not found. Step name: {name}"
        return Decision.EXECUTE, ""
    allowed, complaints = evaluate(step.conditions, platform)
    if plugin not in KNOWN and allowed:
        return unknown
    if not (supported and here):
        return Decision.SKIP, f"Step execution skipped due to unsupported plugin: {plugin}. Step name: {name}"
    if not allowed:
        return (
            Decision.SKIP,
            f"Step execution skipped due to unsatisfied preconditions: '{', '.join(complaints)}'. Step name: {name}",
        )
    if complaints:
        return (
            Decision.FAIL,
            f"Unrecognized precondition(s): '{', '.join(complaints)}', please update agent to latest version. "
            f"Step name: {name}",
        )
    return Decision.EXECUTE, ""


def evaluate(conditions: Mapping[str, Sequence[tuple[str, str]]], platform: str) -> tuple[bool, list[str]]:
    """Whether conditions hold, and what is to be said about those that do not or are none."""
    allowed, complaints = True, []
    for operator, arguments in conditions.items():
        if operator != "StringEquals":
            complaints.append(f'unrecognized operator: "{operator}"')
        elif len(arguments) != 2:
            complaints.append(f'"{operator}": operator accepts exactly 2 arguments')
        else:
            holds, complaint = _string_equals(operator, arguments[0], arguments[1], platform)
            allowed = allowed and holds
            complaints.extend([complaint] if complaint else [])
    return allowed, complaints


def _string_equals(operator: str, one: tuple[str, str], other: tuple[str, str], platform: str) -> tuple[bool, str]:
    if one[0] == other[0]:
        if one[0] == "platformType":
            return True, f'"{operator}": [{one[0]} {other[0]}]'
        return True, f"\"{operator}\": operator's arguments can't be identical"
    if "platformType" in (one[0], other[0]):
        written, resolved = other if one[0] == "platformType" else one
        if written.lower() != resolved.lower():
            return (
                True,
                f"\"{operator}\": the second argument for the platformType variable can't contain document parameters",
            )
        if platform != written.lower():
            return False, f'"{operator}": [{one[0]}, {other[0]}]'
        return True, ""
    if one[0] == one[1] and other[0] == other[1]:
        return (
            True,
            f"\"{operator}\": at least one of operator's arguments must contain a valid document parameter",
        )
    if one[1] != other[1]:
        return False, f'"{operator}": [{one[0]}, {other[0]}]'
    return True, ""
