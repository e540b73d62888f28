# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents: made, changed, shared and removed, in every account and region, and not touched a second time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.controller import MUX
from tests.integration.modules.local import ROLE, Local
from tests.lab import Lab

HUB, OTHER = "111111111111", "222222222222"
REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}
PLACES = [(account, region) for account in (HUB, OTHER) for region in REGIONS]


@pytest.fixture(scope="module")
def empty() -> Iterator[Lab]:
    with Lab([]) as lab:
        yield lab


@pytest.fixture
def local(empty: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", empty)
    empty.clear_permissions()


def session(description: str) -> dict[str, Any]:
    """A session document without parameters, since a task would take their braces for templates."""
    properties = {"linux": {"commands": "id", "runAsElevated": False}}
    return {"schemaVersion": "1.0", "description": description, "sessionType": "InteractiveCommands", "properties": properties}


def test_the_collections_own_documents_come_to_every_account_and_region(local: Local) -> None:
    would = local("document", "--check", "--diff", own=["session"], **BOTH)
    assert would["changed"] and len(would["diff"]) == 8 and all(entry["before"] == {} for entry in would["diff"])
    with pytest.raises(ClientError):
        local.lab.client("ssm").describe_document(Name="FleetSSM-Input")

    made = local("document", own=["session"], **BOTH)
    assert made["changed"] and [(entry["account_id"], entry["region"]) for entry in made["documents"] if entry["name"] == "FleetSSM-Input"] == PLACES
    for account, region in PLACES:
        client = local.lab.client("ssm", account=account, region=region)
        for name in ("FleetSSM-Input", "FleetSSM-Output"):
            content = client.get_document(Name=name)["Content"]
            assert json.loads(content) == json.loads((MUX / "session_documents" / f"{name}.json").read_text())

    again = local("document", "--diff", own=["session"], **BOTH)
    assert not again["changed"] and again["diff"] == []

    gone = local("document", own=["session"], state="absent", **BOTH)
    assert gone["changed"] and not any(entry["exists"] for entry in gone["documents"])
    assert not local("document", own=["session"], state="absent", **BOTH)["changed"]


@pytest.mark.slow
def test_versions_of_a_session_document(local: Local) -> None:
    options = {"name": "Fleet-Versions", "document_type": "Session", "region": REGIONS[0]}
    client = local.lab.client("ssm", region=REGIONS[0])

    def default() -> str:
        found: str = client.describe_document(Name="Fleet-Versions")["Document"]["DefaultVersion"]
        return found

    local("document", **options, content=session("one"), tags={"Team": "platform", "Old": "x"})
    (document,) = local("document", **options, content=session("two"))["documents"]
    assert (document["default_version"], document["latest_version"], default()) == ("2", "2", "2")
    (document,) = local("document", **options, content=json.dumps(session("three")), default_version="keep")["documents"]
    assert (document["default_version"], document["latest_version"], default()) == ("2", "3", "2")
    back = local("document", "--diff", **options, content=session("one"))
    assert back["changed"] and back["documents"][0]["default_version"] == "1" == default(), "AWS takes no content twice: the older version becomes the default"
    assert not local("document", **options, content=session("one"))["changed"]
    assert not local("document", **options, content=session("two"), default_version="keep")["changed"]
    assert not local("document", "--check", **options, content=session("two"), default_version="keep")["changed"]
    assert default() == "1"
    assert local("document", **options, default_version="3", tags={"Team": "platform"})["documents"][0]["tags"] == {"Team": "platform"}
    assert default() == "3"
    assert not local("document", **options, default_version="3", tags={"Team": "platform"})["changed"]
    assert local("document", **options, state="absent")["changed"]


def test_one_account_that_refuses_stops_before_anything_is_changed(local: Local) -> None:
    local.lab.deny("ssm:DescribeDocument", principal="FleetOperator")
    result = local.fail("document", own=["session"], **BOTH)
    assert "account two, regions eu-central-1, us-east-1: document FleetSSM-Input: ssm:DescribeDocument is not allowed for" in result["msg"]
    assert "Allow the action ssm:DescribeDocument" in result["msg"] and result["msg"].endswith("Nothing was changed.")
    with pytest.raises(ClientError):
        local.lab.client("ssm", region=REGIONS[0]).describe_document(Name="FleetSSM-Input")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "AWS-Mine", "content": {}}, "'name': the document AWS-Mine belongs to AWS"),
        ({"name": "X", "content": "{"}, "'content' cannot be used: it is no JSON"),
        ({"name": "X", "shared_with": ["12"]}, "'shared_with' takes account ids of 12 digits"),
        ({"name": "X", "default_version": "newest"}, "'default_version' must be"),
        ({"name": "Xyz"}, "The document Xyz does not exist, and 'content' is missing"),
        ({"own": ["root"], "content": {"a": 1}}, "'own' has its contents"),
    ],
)
def test_options_that_cannot_be_meant(local: Local, options: dict[str, Any], words: str) -> None:
    assert words in local.fail("document", region=REGIONS[0], **options)["msg"]
