# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts, profiles and regions that cannot be used take nothing with them, neither the others' nodes nor their time."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import ClientPool
from ansible_collections.fleet.ssm.plugins.module_utils.collect import Collected, collect
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection
from tests import endpoints
from tests.integration.inventory.conftest import ROLE, Inventory
from tests.lab import Lab

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "x"}
GOOD = Account(base=BaseIdentity(profile="good"))


@pytest.fixture
def config(fleet: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The AWS config file, which is all that this process then knows of AWS: a profile that works, and the lab's URL as `[services lab]`."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    path = tmp_path / "aws-config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    services = "".join(f"{service} =\n  endpoint_url = {fleet.api_url}\n" for service in ("ec2", "ssm", "sts"))
    path.write_text(f"[services lab]\n{services}")
    keys = fleet.env()
    profile(path, "good", aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"])
    yield path
    fleet.clear_permissions()


def profile(config: Path, name: str, **settings: str) -> Account:
    """A further profile, and its account."""
    chosen = {"region": REGION, **({} if "endpoint_url" in settings else {"services": "lab"}), **settings}
    text = config.read_text() if config.exists() else ""
    config.write_text(text + f"[profile {name}]\n" + "".join(f"{key}={value}\n" for key, value in chosen.items()))
    return Account(base=BaseIdentity(profile=name))


def ask(*accounts: Account) -> Collected:
    return collect([GOOD, *accounts], Selection(hybrid=False), ClientPool(), max_workers=8)


def refusal(collected: Collected) -> str:
    """What is said of the one account that failed, while the other's nodes are there."""
    assert {found["tags"]["Name"] for account, found in collected.nodes if account == GOOD} >= {"web-1", "same"}
    (error,) = collected.errors
    return str(error)


@pytest.mark.slow
def test_a_profile_whose_role_may_not_be_assumed(fleet: Lab, config: Path) -> None:
    bad = profile(config, "chained", role_arn=ROLE, source_profile="good")
    fleet.deny("sts:AssumeRole")
    text = refusal(ask(bad))
    assert text.startswith(f"account of profile chained: the role {ROLE} cannot be assumed: sts:AssumeRole is not allowed for arn:aws:iam::111111111111:")


def test_a_role_from_a_profile_whose_own_role_may_not_be_assumed(fleet: Lab, config: Path) -> None:
    base = profile(config, "chained", role_arn=ROLE, source_profile="good").base
    fleet.deny("sts:AssumeRole")
    text = refusal(ask(Account(base=base, role_arn="arn:aws:iam::111111111111:role/FleetOperator")))
    assert f"the role {ROLE} cannot be assumed: sts:AssumeRole is not allowed" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"credential_process": "/bin/echo hello"}, "JSONDecodeError"),
        ({"credential_process": "/nonexistent/helper"}, "No such file or directory: '/nonexistent/helper'"),
        ({"credential_process": "/bin/false"}, "custom-process"),
        ({"role_arn": ROLE, "source_profile": "nobody"}, 'The source_profile "nobody" referenced in'),
        ({"region": "eu central", **KEYS}, "region eu central: ec2:DescribeInstances: Provided region_name 'eu central' doesn't match"),
        ({"endpoint_url": "localhost:4566", **KEYS}, "Write endpoint_url"),
    ],
)
def test_a_profile_that_cannot_be_used(config: Path, settings: dict[str, str], words: str) -> None:
    text = refusal(ask(profile(config, "bad", **settings)))
    assert text.startswith("account of profile bad")
    assert words in text


def test_a_misspelt_region_leaves_the_account_its_other_regions(config: Path) -> None:
    found = collect([Account(base=GOOD.base, regions=("eu central", REGION))], Selection(hybrid=False), ClientPool(), max_workers=4)
    assert found.regions == 1 and found.nodes
    assert [error.region for error in found.errors] == ["eu central"]


def test_a_warning_or_an_error_if_strict(inventory: Inventory, config: Path) -> None:
    profile(config, "bad", credential_process="/nonexistent/helper")
    options = {"regions": [REGION], "accounts": [{"profile": "good"}, {"name": "factory", "profile": "bad"}]}
    environment = {"AWS_CONFIG_FILE": str(config)}
    found = inventory.list(options, **environment)
    assert "web-1" in found.hosts
    assert "account factory: its credentials cannot be had: FileNotFoundError" in found.warnings
    assert "of profile bad in" in found.warnings
    assert "account factory: its credentials cannot be had" in inventory.refuse({**options, "strict": True}, **environment)


def test_credential_processes_run_side_by_side(config: Path, tmp_path: Path) -> None:
    """Each succeeds only while the other one runs."""
    keys = '{"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "x"}'
    program = tmp_path / "meet"
    here = str(tmp_path)
    program.write_text(
        f"#!/bin/sh\ntouch {here}/$1\nfor _ in $(seq 100); do test -e {here}/$2 && echo '{keys}' && exit; sleep 0.1; done\necho alone >&2; exit 1\n"
    )
    program.chmod(0o755)
    found = ask(profile(config, "left", credential_process=f"{program} left right"), profile(config, "right", credential_process=f"{program} right left"))
    assert found.regions == 1
    assert len(found.errors) == 2  # the lab does not know the key; but both had it
    assert all("alone" not in str(error) and "does not accept these credentials" in str(error) for error in found.errors)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of an address that answers no attempt to connect."""
    with endpoints.black_hole() as url:
        yield url


@pytest.mark.slow
def test_what_cannot_be_reached_costs_seconds(config: Path, black_hole: str) -> None:
    """A service of a region, and the STS that botocore itself asks for a profile's role."""
    lost = profile(config, "lost", endpoint_url=black_hole, **KEYS)
    chained = profile(config, "chained", endpoint_url=black_hole, role_arn=ROLE, source_profile="good")
    began = time.monotonic()
    found = ask(lost, chained)
    took = time.monotonic() - began
    assert found.regions == 1
    assert {error.account.label for error in found.errors} == {"account of profile lost", "account of profile chained"}
    assert all("Connect timeout on endpoint URL" in str(error) for error in found.errors)
    assert took < 13


def test_a_closed_port_is_tried_again_and_given_up(config: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    found = collect([GOOD], Selection(), ClientPool(endpoint_url=url), max_workers=2)
    assert "Could not connect to the endpoint URL" in str(found.errors[0])
    assert time.monotonic() - began < 13
