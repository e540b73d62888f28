# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May they? Rules by action, principal and resource, off until the first is given.

A deny wins. A principal for which any allow rule exists may do only what such rules allow; for the others all is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .auth import Principal
from .errors import WireProtocol, not_authorized
from .sessions import session_prefix

#: Operations whose action has another name (AWS's documentation of S3's actions).
PERMITTED_BY = {"s3:HeadBucket": "s3:ListBucket"}

#: Who one is may be asked by everyone, whatever policies say (AWS's documentation of the action).
ALWAYS_ALLOWED = frozenset({"sts:GetCallerIdentity"})


@dataclass(frozen=True)
class Rule:
    """Patterns with * and ?; `principal` is matched with the ARN, the role's name and the user's or session's name."""

    effect: str  #: allow | deny
    action: str = "*"
    principal: str = "*"
    resource: str = "*"

    def concerns(self, principal: Principal) -> bool:
        """Whether a rule is about someone."""
        names = (principal.arn, principal.role or "", principal.name)
        return any(fnmatchcase(name, self.principal) for name in names)

    def matches(self, principal: Principal, action: str, resource: str) -> bool:
        """IAM's actions ignore case, its ARNs do not."""
        return fnmatchcase(action.lower(), self.action.lower()) and fnmatchcase(resource, _filled(self.resource, principal))


class Permissions:
    """The rules in force.

    :param own: the rules of a principal's own policies, beyond which nothing is allowed to it; None where they are not looked at.
    """

    def __init__(self, own: Callable[[Principal], list[Rule] | None] = lambda principal: None) -> None:
        self.rules: list[Rule] = []
        self._own = own
        self.endpoint: list[Rule] = []
        """Of the policy of the VPC's endpoint for S3. What nodes ask goes through it, by their own credentials or by URLs that others have signed."""

    def check(self, principal: Principal, action: str, resources: Sequence[str], protocol: WireProtocol) -> None:
        """Raise `AwsError` as the service would if the call is not allowed for every one of the resources."""
        action = PERMITTED_BY.get(action, action)
        own = self._own(principal)
        if (not self.rules and own is None) or action in ALWAYS_ALLOWED:
            return
        rules = [*(rule for rule in self.rules if rule.concerns(principal)), *(own or ())]
        allowing = [rule for rule in rules if rule.effect == "allow"]
        for resource in resources or ("*",):
            if any(rule.effect == "deny" and rule.matches(principal, action, resource) for rule in rules):
                raise not_authorized(protocol, principal.arn, action, resource, explicit=True)
            if (allowing or own is not None) and not any(rule.matches(principal, action, resource) for rule in allowing):
                raise not_authorized(protocol, principal.arn, action, resource, explicit=False)

    def check_endpoint(self, principal: Principal, action: str, resources: Sequence[str]) -> None:
        """Raise `AwsError` if the endpoint's policy, where there is one, does not let a request to S3 pass."""
        if not self.endpoint:
            return
        for resource in resources:
            rules = [rule for rule in self.endpoint if rule.matches(principal, action, resource)]
            denied = any(rule.effect == "deny" for rule in rules)
            if denied or not rules:
                raise not_authorized(WireProtocol.S3, principal.arn, action, resource, explicit=denied, policy="VPC endpoint policy")


def rules_of_policy(principal: str, policy: Mapping[str, Any]) -> Iterable[Rule]:
    """The rules that an IAM policy document means; its conditions are not looked at."""
    statements = policy["Statement"]
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        for action in _listed(statement.get("Action", "*")):
            for resource in _listed(statement.get("Resource", "*")):
                yield Rule(statement["Effect"].lower(), action, principal, resource)


def _filled(pattern: str, principal: Principal) -> str:
    """A pattern with its variables replaced. For AWS's sample policies ids of one's own sessions begin with `${aws:userid}`."""
    for variable in ("${aws:userid}", "${aws:username}"):
        pattern = pattern.replace(variable, session_prefix(principal))
    return pattern


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
