# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where errors of AWS become words: the resource, what is missing, and what to do.

How AWS's answers are told apart is in ``module_utils/aws_errors.py``.
"""

from __future__ import annotations

import re
from typing import ClassVar

from ...module_utils.aws_errors import (
    UNKNOWN_KEY_CODES,
    error_code,
    error_message,
    http_status,
    is_denied,
    is_expired,
    is_throttling,
    is_transient,
    may_be_accepted,
)
from .protocol import ErrorKind

__all__ = [
    "NO_DOCUMENT_CODES", "UNKNOWN_KEY_CODES", "PassingError", "RequestError", "ServiceFault", "TurnTooLate", "denied_resource", "error_code", "error_message",
    "explain", "http_status", "is_denied", "is_expired", "is_no_document", "is_throttling", "is_transient", "may_be_accepted", "unreachable",
]  # fmt: skip

NO_DOCUMENT_CODES = frozenset(("InvalidDocument", "InvalidDocumentVersion", "DocumentNotFound"))

_DENIED_ACTION = re.compile(r"not authorized to perform:? ?:?\s*([a-z0-9-]+:[A-Za-z]+)")
_PROXY_REFUSAL = re.compile(r"Tunnel connection failed: (\d{3}[ \w-]*)")
_DENIED_RESOURCE = re.compile(r"on resource:? ?:?\s*(arn:\S+)")


class RequestError(Exception):
    """A request ends with this error; the worker turns it into an error of Ansible."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PassingError(RequestError):
    """The node cannot be reached now, and nothing was run: another try may work."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNREACHABLE, message)


class ServiceFault(PassingError):
    """AWS throttled, or failed for the moment, while a node was looked for or a role assumed: another try may work. Nothing was run.

    Judged by its cause wherever an error is judged; its text is that of `explain` already.
    """

    def __init__(self, message: str, cause: BaseException) -> None:
        super().__init__(message)
        self.cause = cause


class TurnTooLate(Exception):
    """A call was not made: AWS limits its rate, and the calls before it take until after its deadline. Reads as AWS's own refusal."""

    response: ClassVar = {"Error": {"Code": "Throttling", "Message": "Rate exceeded by earlier calls; this one was not made"}}


def unreachable(message: str) -> RequestError:
    """The node cannot be reached and nothing was run."""
    return RequestError(ErrorKind.UNREACHABLE, message)


def is_no_document(error: BaseException) -> bool:
    """The session document does not exist, here."""
    if error_code(error) in NO_DOCUMENT_CODES:
        return True
    return error_code(error) == "ValidationException" and "document" in error_message(error).lower()


def denied_resource(error: BaseException) -> str:
    """What a missing permission would be for, as AWS names it in its refusal; empty if it does not."""
    found = _DENIED_RESOURCE.search(error_message(error).rstrip(".")) if is_denied(error) else None
    return found.group(1) if found else ""


def explain(error: BaseException, *, action: str, resource: str, who: str, region: str | None) -> str:
    """One sentence or two for a person.

    :param action: as IAM spells it, ``ssm:StartSession``.
    :param who: the identity, as the options name it.
    """
    if isinstance(error, ServiceFault):
        return str(error)
    code = error_code(error)
    message = error_message(error).rstrip(".")
    place = f" in {region}" if region else ""
    if is_denied(error):
        found = _DENIED_ACTION.search(message)
        missing = found.group(1) if found else action
        where = denied_resource(error) or resource
        if missing == "sts:AssumeRole":
            remedy = "its IAM policy must allow sts:AssumeRole, and the role's trust policy must name it"
            return f"{who} may not assume the role {where}: {remedy}. AWS says: {message}"
        return f"{who} may not {missing} on {where}{place}: allow the action {missing} in its IAM policy. AWS says: {message}"
    if is_no_document(error):
        return f"the session document {resource} does not exist{place} for {who}. AWS says: {message}"
    if is_expired(error):
        return f"The credentials of {who} have expired and could not be renewed: log in again or give new ones. AWS says: {message}"
    if code in UNKNOWN_KEY_CODES:
        return f"AWS does not accept the credentials of {who}{place} (action {action}): check the access key, or the clock of this machine. AWS says: {message}"
    if code == "RequestTimeTooSkewed":
        return f"AWS refuses {action}{place} for its time: the clock of this machine is wrong, set it. AWS says: {message}"
    if is_throttling(error):
        return f"AWS limits the rate of {action}{place} and went on doing so: use fewer forks or raise connection_timeout. AWS says: {message}"
    name = type(error).__name__
    if name == "EndpointConnectionError":
        return f"No connection for {action}{place}: {message}. Check the options 'region', 'endpoint_url' and 'proxy'"
    if name == "NoRegionError":
        return "No region is known: set the option 'region', AWS_REGION, or a region in the profile"
    if name == "SSLError":
        return f"The TLS certificate of the endpoint for {action} is not trusted: {message}. Set the option 'ca_bundle' if it is a private one"
    if name in ("ProxyConnectionError", "InvalidProxiesConfigError"):
        refusal = _PROXY_REFUSAL.search(str(getattr(error, "kwargs", {}).get("error", "")))
        why = f" ({refusal.group(1)})" if refusal else ""
        return f"The proxy cannot be used for {action}: {message}{why}. Check the option 'proxy' or HTTPS_PROXY"
    return f"{action} on {resource}{place} failed for {who}: {code + ': ' if code else ''}{message}"
