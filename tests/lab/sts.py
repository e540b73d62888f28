# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AssumeRole and GetCallerIdentity: ours and not moto's, since these credentials can expire and carry a checked trust."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from . import moto_bridge
from .auth import Credential, Principal
from .errors import AwsError, WireProtocol, not_authorized
from .world import World

_ROLE_ARN = re.compile(r"arn:[\w-]+:iam::(\d{12}):role/(?:.*/)?([\w+=,.@-]{1,64})")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}")
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def answer(world: World, principal: Principal, action: str, parameters: Mapping[str, str]) -> str | None:
    """The XML answer, None for an action that is moto's; raises `AwsError`."""
    if action == "GetCallerIdentity":
        fields = {"Arn": principal.arn, "UserId": f"AIDA{principal.name}", "Account": principal.account}
        return _envelope(action, "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items()))
    if action == "AssumeRole":
        return _assume_role(world, principal, parameters)
    if action == "GetSessionToken":
        credential = world.vault.issue(principal, _lifetime(world, parameters, 43_200))
        return _envelope(action, _credentials(credential))
    return None


def _assume_role(world: World, caller: Principal, parameters: Mapping[str, str]) -> str:
    arn, name = parameters.get("RoleArn", ""), parameters.get("RoleSessionName", "")
    found = _ROLE_ARN.fullmatch(arn)
    if found is None:
        raise AwsError("ValidationError", f"{arn} is invalid")
    if _SESSION_NAME.fullmatch(name) is None:
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: "
            r"Member must satisfy regular expression pattern: [\w+=,.@-]*",
        )
    account, role_name = found.groups()
    role = moto_bridge.role_of(account, role_name)
    if role is None or not _trusts(role.assume_role_policy_document, caller, parameters.get("ExternalId")):
        raise not_authorized(WireProtocol.QUERY, caller.arn, "sts:AssumeRole", arn, explicit=False)
    seconds = _lifetime(world, parameters, 3_600)
    if int(parameters.get("DurationSeconds", 0)) > int(role.max_session_duration or 3_600):
        raise AwsError(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    session_arn = f"arn:aws:sts::{account}:assumed-role/{role_name}/{name}"
    credential = world.vault.issue(Principal(account, session_arn, name, role=role_name), seconds)
    user = f"<AssumedRoleUser><AssumedRoleId>{role.id}:{name}</AssumedRoleId><Arn>{session_arn}</Arn></AssumedRoleUser>"
    return _envelope("AssumeRole", user + _credentials(credential))


def _lifetime(world: World, parameters: Mapping[str, str], default: int) -> float:
    seconds = int(parameters.get("DurationSeconds") or default)
    if not 900 <= seconds <= 129_600:
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value greater than or equal to 900",
        )
    return world.settings.credentials_seconds or float(seconds)


def _trusts(policy: str | Mapping[str, Any], caller: Principal, external_id: str | None) -> bool:
    """Whether a trust policy lets the caller in: AWS principals, and the condition on sts:ExternalId."""
    document = json.loads(policy) if isinstance(policy, str) else policy
    statements = document.get("Statement", [])
    for statement in [statements] if isinstance(statements, Mapping) else statements:
        principals = statement.get("Principal", {})
        named = principals if isinstance(principals, str) else principals.get("AWS", [])
        wanted = [named] if isinstance(named, str) else named
        accepted = {"*", caller.account, f"arn:aws:iam::{caller.account}:root", caller.arn}
        if caller.role is not None:
            accepted.add(f"arn:aws:iam::{caller.account}:role/{caller.role}")
        if statement.get("Effect") != "Allow" or not accepted & set(wanted):
            continue
        required = statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId")
        if required is None or external_id in ([required] if isinstance(required, str) else required):
            return True
    return False


def _credentials(credential: Credential) -> str:
    assert credential.expires is not None and credential.token is not None
    end = datetime.datetime.fromtimestamp(credential.expires, datetime.UTC)
    return (
        f"<Credentials><AccessKeyId>{credential.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{credential.secret_key}</SecretAccessKey><SessionToken>{credential.token}</SessionToken>"
        f"<Expiration>{end.isoformat(timespec='seconds').replace('+00:00', 'Z')}</Expiration></Credentials>"
    )


def _envelope(action: str, result: str) -> str:
    return (
        f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata></{action}Response>"
    )
