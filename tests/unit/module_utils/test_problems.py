# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of AWS in words that help."""

from __future__ import annotations

import botocore.exceptions
import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import parse_accounts
from ansible_collections.fleet.ssm.plugins.module_utils.problems import explain, merge

ROLE = "arn:aws:iam::222222222222:role/FleetOperator"
CALLER = "arn:aws:sts::222222222222:assumed-role/FleetOperator/me"
(ACCOUNT,) = parse_accounts([{"role_arn": ROLE}], {})
(BY_PROFILE,) = parse_accounts([{"profile": "prod"}], {})


def refused(code: str, message: str, operation: str = "Any") -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)


def test_missing_action_is_named_with_account_region_and_caller() -> None:
    error = explain(ACCOUNT, "us-east-1", "ec2:DescribeInstances", refused("UnauthorizedOperation", f"User: {CALLER} is not authorized."))
    assert all(word in str(error) for word in ("222222222222", "us-east-1", f"ec2:DescribeInstances is not allowed for {CALLER}.", "Allow the action"))


def test_missing_action_that_a_waiter_met() -> None:
    answer = refused("AccessDeniedException", f"User: {CALLER} is not authorized.").response
    error = explain(ACCOUNT, "us-east-1", "lambda:GetFunction", botocore.exceptions.WaiterError("function_active_v2", "An error occurred", answer))
    assert f"lambda:GetFunction is not allowed for {CALLER}." in str(error)
    tired = botocore.exceptions.WaiterError("function_active_v2", "Max attempts exceeded", {"Configuration": {"State": "Pending"}})
    assert "Max attempts exceeded" in str(explain(ACCOUNT, "us-east-1", "lambda:GetFunction", tired))


def test_missing_action_for_hybrid_tags_says_how_to_do_without() -> None:
    assert "hybrid: false" in str(explain(ACCOUNT, "us-east-1", "tag:GetResources", refused("AccessDeniedException", "no")))


def test_role_that_cannot_be_assumed() -> None:
    text = str(explain(ACCOUNT, None, "sts:AssumeRole", refused("AccessDenied", f"User: {CALLER} is not authorized to perform: sts:AssumeRole")))
    assert all(word in text for word in (ROLE, "sts:AssumeRole", "trust policy", "external_id", CALLER))


@pytest.mark.parametrize(
    ("operation", "action"), [("AssumeRole", "sts:AssumeRole"), ("GetRoleCredentials", "sso:GetRoleCredentials"), ("Any", "credentials")]
)
def test_action_that_botocore_lacks_for_the_credentials_of_a_profile(operation: str, action: str) -> None:
    error = explain(BY_PROFILE, None, "credentials", refused("AccessDenied", "no", operation))
    assert error.action == action
    assert f"{action} is not allowed" in str(error)


def test_role_that_a_profile_names() -> None:
    message = f"User: {CALLER} is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::333333333333:role/Deep"
    text = str(explain(ACCOUNT, None, "credentials", refused("AccessDenied", message, "AssumeRole")))
    assert f"the role arn:aws:iam::333333333333:role/Deep cannot be assumed: sts:AssumeRole is not allowed for {CALLER}." in text


def test_what_other_peoples_programs_raise() -> None:
    text = str(explain(BY_PROFILE, None, "credentials", FileNotFoundError(2, "No such file or directory", "/bin/helper")))
    assert all(word in text for word in ("profile prod", "credentials", "FileNotFoundError", "/bin/helper", "credential_process"))


def test_expired_credentials_of_a_profile() -> None:
    assert "aws sso login --profile prod" in str(explain(BY_PROFILE, "x", "ec2:DescribeInstances", refused("ExpiredTokenException", "expired")))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (botocore.exceptions.NoCredentialsError(), "AWS_PROFILE"),
        (botocore.exceptions.ProfileNotFound(profile="prod"), "Correct 'profile'"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="https://ec2.eu-centrl-1.amazonaws.com"), "'regions'"),
        (botocore.exceptions.SSOTokenLoadError(profile_name="prod", error_msg="x"), "aws sso login --profile prod"),
        (refused("ThrottlingException", "Rate exceeded"), "max_workers"),
        (refused("AuthFailure", "x"), "enabled in this account"),
        (refused("InternalError", "An internal error."), "InternalError: An internal error."),
    ],
)
def test_remedies(error: Exception, word: str) -> None:
    assert word in str(explain(BY_PROFILE, "eu-centrl-1", "ec2:DescribeInstances", error))


def test_one_problem_for_all_regions_of_an_account() -> None:
    errors = [explain(ACCOUNT, region, "ec2:DescribeInstances", refused("UnauthorizedOperation", "")) for region in ("us-east-1", "eu-central-1")]
    other = explain(BY_PROFILE, "us-east-1", "ec2:DescribeInstances", refused("UnauthorizedOperation", ""))
    problems = merge([*errors, other])
    assert [(problem.label, problem.regions) for problem in problems] == [
        (ACCOUNT.label, ("eu-central-1", "us-east-1")),
        (BY_PROFILE.label, ("us-east-1",)),
    ]
    assert "regions eu-central-1, us-east-1:" in str(problems[0])
