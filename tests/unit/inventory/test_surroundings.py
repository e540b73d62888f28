# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a cached inventory another's."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.surroundings import surroundings

DEFAULT = [Account()]
BY_KEYS = [Account(base=BaseIdentity(access_key="AKIA", secret_key="geheim"))]
BY_PROFILE = [Account(base=BaseIdentity(profile="prod"))]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"AWS_DEFAULT_REGION": "us-east-1"}, {"AWS_DEFAULT_REGION": "eu-central-1"}),
        ({"AWS_ENDPOINT_URL_EC2": "http://a"}, {}),
        ({"AWS_ROLE_ARN": "arn:aws:iam::111111111111:role/A"}, {"AWS_ROLE_ARN": "arn:aws:iam::111111111111:role/B"}),
        ({"AWS_ACCESS_KEY_ID": "AKIA"}, {"AWS_ACCESS_KEY_ID": "AKIB"}),
    ],
)
def test_variables(one: dict[str, str], other: dict[str, str]) -> None:
    assert surroundings(DEFAULT, one) != surroundings(DEFAULT, other)
    assert surroundings(DEFAULT, one) == surroundings(DEFAULT, dict(one, TERM="x"))


@pytest.mark.parametrize("name", ["config", "credentials"])
def test_files_by_their_content(home: Path, name: str) -> None:
    without = surroundings(DEFAULT, {})
    file = home / ".aws" / name
    file.write_text("[default]\nregion = us-east-1\n")
    first = surroundings(DEFAULT, {})
    os.utime(file, (1, 1))
    assert surroundings(DEFAULT, {}) == first != without
    file.write_text("[default]\nregion = eu-central-1\n")
    assert surroundings(DEFAULT, {}) != first


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_files_that_variables_name(home: Path, name: str) -> None:
    (home / "elsewhere").write_text("[default]\nregion = us-east-1\n")
    before = surroundings(DEFAULT, {name: "~/elsewhere"})
    (home / "elsewhere").write_text("[default]\nregion = eu-central-1\n")
    assert surroundings(DEFAULT, {name: "~/elsewhere"}) != before


def test_the_machine_counts_where_its_role_may_be_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"}
    cases = [(DEFAULT, {}), (BY_PROFILE, {}), (BY_PROFILE, container), (BY_KEYS, {}), (DEFAULT, container)]
    before = [surroundings(*case) for case in cases]
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert [surroundings(*case) == was for case, was in zip(cases, before, strict=True)] == [False, False, False, True, True]


def test_no_secret(home: Path) -> None:
    (home / ".aws" / "credentials").write_text("[default]\naws_secret_access_key = geheim\n")
    environ = {"AWS_SECRET_ACCESS_KEY": "geheim", "AWS_SESSION_TOKEN": "geheim", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "geheim"}
    assert "geheim" not in json.dumps(surroundings([*BY_KEYS, *DEFAULT], environ))
