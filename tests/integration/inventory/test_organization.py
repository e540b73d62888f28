# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that AWS Organizations lists: which are found, with how many calls, how each is reached, and what is said where AWS refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.clients import ClientPool
from ansible_collections.fleet.ssm.plugins.module_utils.organization import read_scope
from ansible_collections.fleet.ssm.plugins.module_utils.organization_listing import Found, find_accounts
from tests.integration.controller import Controller
from tests.integration.inventory.conftest import REGIONS, Inventory, node
from tests.integration.modules.local import Local
from tests.integration.test_policies import OPERATOR, POLICIES, actions, denied, policy, without
from tests.lab import Lab

HEAD, PRODUCTION, STAGING = "111111111111", "222222222222", "333333333333"
NAMES = ["master", f"lab-{PRODUCTION}", f"lab-{STAGING}"]  # moto's word for the management account
ROLE = {"role_name": "FleetOperator"}
LISTING = ["organizations:ListAccounts", "organizations:ListAccountsForParent", "organizations:ListOrganizationalUnitsForParent"]


@pytest.fixture(scope="module")
def company() -> Iterator[Lab]:
    """Three accounts with a node each; below the root a unit with one of the members, and within that another unit with the other one."""
    nodes = [node("web-1"), node("web-2", first=False), {**node("web-3"), "account": STAGING}]
    with Lab(nodes, accounts=[HEAD, PRODUCTION, STAGING]) as lab:
        yield lab


@pytest.fixture(autouse=True)
def open_company(company: Lab) -> Iterator[None]:
    company.reset_requests()
    yield
    company.clear_permissions()


@pytest.fixture(scope="module")
def units(company: Lab) -> list[str]:
    """The ids of the root, the unit, and the unit within it."""
    organizations = company.client("organizations")
    found = [organizations.list_roots()["Roots"][0]["Id"]]
    for account in (PRODUCTION, STAGING):
        made = organizations.create_organizational_unit(ParentId=found[-1], Name=f"of-{account}")
        organizations.move_account(AccountId=account, SourceParentId=found[0], DestinationParentId=made["OrganizationalUnit"]["Id"])
        found.append(made["OrganizationalUnit"]["Id"])
    return found


def find(lab: Lab, option: dict[str, Any] | None = None, entries: Any = (), *, account: str = HEAD, **defaults: Any) -> Found:
    """What is found by the operator of an account."""
    key = lab.env(account=account)
    keys = {"access_key": key["AWS_ACCESS_KEY_ID"], "secret_key": key["AWS_SECRET_ACCESS_KEY"]}
    accounts = read_scope(list(entries), {**ROLE, **(option or {})}, {**keys, **defaults})
    return find_accounts(accounts, ClientPool(endpoint_url=lab.api_url, region="eu-central-1", retries=False), max_workers=4)


def ids(found: Found) -> list[str | None]:
    """Their numbers; None for one without a role."""
    assert not found.errors, found.errors
    return [account.account_id for account in found.accounts]


def refusal(found: Found) -> str:
    assert not found.accounts
    (error,) = found.errors
    return str(error)


def test_the_whole_organization_is_one_call(company: Lab) -> None:
    found = find(company)
    assert ids(found) == [None, PRODUCTION, STAGING]
    assert [account.name for account in found.accounts] == NAMES
    assert company.requests().counts == {"organizations:ListAccounts": 1, "sts:GetCallerIdentity": 1}


def test_who_asks_matters_for_the_management_account_alone(company: Lab) -> None:
    assert ids(find(company, {"exclude": [HEAD]})) == [PRODUCTION, STAGING]
    assert company.requests().counts == {"organizations:ListAccounts": 1}


def test_accounts_below_a_unit(company: Lab, units: list[str]) -> None:
    root, outer, inner = units
    assert ids(find(company, {"units": [inner]})) == [STAGING]
    assert ids(find(company, {"units": [outer], "exclude": [f"lab-{STAGING}"]})) == [PRODUCTION]
    company.reset_requests()
    assert ids(find(company, {"units": [inner, outer, root]})) == [None, PRODUCTION, STAGING]
    # Each of the three once, whatever lies within what.
    listings = {"organizations:ListAccountsForParent": 3, "organizations:ListOrganizationalUnitsForParent": 3}
    assert company.requests().counts == {**listings, "sts:GetCallerIdentity": 1}


def test_an_account_that_is_written_is_as_written(company: Lab) -> None:
    other = company.env(account=STAGING)
    entries = [
        {"name": "by role", "role_arn": f"arn:aws:iam::{PRODUCTION}:role/Other", "regions": ["us-east-1"]},
        {"name": "by keys", "access_key": other["AWS_ACCESS_KEY_ID"], "secret_key": other["AWS_SECRET_ACCESS_KEY"]},
    ]
    found = find(company, None, entries)
    assert [account.name for account in found.accounts] == ["by role", "by keys", "master"]
    assert company.requests().counts == {"organizations:ListAccounts": 1, "sts:GetCallerIdentity": 2}
    assert [account.name for account in find(company, None, [{"name": "own"}, *entries]).accounts] == ["own", "by role", "by keys"]


