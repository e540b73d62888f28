# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.hostnames import parse_hostnames, safe, unique_names

NODE: dict[str, Any] = {
    **dict.fromkeys(FIELDS),
    "instance_id": "i-1",
    "region": "eu-central-1",
    "tags": {"Name": "Web-1", "Role": "web", "Trap": "{{ 7 * 7 }}'"},
    "private_dns_name": "ip-10-0-0-1.ec2.internal",
    "public_ip_address": "192.0.2.7",
}


def evaluate(text: str, variables: Mapping[str, Any]) -> Any:
    environment = jinja2.Environment()
    return environment.from_string(text).render(variables) if "{{" in text else environment.compile_expression(text)(variables)


def name_by(entry: Any) -> str:
    (preference,) = parse_hostnames([entry])
    return preference.name(NODE, lambda: {"ssm_region": NODE["region"], "ssm_tags": NODE["tags"]}, evaluate)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("tag:Name", "Web-1"),
        ("tag:Absent", ""),
        ("tag:Role=web", "Role_web"),
        ("tag:Role=db", ""),
        ("tag:Absent,Role=db, Role=web,Name", "Role_web"),
        ("tag:Absent,Role=db", ""),
        ("tag:Absent,Name,Role | map('upper') | map('replace', 'WEB', 'WWW')", "WWW-1"),
        ("tag:Name,Role | join('.')", "Web-1.web"),
        ("tag:Absent,Role=db | map('upper')", ""),
        ("instance-id", "i-1"),
        ("instance_id", "i-1"),
        ("private-dns-name", "ip-10-0-0-1.ec2.internal"),
        ("ip-address", "192.0.2.7"),
        ("dns-name", ""),
        ("tag:Name | lower", "web-1"),
        ("tag:Name|lower|replace('web', 'www')", "www-1"),
        ("tag:Absent | default('x')", ""),
        ("tag:Trap | lower", "{{ 7 * 7 }}'"),
        ("{{ ssm_tags.Role }}.{{ ssm_region }}", "web.eu-central-1"),
        ({"name": "tag:Name", "prefix": "tag:Role"}, "web_Web-1"),
        ({"name": "tag:Name", "prefix": "aws", "separator": "-"}, "aws-Web-1"),
        ({"name": "tag:Name", "prefix": "tag:Absent"}, "Web-1"),
        ({"name": "tag:Absent", "prefix": "aws"}, ""),
    ],
)
def test_name(entry: Any, name: str) -> None:
    assert name_by(entry) == name


@pytest.mark.parametrize("entry", ["nonsense", "tags", "", 3, {"prefix": "x"}, {"name": "instance-id", "seperator": "-"}])
def test_refused(entry: Any) -> None:
    with pytest.raises(OptionError, match="hostnames"):
        parse_hostnames([entry])


@pytest.mark.parametrize(("name", "result"), [("a b:c,[d]", "a_b_c_d_"), ("web-1.Münch+x@y_z", "web-1.Münch+x@y_z"), ("{{x}}", "_x_"), (" a ", "a")])
def test_safe(name: str, result: str) -> None:
    assert safe(name) == result


def test_equal_names_all_get_their_id_whatever_the_order() -> None:
    assert unique_names(["web", "db", "web"], ["i-1", "i-2", "i-3"]) == (["web_i-1", "db", "web_i-3"], ["web"])
    assert unique_names(["web", "web", "db"], ["i-3", "i-1", "i-2"])[0] == ["web_i-3", "web_i-1", "db"]


def test_unique_names_leave_ids_alone() -> None:
    assert unique_names(["i-1", "i-2"], ["i-1", "i-2"]) == (["i-1", "i-2"], [])
