# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks AWS Organizations for its accounts, with as few calls as there can be.

The whole organization is one listing, 20 accounts a page. Units are walked level by level, each by its accounts and its units,
the units of a level side by side. Who the caller is, is asked only if it matters: one call, which everyone may make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .accounts import Account
from .clients import AccountClients, ClientPool
from .organization import Accounts, Member, Organization
from .problems import CollectError

PAGE = 20  #: the most that Organizations gives


@dataclass
class Found:
    """The accounts to work in, and why others are not known."""

    accounts: list[Account] = field(default_factory=list)
    errors: list[CollectError] = field(default_factory=list)


def find_accounts(accounts: Accounts, pool: ClientPool, max_workers: int) -> Found:
    """Those that are written, then those of the organization, except for what is written already. Never raises for what AWS refuses.

    An organization is taken whole or not at all: half of its accounts would look like all of them.
    """
    found = Found(list(accounts.written))
    if accounts.organization is not None:
        try:
            found.accounts += _Listing(accounts.organization, pool, max_workers).besides(accounts.written)
        except CollectError as error:
            found.errors.append(error)
    return found


class _Listing:
    """The calls about one organization."""

    def __init__(self, organization: Organization, pool: ClientPool, max_workers: int) -> None:
        self._organization, self._pool, self._max_workers = organization, pool, max(1, max_workers)
        self._clients = AccountClients(pool, organization.caller)

    def besides(self, written: Sequence[Account]) -> list[Account]:
        """The accounts that are wanted and are not written. :raises CollectError: that names the action."""
        organization = self._organization
        chosen = organization.chosen(map(Member.of, self._below(organization.units) if organization.units else self._pages("ListAccounts", "Accounts")))
        if not chosen:
            remedy = "Check 'units' and 'exclude' of 'organization'."
            raise CollectError(organization.caller, None, "organizations:ListAccounts", "no active account of the organization is chosen.", remedy)
        ids = {self._written_id(account) for account in written}
        chosen = [member for member in chosen if member.account_id not in ids]
        asks_who = any(member.account_id == member.management_id for member in chosen)
        return organization.accounts(chosen, self._clients.account_id() if asks_who else None)

    def _written_id(self, account: Account) -> str | None:
        """The number of an account that is written; None if it cannot be had, which opening it will tell."""
        if account.account_id:
            return account.account_id
        try:
            same = account.base == self._organization.caller.base
            return (self._clients if same else AccountClients(self._pool, account)).account_id()
        except CollectError:
            return None

    def _below(self, units: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The accounts below the units, whichever of these lies within another."""
        level, seen = list(units), set(units)
        with ThreadPoolExecutor(self._max_workers, thread_name_prefix="fleet.ssm") as executor:
            while level:
                accounts = [executor.submit(self._within, unit, "ListAccountsForParent", "Accounts") for unit in level]
                deeper = [executor.submit(self._within, unit, "ListOrganizationalUnitsForParent", "OrganizationalUnits") for unit in level]
                yield from (account for listed in accounts for account in listed.result())
                found = dict.fromkeys(unit["Id"] for listed in deeper for unit in listed.result())
                level = [unit for unit in found if unit not in seen]
                seen.update(level)

    def _within(self, unit: str, operation: str, key: str) -> list[dict[str, Any]]:
        return list(self._pages(operation, key, ParentId=unit))

    def _pages(self, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """All entries of a listing. A page may be empty and not the last one."""
        while True:
            page = self._clients.call_home("organizations", operation, MaxResults=PAGE, **parameters)
            yield from page.get(key) or ()
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]
