# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of AWS is: refused for its rate, not allowed, expired, of the moment. For modules, plugins and the mux alike.

botocore's exceptions are read by their ``response`` and names, so this module needs no botocore itself. No I/O.
"""

from __future__ import annotations

from typing import Any

THROTTLING_CODES = frozenset(
    ("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException", "TooManyRequestsException",
     "RequestLimitExceeded", "SlowDown", "PriorRequestNotComplete", "EC2ThrottledException", "BandwidthLimitExceeded", "LimitExceededException")
)  # fmt: skip
EXPIRED_CODES = frozenset(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"))
UNKNOWN_KEY_CODES = frozenset(("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure", "InvalidSignatureException"))
_TRANSIENT = frozenset(
    ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "ConnectionError", "HTTPClientError",
     "IncompleteReadError", "ResponseStreamingError")
)  # fmt: skip
_UNSENT = frozenset(
    ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "InvalidProxiesConfigError", "NoCredentialsError", "PartialCredentialsError",
     "CredentialRetrievalError", "ParamValidationError", "NoRegionError", "InvalidRegionError", "UnknownEndpointError")
)  # fmt: skip
DENIED_CODES = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"))


def _origin(error: BaseException) -> BaseException:
    """The error of AWS that another one carries as its `cause` (an account's, a node's), or the error itself."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _response(error: BaseException) -> dict[str, Any] | None:
    """What AWS answered; `None` if it did not. The last refusal, if a waiter ended by one."""
    origin = _origin(error)
    response, last = getattr(origin, "response", None), getattr(origin, "last_response", None)
    if response is None and isinstance(last, dict) and "Error" in last:
        return last
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


def is_transient(error: BaseException) -> bool:
    """The service or the way to it had a fault; another try may work. Whether the call had an effect is not known."""
    if _response(error) is not None:
        return http_status(error) >= 500
    name = type(_origin(error)).__name__
    return name in _TRANSIENT


def may_be_accepted(error: BaseException) -> bool:
    """A request without a good answer may have had an effect: the service has not refused it, and may have got it."""
    return http_status(error) >= 500 if error_code(error) else not _is_unsent(error)


def _is_unsent(error: BaseException) -> bool:
    """It surely did not reach the service. TLS can also break while the answer is read: only a certificate is judged before."""
    origin = _origin(error)
    name = type(origin).__name__
    return name in _UNSENT or (name == "SSLError" and "CERTIFICATE_VERIFY_FAILED" in str(origin))
