# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of AWS in words: the resource, what is missing, what to do."""

from __future__ import annotations

import botocore.exceptions
import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import errors

NODE = "i-0123456789abcdef0"


def client_error(code: str, message: str = "no", status: int = 400) -> botocore.exceptions.ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(response, "StartSession")  # type: ignore[arg-type]


def explain(error: BaseException) -> str:
    return errors.explain(error, action="ssm:StartSession", resource=NODE, who="the profile ops", region="eu-central-1")


def test_a_missing_permission_is_named_as_aws_names_it() -> None:
    message = (
        "User: arn:aws:iam::1:user/x is not authorized to perform: ssm:StartSession on resource: arn:aws:ec2:eu-central-1:1:instance/i-1"
        " because no identity-based policy allows the ssm:StartSession action"
    )
    text = explain(client_error("AccessDeniedException", message))
    assert "ssm:StartSession on arn:aws:ec2:eu-central-1:1:instance/i-1" in text
    assert "profile ops" in text and "IAM policy" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (client_error("AccessDeniedException"), ["ssm:StartSession", NODE]),
        (client_error("ExpiredTokenException"), ["expired", "log in"]),
        (client_error("UnrecognizedClientException"), ["does not accept", "access key"]),
        (client_error("ThrottlingException"), ["rate of ssm:StartSession", "forks"]),
        (client_error("InvalidDocument", "Document with name X does not exist"), ["session document", "does not exist"]),
        (client_error("Weird", "strange things"), ["Weird", "strange things", NODE]),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"), ["region", "endpoint_url", "proxy"]),
        (botocore.exceptions.NoRegionError(), ["AWS_REGION"]),
        (botocore.exceptions.SSLError(endpoint_url="https://x", error="self-signed"), ["ca_bundle"]),
        (botocore.exceptions.ProxyConnectionError(proxy_url="http://p"), ["proxy"]),
    ],
)
def test_every_error_says_what_to_do(error: Exception, words: list[str]) -> None:
    text = explain(error)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("error", "throttling", "transient"),
    [
        (client_error("ThrottlingException"), True, False),
        (client_error("RequestLimitExceeded", status=503), True, True),
        (client_error("Whatever", status=429), True, False),
        (client_error("InternalServerError", status=500), False, True),
        (client_error("TargetNotConnected"), False, False),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="https://x"), False, True),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="https://x"), False, True),
        (ValueError("x"), False, False),
    ],
)
def test_what_may_be_tried_again(error: Exception, throttling: bool, transient: bool) -> None:
    assert errors.is_throttling(error) is throttling
    assert errors.is_transient(error) is transient
