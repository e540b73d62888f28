# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What policies of buckets let whom do, with their conditions: moto's own look at them knows no conditions, and nobody's name.

A deny wins. Whoever is of another account than the bucket needs an allow; in the bucket's own account policies of IAM would decide, so there
everything else is allowed. Every connection counts as one by TLS, and all accounts as of one organization.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, s3_backends

from .auth import Principal
from .errors import WireProtocol, not_authorized

ORGANIZATION = "o-fleetlab00"

_Test = Callable[[str, str], bool]
_TESTS: Mapping[str, _Test] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringLike": fnmatchcase,
    "ArnEquals": fnmatchcase,
    "ArnLike": fnmatchcase,
    "Bool": lambda value, wanted: value == wanted.lower(),
}


def install() -> None:
    """Let moto, in this process, leave policies to this file."""
    FakeBucket.get_permission = lambda *_arguments: PermissionResult.NEUTRAL


def check(principal: Principal, action: str, path: str) -> None:
    """Raise `AwsError` if the policy of the bucket does not let someone do that.

    :param action: as IAM writes it; :param path: bucket, or bucket and key.
    """
    owner, effects = _look(principal, action, path)
    if not owner or action == "s3:CreateBucket":
        return
    if "Deny" in effects or (principal.account != owner and "Allow" not in effects):
        resource = f"arn:aws:s3:::{path}"
        raise not_authorized(WireProtocol.S3, principal.arn, action, resource, explicit="Deny" in effects, policy="resource-based policy")


def anyone(action: str, path: str) -> Principal | None:
    """Who a caller without any credentials is, if the policy of the bucket lets everyone do that."""
    owner, effects = _look(Principal("", "anonymous", "anonymous"), action, path)
    return Principal(owner, "anonymous", "anonymous") if effects == {"Allow"} else None


def _look(principal: Principal, action: str, path: str) -> tuple[str, set[str]]:
    """A bucket's owner, empty if there is no such bucket, and the effects of its policy's statements that concern someone."""
    bucket = path.partition("/")[0]
    _partition, owner = s3_backends.bucket_accounts.get(bucket, ("", ""))
    policy = s3_backends[owner]["aws"].buckets[bucket].policy if owner else None
    statements = _listed(json.loads(policy)["Statement"]) if policy else []
    return owner, {each["Effect"] for each in statements if _concerns(each, principal, action, f"arn:aws:s3:::{path}")}


def _concerns(statement: Mapping[str, Any], principal: Principal, action: str, resource: str) -> bool:
    values = _values(principal)
    if not any(fnmatchcase(action.lower(), each.lower()) for each in _listed(statement["Action"])):
        return False
    named = statement["Principal"] if isinstance(statement["Principal"], str) else statement["Principal"].get("AWS", [])
    if not {"*", principal.account, f"arn:aws:iam::{principal.account}:root", principal.arn, values["aws:principalarn"]} & set(_listed(named)):
        return False
    excluded = "NotResource" in statement
    patterns = [each.replace("${aws:PrincipalAccount}", principal.account) for each in _listed(statement["NotResource" if excluded else "Resource"])]
    if any(fnmatchcase(resource, pattern) for pattern in patterns) is excluded:
        return False
    conditions = statement.get("Condition", {}).items()
    return all(_holds(operator, values.get(key.lower()), _listed(wanted)) for operator, keys in conditions for key, wanted in keys.items())


def _holds(operator: str, value: str | None, wanted: Sequence[str]) -> bool:
    """One condition. :raises KeyError: for an operator that the lab has not."""
    negated = "Not" in operator
    test = _TESTS[operator.replace("Not", "")]
    return (value is not None and any(test(value, each) for each in wanted)) is not negated


def _values(principal: Principal) -> dict[str, str]:
    arn = f"arn:aws:iam::{principal.account}:role/{principal.role}" if principal.role else principal.arn
    return {
        "aws:securetransport": "true", "aws:principalaccount": principal.account, "aws:principalorgid": ORGANIZATION, "aws:principalarn": arn,
    }  # fmt: skip


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
