# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as AWS words and wraps them, for each of the protocols that the endpoint serves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from enum import StrEnum
from xml.sax.saxutils import escape


class WireProtocol(StrEnum):
    """How a service puts its answers."""

    JSON = "json"
    QUERY = "query"
    EC2 = "ec2"
    S3 = "s3"


class AwsError(Exception):
    """An answer of the service that is an error: `code`, `message`, HTTP status, and headers of its own."""

    def __init__(self, code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.headers = dict(headers or {})
        self.code, self.message, self.status = code, message, status

    def render(self, protocol: WireProtocol) -> tuple[bytes, str]:
        """Body and content type."""
        request_id = str(uuid.uuid4())
        if protocol is WireProtocol.JSON:
            # The SDKs read either spelling of the message; AWS itself is not consistent.
            return json.dumps({"__type": self.code, "message": self.message}).encode(), "application/x-amz-json-1.1"
        code, message = escape(self.code), escape(self.message)
        if protocol is WireProtocol.S3:
            text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
        elif protocol is WireProtocol.EC2:
            text = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                f"<RequestID>{request_id}</RequestID></Response>"
            )
        else:
            kind = "Sender" if self.status < 500 else "Receiver"
            text = (
                f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode(), "text/xml"


#: How each protocol says that credentials are unknown, have expired, or that a call is not allowed or too frequent.
_UNKNOWN = {
    WireProtocol.JSON: ("UnrecognizedClientException", "The security token included in the request is invalid.", 400),
    WireProtocol.QUERY: ("InvalidClientTokenId", "The security token included in the request is invalid.", 403),
    WireProtocol.EC2: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    WireProtocol.S3: ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", 403),
}
_EXPIRED = {
    WireProtocol.JSON: ("ExpiredTokenException", "The security token included in the request is expired", 400),
    WireProtocol.QUERY: ("ExpiredToken", "The security token included in the request is expired", 403),
    WireProtocol.EC2: ("RequestExpired", "Request has expired.", 400),
    WireProtocol.S3: ("ExpiredToken", "The provided token has expired.", 400),
}
_BAD_SIGNATURE_TEXT = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_BAD_SIGNATURE = {
    WireProtocol.JSON: ("InvalidSignatureException", _BAD_SIGNATURE_TEXT, 400),
    WireProtocol.QUERY: ("SignatureDoesNotMatch", _BAD_SIGNATURE_TEXT, 403),
    WireProtocol.EC2: ("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    WireProtocol.S3: ("SignatureDoesNotMatch", _BAD_SIGNATURE_TEXT, 403),
}
_UNSIGNED = {
    WireProtocol.JSON: ("MissingAuthenticationTokenException", "Missing Authentication Token", 400),
    WireProtocol.QUERY: ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    WireProtocol.EC2: ("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    WireProtocol.S3: ("AccessDenied", "Access Denied", 403),
}
_THROTTLED = {
    WireProtocol.JSON: ("ThrottlingException", "Rate exceeded", 400),
    WireProtocol.QUERY: ("Throttling", "Rate exceeded", 400),
    WireProtocol.EC2: ("RequestLimitExceeded", "Request limit exceeded.", 503),
    WireProtocol.S3: ("SlowDown", "Please reduce your request rate.", 503),
}
_FAILED = {
    WireProtocol.JSON: ("InternalServerError", "We encountered an internal error. Please try again."),
    WireProtocol.QUERY: ("InternalFailure", "The request processing has failed because of an unknown error."),
    WireProtocol.EC2: ("InternalError", "An internal error has occurred"),
    WireProtocol.S3: ("InternalError", "We encountered an internal error. Please try again."),
}


def unknown_credentials(protocol: WireProtocol) -> AwsError:
    """The access key or its session token is not known."""
    return AwsError(*_UNKNOWN[protocol])


def expired_credentials(protocol: WireProtocol) -> AwsError:
    """Temporary credentials are over."""
    return AwsError(*_EXPIRED[protocol])


def bad_signature(protocol: WireProtocol) -> AwsError:
    """The secret key was another, or the request was changed on its way."""
    return AwsError(*_BAD_SIGNATURE[protocol])


def unsigned(protocol: WireProtocol) -> AwsError:
    """No signature at all."""
    return AwsError(*_UNSIGNED[protocol])


def throttled(protocol: WireProtocol) -> AwsError:
    """Too many calls."""
    return AwsError(*_THROTTLED[protocol])


def failed(protocol: WireProtocol, status: int = 500) -> AwsError:
    """The service's own fault."""
    if status == 503:
        return AwsError("ServiceUnavailable", "Service is unable to handle request.", 503)
    return AwsError(*_FAILED[protocol], status)


def not_authorized(
    protocol: WireProtocol, principal: str, action: str, resource: str, *, explicit: bool, policy: str = "identity-based policy"
) -> AwsError:
    """IAM says no: `action` as `ssm:StartSession`, ARNs of the caller and of what it wanted, and the kind of policy that decides."""
    why = (
        f"with an explicit deny in {'an' if policy[0] in 'aeiou' else 'a'} {policy}"
        if explicit
        else f"because no {policy} allows the {action} action"
    )
    text = f"User: {principal} is not authorized to perform: {action} on resource: {resource} {why}"
    if protocol is WireProtocol.JSON:
        return AwsError("AccessDeniedException", text, 400)
    if protocol is WireProtocol.EC2:
        return AwsError("UnauthorizedOperation", f"You are not authorized to perform this operation. {text}", 403)
    return AwsError("AccessDenied", text, 403)
