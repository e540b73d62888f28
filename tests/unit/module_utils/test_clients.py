# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a call is not tried again (botocore's own decision comes beside it), and where is asked what the regions of an account share."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import ClientPool, _give_up_connecting, home_region

REFUSED = botocore.exceptions.EndpointConnectionError(endpoint_url="https://x")
SILENT = botocore.exceptions.ConnectTimeoutError(endpoint_url="https://x")


def attempts(*errors: Exception | None) -> int:
    """How many of the attempts with these outcomes (None: an answer) are made."""
    request: dict[str, Any] = {"context": {}}
    for made, error in enumerate(errors, 1):
        try:
            _give_up_connecting(request_dict=request, caught_exception=error, attempts=made, response=None)
        except botocore.exceptions.BotoCoreError:
            return made
    return len(errors)


@pytest.mark.parametrize(
    ("outcomes", "made"),
    [
        ([SILENT] * 10, 2),
        ([REFUSED] * 10, 4),
        ([None] * 10, 10),  # throttling is an answer
        ([*[None] * 6, REFUSED, REFUSED, None, REFUSED], 10),
        ([ValueError()] * 10, 10),
    ],
)
def test_attempts(outcomes: list[Exception | None], made: int) -> None:
    assert attempts(*outcomes) == made


GOV = "arn:aws-us-gov:iam::111111111111:role/X"
SECRET = "arn:aws-iso:iam::111111111111:role/X"
USUAL = "arn:aws:iam::111111111111:role/X"


@pytest.mark.parametrize(
    ("role", "regions", "default", "home"),
    [
        (None, (), None, "us-east-1"),
        (None, ("all",), "eu-central-1", "eu-central-1"),
        (None, ("eu-west-1",), None, "us-east-1"),
        (None, ("eu-west-1",), "eu-central-1", "eu-central-1"),
        (None, ("cn-northwest-1",), None, "cn-north-1"),  # keys of China, and no region in the environment
        (None, ("cn-northwest-1",), "eu-central-1", "cn-north-1"),
        (None, ("cn-northwest-1",), "cn-northwest-1", "cn-northwest-1"),
        (GOV, ("us-gov-west-1",), "eu-central-1", "us-gov-west-1"),
        (GOV, ("all",), "eu-central-1", "us-gov-west-1"),
        (GOV, (), "us-gov-east-1", "us-gov-east-1"),
        (SECRET, (), "us-iso-west-1", "us-iso-west-1"),
        (USUAL, ("all",), None, "us-east-1"),
        (USUAL, ("nowhere",), "eu-central-1", "eu-central-1"),
        (None, ("nowhere",), "eu-central-1", "eu-central-1"),
    ],
)
def test_what_regions_share_is_asked_in_the_accounts_partition(role: str | None, regions: tuple[str, ...], default: str | None, home: str) -> None:
    sessions = ClientPool().sessions(BaseIdentity(access_key="AKIA1", secret_key="s"))
    assert home_region(Account(role_arn=role, regions=regions), default, sessions.partition) == home
