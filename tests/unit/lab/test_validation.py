# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of SSM calls are checked as the public model says."""

from __future__ import annotations

import json

import pytest

from tests.lab.errors import AwsError
from tests.lab.validation import parse_parameters


@pytest.mark.parametrize(
    ("action", "parameters", "place"),
    [
        ("StartSession", {}, "target"),
        ("StartSession", {"Target": "i-1", "Reason": "x" * 257}, "reason"),
        ("StartSession", {"Target": "i-1", "DocumentName": "a document"}, "documentName"),
        ("DescribeInstanceInformation", {"MaxResults": 51}, "maxResults"),
        ("DescribeInstanceInformation", {"Filters": [{"Key": "PingStatus"}]}, "filters.1.member.values"),
        ("DescribeSessions", {"State": "Open"}, "state"),
    ],
)
def test_the_place_of_a_mistake_is_named(action, parameters, place):
    with pytest.raises(AwsError) as raised:
        parse_parameters(action, json.dumps(parameters).encode())
    assert raised.value.code == "ValidationException" and f"'{place}'" in raised.value.message


def test_what_fits_passes():
    given = {"Target": "i-0123456789abcdef0", "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["22"]}}
    assert parse_parameters("StartSession", json.dumps(given).encode()) == given


def test_actions_of_agents_have_no_public_model_and_pass():
    assert parse_parameters("UpdateInstanceInformation", b'{"InstanceId": "i-1"}') == {"InstanceId": "i-1"}
