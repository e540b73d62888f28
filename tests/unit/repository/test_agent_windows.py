# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role agent decides on Windows by expressions alone. That its tasks do the same on Windows no test here can say."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.tools.role_readme import ROLES

(ROLE,) = (role for role in ROLES if role.name == "agent")


def value(name: str, **given: Any) -> Any:
    """A variable of the role, given others."""
    loader = DataLoader()
    known = [loader.load_from_file(str(ROLE / folder / "main.yml"), trusted_as_template=True) for folder in ("defaults", "vars")]
    templar = Templar(loader, variables={**known[0], **known[1], "inventory_hostname": "win-1", **given})
    return templar.template(known[1][name])


@pytest.mark.parametrize(
    ("region", "place"),
    [
        ("eu-central-1", "https://amazon-ssm-eu-central-1.s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://amazon-ssm-cn-north-1.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_installers_come_from_the_regions_bucket_or_a_mirror(region: str, place: str) -> None:
    assert value("__agent_windows_source", agent_region=region) == place
    assert value("__agent_windows_source", agent_region=region, agent_mirror="https://mirror.example/ssm/") == "https://mirror.example/ssm"


@pytest.mark.parametrize(
    ("connection", "over_it"), [("amazon.aws.aws_ssm", True), ("community.aws.aws_ssm", True), ("aws_ssm", True), ("winrm", False), ("ssh", False)]
)
def test_whether_the_agent_carries_the_tasks(connection: str, over_it: bool) -> None:
    there = {"ansible_connection": connection, "__agent_node": {"installed": "3.1.0.0"}}
    assert value("__agent_windows_over_agent", **there) is value("__agent_windows_by_itself", **there) is over_it
    assert value("__agent_windows_by_itself", **{**there, "__agent_node": {"installed": ""}}) is False


@pytest.mark.parametrize(
    ("installed", "version", "installs"),
    [("", "latest", True), ("3.1.0.0", "latest", True), ("3.2.0.0", "latest", False), ("3.10.0.0", "latest", False), ("3.10.0.0", "3.2.0.0", True)],
)
def test_whether_there_is_to_be_another_agent(installed: str, version: str, installs: bool) -> None:
    there = {"__agent_node": {"installed": installed}, "agent_version": version, "__agent_windows_wanted": "3.2.0.0"}
    assert value("__agent_windows_installs", **there) is installs


OURS = ["http_proxy=http://proxy:3128", "https_proxy=http://proxy:3128", "no_proxy=169.254.169.254", "fleet_ssm_proxy=true"]
THEIRS = ["AWS_CA=x", "HTTPS_PROXY=http://theirs:8080"]


@pytest.mark.parametrize(
    ("there", "proxy", "written"),
    [
        ({"exists": False}, "", None),
        ({"exists": False}, "http://proxy:3128", OURS),
        ({"value": OURS}, "", []),
        ({"value": THEIRS}, "", None),
        ({"value": "AWS_CA=x"}, "", None),
        ({"value": THEIRS}, "http://proxy:3128", ["AWS_CA=x", *OURS]),
        ({"value": ["AWS_CA=x", *OURS]}, "", ["AWS_CA=x"]),
    ],
)
def test_a_proxy_that_others_gave_the_service_stays(there: dict[str, Any], proxy: str, written: list[str] | None) -> None:
    """`written` is None where the value is left alone."""
    given = {"__agent_windows_environment": there, "agent_proxy": proxy}
    assert value("__agent_windows_configures_proxy", **given) is (written is not None)
    if written is not None:
        assert value("__agent_windows_others", **given) + value("__agent_windows_proxy", **given) == written


def test_who_asks_the_account_of_a_node() -> None:
    role = "arn:aws:iam::111111111111:role/Fleet"
    assert {name for name, given in value("__agent_account")[0].items() if given} == {"name"}
    (found,) = value("__agent_account", ansible_aws_ssm_profile="edge", ansible_ssm_role_arn=role, ansible_ssm_external_id="x")
    assert {name: given for name, given in found.items() if given} == {"name": "win-1", "profile": "edge", "role_arn": role, "external_id": "x"}