def test_pages_and_accounts_that_are_closed(company: Lab) -> None:
    """Of twenty accounts each, the most that Organizations gives."""
    organizations = company.client("organizations")

    def create(number: int) -> str:
        made = organizations.create_account(AccountName=f"more-{number}", Email=f"more-{number}@example.com")
        return str(made["CreateAccountStatus"]["AccountId"])

    closed = [create(number) for number in range(18)]
    for account in closed:
        organizations.close_account(AccountId=account)
    last = create(18)
    company.reset_requests()
    try:
        assert set(ids(find(company))) == {None, PRODUCTION, STAGING, last}
        assert company.requests().counts == {"organizations:ListAccounts": 2, "sts:GetCallerIdentity": 1}
    finally:
        for account in (*closed, last):
            organizations.remove_account_from_organization(AccountId=account)


def test_throttling_costs_time_alone_even_where_the_caller_judges_other_calls_itself(company: Lab) -> None:
    with company.fault_calls("organizations:ListAccounts", code="TooManyRequestsException", status=400, count=1):
        assert len(ids(find(company))) == 3
    assert company.requests().counts["organizations:ListAccounts"] == 2


def test_a_delegated_administrator_may_ask_and_reaches_the_management_account_by_the_role(company: Lab) -> None:
    organizations = company.client("organizations")
    organizations.register_delegated_administrator(AccountId=PRODUCTION, ServicePrincipal="ssm.amazonaws.com")
    try:
        assert ids(find(company, account=PRODUCTION)) == [HEAD, PRODUCTION, STAGING]
    finally:
        organizations.deregister_delegated_administrator(AccountId=PRODUCTION, ServicePrincipal="ssm.amazonaws.com")


def test_another_member_is_told_who_may(company: Lab) -> None:
    said = refusal(find(company, account=PRODUCTION))
    assert "organizations:ListAccounts is not allowed" in said and "the management account or a delegated administrator" in said


def test_what_cannot_be_meant_is_said(company: Lab) -> None:
    said = refusal(find(company, {"units": ["ou-ab12-cdefgh34"]}))
    assert "ParentNotFoundException" in said and "Check 'units' of 'organization'" in said
    assert "no active account of the organization is chosen. Check 'units' and 'exclude'" in refusal(find(company, {"exclude": [HEAD, PRODUCTION, STAGING]}))


@pytest.mark.slow
def test_without_an_organization() -> None:
    with Lab([], accounts=[HEAD]) as lab:
        lab.client("organizations").delete_organization()
        assert "Remove 'organization'" in refusal(find(lab))


def test_an_entry_outlives_a_listing_that_fails(company: Lab) -> None:
    company.deny("organizations:ListAccounts")
    found = find(company, None, [{"name": "own"}])
    assert [account.name for account in found.accounts] == ["own"]
    assert [error.action for error in found.errors] == ["organizations:ListAccounts"]


def test_the_policy_is_enough_and_each_of_its_actions_needed(company: Lab, units: list[str]) -> None:
    document = policy("organization")
    company.policy(document, principal=OPERATOR)
    assert ids(find(company)) == ids(find(company, {"units": [units[0]]})) == [None, PRODUCTION, STAGING]
    assert not denied(company)
    for action in LISTING:
        company.clear_permissions()
        company.policy(without(document, action), principal=OPERATOR)
        said = refusal(find(company, {} if action == LISTING[0] else {"units": [units[0]]}))
        assert f"{action} is not allowed for {OPERATOR}. Allow the action {action} in its policy" in said


def test_its_table_has_every_action_and_each_is_tried() -> None:
    section = (POLICIES.parent / "iam.md").read_text(encoding="utf-8").partition("### By AWS Organizations")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+:\w+)` \|", section, re.MULTILINE)) == actions(policy("organization")) == {*LISTING, "sts:AssumeRole"}


@pytest.fixture
def inventory(company: Lab, tmp_path: Path) -> Inventory:
    return Inventory(Controller(tmp_path / "controller", company.env()))


def test_an_inventory_and_its_cache(company: Lab, inventory: Inventory, tmp_path: Path) -> None:
    options = {
        "regions": REGIONS[:1], "organization": {**ROLE, "exclude": [STAGING]}, "external_id": "fleet",
        "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache"),
    }  # fmt: skip
    first = inventory.list(options)
    assert {name: (host["ssm_account_name"], host.get("ansible_ssm_role_arn"), host.get("ansible_ssm_external_id")) for name, host in first.hosts.items()} == {
        "web-1": ("master", None, None),
        "web-2": (f"lab-{PRODUCTION}", f"arn:aws:iam::{PRODUCTION}:role/FleetOperator", "fleet"),
    }
    company.reset_requests()
    assert inventory.list(options).hosts == first.hosts
    assert company.requests().total == 0
    # Other accounts are another inventory, and a listing that fails is none.
    company.deny("organizations:ListAccounts")
    assert "organizations:ListAccounts is not allowed" in inventory.refuse({**options, "organization": ROLE})


def test_modules(company: Lab, tmp_path: Path) -> None:
    local = Local(tmp_path / "local", company)
    options = {"regions": REGIONS[:1], "organization": ROLE}
    found = local("managed_node_info", **options)
    assert {one["account_name"] for one in found["nodes"]} == set(NAMES)
    company.deny("organizations:ListAccounts")
    failed = local.fail("document", **options, own=["session"])
    assert "organizations:ListAccounts is not allowed" in failed["msg"] and "Nothing was changed" in failed["msg"]
