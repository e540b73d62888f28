# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where errors of AWS become words: the resource, what is missing, and what to do.

botocore's exceptions are read by their ``response`` and names, so this module needs no botocore itself.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from .protocol import ErrorKind

THROTTLING_CODES = frozenset(
    ("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException",
     "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete", "EC2ThrottledException", "BandwidthLimitExceeded", "LimitExceededException")
)  # fmt: skip
EXPIRED_CODES = frozenset(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"))
UNKNOWN_KEY_CODES = frozenset(("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure", "InvalidSignatureException"))
DENIED_CODES = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"))
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


def _origin(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, ServiceFault) else error


def _response(error: BaseException) -> dict[str, Any] | None:
    """What AWS answered; `None` if it did not."""
    response = getattr(_origin(error), "response", None)
    return response if isinstance(response, dict) else None


def error_code(error: BaseException) -> str:
    """AWS's code of a botocore ClientError; empty for other exceptions."""
    return str((_response(error) or {}).get("Error", {}).get("Code", ""))


def error_message(error: BaseException) -> str:
    """AWS's message of a ClientError, or the exception's own text."""
    text = str((_response(error) or {}).get("Error", {}).get("Message", ""))
    return text or str(error) or type(error).__name__


def http_status(error: BaseException) -> int:
    """The HTTP status of a ClientError; 0 if there was no answer."""
    return int((_response(error) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_throttling(error: BaseException) -> bool:
    """Refused for its rate alone, so surely not executed."""
    return error_code(error) in THROTTLING_CODES or http_status(error) == 429


def is_expired(error: BaseException) -> bool:
    """The credentials ran out."""
    return error_code(error) in EXPIRED_CODES


def is_denied(error: BaseException) -> bool:
    """A permission is missing."""
    return error_code(error) in DENIED_CODES


def is_no_document(error: BaseException) -> bool:
    """The session document does not exist, here."""
    if error_code(error) in NO_DOCUMENT_CODES:
        return True
    return error_code(error) == "ValidationException" and "document" in error_message(error).lower()


def is_transient(error: BaseException) -> bool:
    """The service or the way to it had a fault; another try may work. Whether the call had an effect is not known."""
    if _response(error) is not None:
        return http_status(error) >= 500
    name = type(_origin(error)).__name__
    return name in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "ConnectionError", "HTTPClientError")


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
        on = _DENIED_RESOURCE.search(message)
        where = on.group(1) if on else resource
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
