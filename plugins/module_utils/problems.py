# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWS refused, said so that a person knows what to do: the account, the missing action, the remedy. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .accounts import INVENTORY_FILE, Account
from .aws_errors import UNKNOWN_KEY_CODES, error_code, error_message, is_denied, is_expired, is_throttling

#: What to do other than allowing an action.
_NO_ORGANIZATION = "ask by the management account or a delegated administrator of the organization, or name the accounts in 'accounts'"
_WITHOUT = {
    "tag:GetResources": "set 'hybrid: false'",
    "ec2:DescribeRegions": "name the regions in 'regions'",
    "organizations:ListAccounts": _NO_ORGANIZATION,
    "organizations:ListAccountsForParent": _NO_ORGANIZATION,
    "organizations:ListOrganizationalUnitsForParent": _NO_ORGANIZATION,
}
#: What to do about other refusals, by their code.
_BY_CODE = {
    "AWSOrganizationsNotInUseException": "Remove 'organization', or use the credentials of an account that is in one.",
    "ParentNotFoundException": "Check 'units' of 'organization'.",
}
_UNKNOWN_KEY_CODES = UNKNOWN_KEY_CODES | {"OptInRequired"}
_LOGIN_ERRORS = frozenset({"UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError", "CredentialRetrievalError"})
_WRONG_PLACE = "Check the name in 'regions', and network, proxy and endpoint settings."
#: What botocore calls by itself while it resolves the credentials of a profile.
_CREDENTIAL_ACTIONS = {
    "AssumeRole": "sts:AssumeRole",
    "AssumeRoleWithSAML": "sts:AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity": "sts:AssumeRoleWithWebIdentity",
    "GetRoleCredentials": "sso:GetRoleCredentials",
}
_REMEDIES = {
    "ProfileNotFound": "Correct 'profile', or add it to ~/.aws/config.",
    "EndpointConnectionError": _WRONG_PLACE,
    "ConnectTimeoutError": _WRONG_PLACE,
    "InvalidRegionError": _WRONG_PLACE,
    "SSLError": "Check AWS_CA_BUNDLE.",
    "ProxyConnectionError": "Check HTTPS_PROXY and NO_PROXY.",
}
_PROVIDERS = "credential_process must print JSON, source_profile must exist"
_ROLE = re.compile(r"\barn:aws[a-z-]*:iam::\d{12}:role/\S*[^\s.,:]")
_ACTION = re.compile(r"\bnot authorized to perform: ([\w-]+:\w+)")
_CALLER = re.compile(r"\barn:aws[a-z-]*:(?:sts|iam)::\d{12}:\S*[^\s.,:]")


class CollectError(Exception):
    """One account, or one region of it, could not be read."""

    def __init__(self, account: Account, region: str | None, action: str, text: str, remedy: str, cause: BaseException | None = None) -> None:
        super().__init__(f"{account.label}{f', region {region}' if region else ''}: {text} {remedy}".strip())
        self.account = account
        self.region = region
        self.action = action  #: as IAM writes it, e.g. ssm:DescribeInstanceInformation
        self.text = text
        self.remedy = remedy
        self.cause = cause  #: what botocore raised, so that `aws_errors` can judge it


@dataclass(frozen=True)
class Problem:
    """The same failure in one or more regions of an account."""

    label: str
    regions: tuple[str, ...]
    text: str
    remedy: str

    def __str__(self) -> str:
        word = "region" if len(self.regions) == 1 else "regions"
        place = f", {word} {', '.join(self.regions)}" if self.regions else ""
        return f"{self.label}{place}: {self.text} {self.remedy}".strip()


def merge(errors: Iterable[CollectError]) -> list[Problem]:
    """One problem for an account and a text, since a missing action is missing in all of its regions."""
    regions: dict[tuple[str, str, str], set[str]] = {}
    for error in errors:
        found = regions.setdefault((error.account.label, error.text, error.remedy), set())
        if error.region:
            found.add(error.region)
    return [Problem(label, tuple(sorted(names)), text, remedy) for (label, text, remedy), names in regions.items()]


def told(errors: Iterable[CollectError]) -> list[str]:
    """The same as sentences."""
    return [str(problem) for problem in merge(errors)]


def explain(account: Account, region: str | None, action: str, error: Exception, source: str = INVENTORY_FILE) -> CollectError:
    """Say what an error of botocore means here. Its classes are known by name, so that this file needs no botocore.

    :param action: as IAM writes it, e.g. ``ec2:DescribeInstances``, or what else was tried.
    :param source: where the account is written.
    """
    kind, code, message = type(error).__name__, error_code(error), error_message(error).rstrip(".")
    resolving = action == "credentials"
    action = _CREDENTIAL_ACTIONS.get(getattr(error, "operation_name", ""), action) if resolving else action
    caller = _CALLER.search(message)
    who = caller[0] if caller else "these credentials"
    remedy = ""
    if is_denied(error) and action == "sts:AssumeRole":
        role = _ROLE.search(message.partition(" on resource: ")[2])
        name = role[0] if role else "of the profile" if resolving else account.role_arn
        text = f"the role {name} cannot be assumed: {action} is not allowed for {who}."
        condition = "check its sts:ExternalId against external_id" if account.external_id else "give external_id if it asks for one"
        remedy = f"Allow {action} on the role in the policy of the caller, and the caller in the trust policy of the role ({condition})."
    elif is_denied(error):
        named = _ACTION.search(message)  # may be another one than was called, such as iam:PassRole
        action = named[1] if named and not resolving else action
        text = f"{action} is not allowed for {who}."
        remedy = f"Allow the action {action} in its policy, or {_WITHOUT.get(action, f'remove the account from {source}')}."
    elif is_expired(error):
        text, remedy = "the credentials have expired.", _renewal(account)
    elif code in _UNKNOWN_KEY_CODES:
        text = f"AWS does not accept these credentials here ({code} from {action})."
        remedy = "Check the access key, and that the region is enabled in this account; 'regions: all' asks enabled ones only."
    elif is_throttling(error):
        text = f"{action} was throttled in spite of repeated attempts ({code})."
        remedy = "Lower 'max_workers', or keep results with 'cache: true'." if source == INVENTORY_FILE else "Try again later."
    elif code:
        text, remedy = f"{action} failed with {code}: {message}.", _BY_CODE.get(code, "")
    elif kind in ("NoCredentialsError", "PartialCredentialsError"):
        text = "no AWS credentials were found."
        remedy = f"Set 'profile' in {source}, or AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment."
    elif resolving and _is_not_of_botocore(error):
        # A program's or a file's fault, in the words of whoever stumbled over it.
        text = f"its credentials cannot be had: {kind}: {message}."
        remedy = f"Check the settings {f'of profile {account.base.profile}' if account.base.profile else 'that are used'} in ~/.aws/config: {_PROVIDERS}."
    elif "endpoint" in message.lower() and isinstance(error, ValueError):
        text, remedy = f"{action}: {message}.", "Write endpoint_url (and AWS_ENDPOINT_URL, and that of the profile) with its scheme, as https://HOST:PORT."
    else:
        text = f"{action}: {message}."
        remedy = _renewal(account) if kind in _LOGIN_ERRORS else _REMEDIES.get(kind, "")
    return CollectError(account, region, action, text, remedy, error)


def _is_not_of_botocore(error: Exception) -> bool:
    return not any(kind.__module__.startswith("botocore.") for kind in type(error).__mro__)


def _renewal(account: Account) -> str:
    return f"Renew them, e.g. with: aws sso login --profile {account.base.profile}" if account.base.profile else "Renew them and run again."
