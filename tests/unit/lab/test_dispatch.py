# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service and action a request means, whatever protocol it speaks; and what policies make of it."""

from __future__ import annotations

import pytest

from tests.lab.auth import Principal, RawRequest
from tests.lab.dispatch import understand
from tests.lab.errors import AwsError, WireProtocol
from tests.lab.permissions import Permissions, Rule, rules_of_policy

JSON, QUERY, EC2, S3 = WireProtocol.JSON, WireProtocol.QUERY, WireProtocol.EC2, WireProtocol.S3
FORM = "application/x-www-form-urlencoded; charset=utf-8"


def signed(service: str, **headers: str) -> dict[str, str]:
    scope = f"AKIA/20260101/eu-central-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0", **headers}


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "name", "protocol"),
    [
        ("POST", "/", signed("ssm", **{"X-Amz-Target": "AmazonSSM.StartSession"}), b"{}", "ssm:StartSession", JSON),
        ("POST", "/", {"X-Amz-Target": "AmazonSSM.RegisterManagedInstance"}, b"{}", "ssm:RegisterManagedInstance", JSON),
        ("POST", "/", signed("ec2messages", **{"X-Amz-Target": "EC2WindowsMessageDeliveryService.GetMessages"}), b"{}", "ec2messages:GetMessages", JSON),
        ("POST", "/", signed("ec2", **{"Content-Type": FORM}), b"Action=DescribeInstances&Version=1", "ec2:DescribeInstances", EC2),
        ("POST", "/", signed("sts", **{"Content-Type": FORM}), b"Action=AssumeRole", "sts:AssumeRole", QUERY),
        ("GET", "/bucket", signed("s3"), b"", "s3:ListObjects", S3),
        ("GET", "/bucket?location", signed("s3"), b"", "s3:GetBucketLocation", S3),
        ("PUT", "/bucket/a/key", signed("s3"), b"x", "s3:PutObject", S3),
        ("POST", "/bucket/key?uploads", signed("s3"), b"", "s3:PutObject", S3),
        ("GET", "/bucket/key?X-Amz-Credential=AKIA%2F20260101%2Feu-central-1%2Fs3%2Faws4_request", {}, b"", "s3:GetObject", S3),
    ],
)
def test_a_request_is_understood(method, target, headers, body, name, protocol):
    meaning = understand(RawRequest(method, target, headers, body))
    assert (meaning.name, meaning.protocol) == (name, protocol)
    assert (meaning.signature is None) is ("Authorization" not in headers and "Credential" not in target)


ANNA = Principal("111111111111", "arn:aws:sts::111111111111:assumed-role/Reader/anna", "anna", role="Reader")
BOB = Principal("111111111111", "arn:aws:iam::111111111111:user/bob", "bob")
NODE = "arn:aws:ec2:eu-central-1:111111111111:instance/i-1"


def allowed(permissions: Permissions, who: Principal, action: str, resource: str = NODE) -> bool:
    try:
        permissions.check(who, action, (resource,), JSON)
    except AwsError as refused:
        assert refused.code == "AccessDeniedException" and who.arn in refused.message and action in refused.message
        return False
    return True


def test_without_rules_all_is_allowed():
    assert allowed(Permissions(), ANNA, "ssm:StartSession")


def test_a_policy_holds_for_its_role_only():
    permissions = Permissions()
    statement = {"Effect": "Allow", "Action": ["ssm:Start*", "ec2:Describe*"], "Resource": "arn:aws:ec2:*:*:instance/*"}
    permissions.rules += rules_of_policy("Reader", {"Statement": statement})
    assert allowed(permissions, ANNA, "ssm:StartSession")
    assert not allowed(permissions, ANNA, "ssm:StartSession", "arn:aws:ssm:eu-central-1::document/AWS-StartSSHSession")
    assert not allowed(permissions, ANNA, "ssm:TerminateSession")
    assert allowed(permissions, BOB, "ssm:TerminateSession")


def test_a_deny_wins():
    permissions = Permissions()
    permissions.rules += [Rule("allow", "*", "bob"), Rule("deny", "ssm:StartSession", resource="*instance/i-1")]
    assert not allowed(permissions, BOB, "ssm:StartSession")
    assert allowed(permissions, BOB, "ssm:StartSession", NODE.replace("i-1", "i-2"))
