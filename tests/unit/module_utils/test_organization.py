# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accounts of an organization are wanted, how each is reached, and which options are refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.organization import Member, Organization, read_scope

HEAD, PRODUCTION, STAGING, CLOSED = "111111111111", "222222222222", "333333333333", "444444444444"
ROLE = f"arn:aws:iam::{PRODUCTION}:role/Other"


def entry(account_id: str, name: str, partition: str = "aws", **values: Any) -> dict[str, Any]:
    return {"Id": account_id, "Name": name, "Arn": f"arn:{partition}:organizations::{HEAD}:account/o-a1b2c3d4e5/{account_id}", "State": "ACTIVE", **values}


def organization(option: dict[str, Any] | None = None, **defaults: Any) -> Organization:
    found = read_scope([], {"role_name": "FleetOperator", **(option or {})}, defaults).organization
    assert found
    return found


MEMBERS = [entry(STAGING, "staging"), entry(HEAD, "head"), entry(PRODUCTION, "production"), entry(CLOSED, "closed", State="SUSPENDED")]


def chosen(option: dict[str, Any]) -> list[str]:
    return [member.name for member in organization(option).chosen(map(Member.of, MEMBERS))]


def test_active_accounts_in_the_order_of_their_ids() -> None:
    assert chosen({}) == ["head", "production", "staging"]
    assert chosen({"exclude": [STAGING, "head", "nobody"]}) == ["production"]


@pytest.mark.parametrize(
    ("state", "active"),
    [
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, True),
        ({"State": "PENDING_ACTIVATION", "Status": "ACTIVE"}, False),
        ({"State": None, "Status": "ACTIVE"}, True),  # AWS as it was, before it knew states
        ({"State": None, "Status": "PENDING_CLOSURE"}, False),
    ],
)
def test_active_is_what_the_state_says(state: dict[str, str | None], active: bool) -> None:
    assert Member.of(entry(STAGING, "x", **state)).active is active


def reached(caller_id: str | None, **defaults: Any) -> list[tuple[str | None, str | None, str | None]]:
    found = organization(None, external_id="x", **defaults)
    accounts = found.accounts(found.chosen(map(Member.of, MEMBERS)), caller_id)
    return [(account.name, account.role_arn, account.external_id) for account in accounts]


def test_each_by_the_role_and_the_management_account_by_its_own_credentials() -> None:
    members = [("production", f"arn:aws:iam::{PRODUCTION}:role/FleetOperator", "x"), ("staging", f"arn:aws:iam::{STAGING}:role/FleetOperator", "x")]
    assert reached(HEAD) == [("head", None, None), *members]
    assert reached(PRODUCTION) == reached(None) == [("head", f"arn:aws:iam::{HEAD}:role/FleetOperator", "x"), *members]


def test_what_stands_beside_it_holds_for_each_account() -> None:
    found = organization(None, profile="hub", regions=["all"], role_session_name="me")
    (account,) = found.accounts([Member.of(entry(STAGING, "staging"))], None)
    assert (account.base.profile, account.regions, account.role_session_name, account.label) == ("hub", ("all",), "me", "account staging")


def test_the_partition_is_the_organizations_and_a_path_belongs_to_the_role() -> None:
    found = organization({"role_name": "/fleet/ssm/Operator"})
    (account,) = found.accounts([Member.of(entry(STAGING, "staging", "aws-cn"))], None)
    assert (account.role_arn, account.partition) == (f"arn:aws-cn:iam::{STAGING}:role/fleet/ssm/Operator", "aws-cn")


def test_accounts_of_one_name_are_told_apart() -> None:
    twins = [Member.of(entry(number, "twin")) for number in (PRODUCTION, STAGING)]
    assert [account.name for account in organization().accounts(twins, None)] == [f"twin_{PRODUCTION}", f"twin_{STAGING}"]


def test_entries_stand_beside_it_and_without_either_there_is_the_own_account() -> None:
    both = read_scope([{"role_arn": ROLE}], {"role_name": "FleetOperator"}, {})
    assert [account.role_arn for account in both.written] == [ROLE] and both.organization
    assert not read_scope([], {"role_name": "FleetOperator"}, {}).written
    alone = read_scope([], None, {"profile": "hub"})
    assert [account.base.profile for account in alone.written] == ["hub"] and alone.organization is None


def test_fingerprint_tells_organizations_apart_and_has_no_secret() -> None:
    keys = {"access_key": "AKIA", "secret_key": "geheim"}
    different = [{}, {"role_name": "Other"}, {"units": ["r-ab12"]}, {"exclude": ["x"]}]
    prints = [str(read_scope([], {"role_name": "FleetOperator", **option}, keys).fingerprint()) for option in different]
    prints += [str(read_scope([], {"role_name": "FleetOperator"}, {**keys, "regions": ["x"]}).fingerprint())]
    assert len(set(prints)) == 5 and "geheim" not in "".join(prints) + repr(organization(None, **keys))


@pytest.mark.parametrize(
    ("option", "defaults", "words"),
    [
        ("FleetOperator", {}, ("organization", "mapping", "role_name")),
        ({"role": "X"}, {}, ("organization", "role", "It takes: role_name, units, exclude")),
        ({"units": ["r-ab12"]}, {}, ("role_name", "FleetOperator")),
        ({"role_name": ROLE}, {}, ("role_name", "name of a role")),
        ({"role_name": "X", "units": ["Workloads"]}, {}, ("units", "ou-ab12-cdefgh34", "Workloads")),
        ({"role_name": "X", "exclude": ["12345678901"]}, {}, ("exclude", "12 digits", "quotes")),
        ({"role_name": "X", "exclude": [123456789012]}, {}, ("exclude", "list of strings")),
        ({"role_name": "X"}, {"role_arn": ROLE}, ("assume_role_arn", "organization", "exclude each other")),
        ({"role_name": "X"}, {"regions": ["all", "us-east-1"]}, ("regions", "all")),
        ({"role_name": "X"}, {"role_session_name": "a b"}, ("role_session_name", "a b")),
    ],
)
def test_refused(option: Any, defaults: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(OptionError) as caught:
        read_scope([], option, defaults)
    assert all(word in str(caught.value) for word in words), str(caught.value)
