# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signature of a data channel's websocket, against the signer that the lab's agent has of its own."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity_key import IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.signature import websocket_headers
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from tests.lab.nodes.agent import signing

HOSTS = [
    "ssmmessages.eu-central-1.amazonaws.com",
    "ssmmessages-fips.us-gov-west-1.amazonaws.com",
    "ssmmessages.cn-north-1.amazonaws.com.cn",
    "ssmmessages.eu-central-1.api.aws:443",
    "127.0.0.1:8443",
]
QUERY = "role=publish_subscribe&cell-number=AAEAAa5+Lu4a/Q==&empty="


@pytest.mark.parametrize("token", [None, "a+token/="])
@pytest.mark.parametrize("host", HOSTS)
def test_it_is_that_of_aws_own_client(host: str, token: str | None) -> None:
    path = "/v1/data-channel/someone@example.com-0a1b2c"
    made = websocket_headers(f"wss://{host}{path}?{QUERY}", ReadOnlyCredentials("KEY", "secret", token), "eu-central-1")
    at = datetime.datetime.strptime(made["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    expected = signing.sign(
        "GET", f"https://{host.removesuffix(':443')}{path}?{QUERY}", {}, b"",
        credentials=signing.Credentials("KEY", "secret", token or ""), service="ssmmessages", region="eu-central-1", at=at,
    )  # fmt: skip
    assert made == {name: value for name, value in expected.items() if name != "Host"}


def scope(headers: dict[str, str]) -> list[str]:
    """Key, date, region, service, and the end."""
    return headers["Authorization"].partition("Credential=")[2].partition(",")[0].split("/")


@pytest.mark.parametrize(("region", "signed"), [("cn-north-1", "cn-north-1"), ("fips-us-gov-west-1", "us-gov-west-1")])
async def test_an_identity_signs_for_the_region_of_its_sessions(region: str, signed: str) -> None:
    options: Any = {"host": "i-1", "region": region, "access_key": "KEY", "secret_key": "secret", "session_token": "token"}
    who = Identity(IdentityKey.of(ConnectionOptions.from_mapping(options), {}), {})
    headers = await who.sign(f"wss://ssmmessages.{signed}.amazonaws.com/v1/data-channel/one?role=publish_subscribe")
    assert scope(headers) == ["KEY", headers["X-Amz-Date"][:8], signed, "ssmmessages", "aws4_request"]
    assert headers["X-Amz-Security-Token"] == "token"
