# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option `organization`: accounts that AWS Organizations knows, beside or instead of those that are written down. No I/O."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .accounts import INVENTORY_FILE, Account, OptionError, as_list, parse_accounts

#: The three words that an `organization` takes.
ORGANIZATION_OPTIONS = ("role_name", "units", "exclude")

_ROLE_NAME = re.compile(r"/?(?P<role>([\w+=,.@-]+/)*[\w+=,.@-]{1,64})", re.ASCII)
_UNIT = re.compile(r"r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")  # as Organizations' API has them
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)


@dataclass(frozen=True)
class Member:
    """An account as Organizations lists it."""

    account_id: str
    name: str
    partition: str
    management_id: str  #: of the account that the organization belongs to
    active: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Member:
        """From an entry of ListAccounts. Its ARN is ``arn:PARTITION:organizations::MANAGEMENT:account/o-…/ID``."""
        _arn, partition, _service, _region, management_id, _path = entry["Arn"].split(":", 5)
        # `Status` is what `State` was before; AWS retires it.
        return cls(entry["Id"], entry["Name"], partition, management_id, (entry.get("State") or entry.get("Status")) == "ACTIVE")


@dataclass(frozen=True)
class Organization:
    """Which accounts of it are wanted, and how each is reached."""

    role_name: str  #: with its path, without a leading slash
    caller: Account  #: by whose credentials it is asked, and the role of each account is assumed; has no role itself
    external_id: str | None = None
    units: tuple[str, ...] = ()  #: ids of organizational units and roots; empty: the whole organization
    exclude: tuple[str, ...] = ()  #: ids and names of accounts

    def chosen(self, members: Iterable[Member]) -> list[Member]:
        """The active ones that are not excluded, each once, in the order of ids."""
        wanted = {member.account_id: member for member in members if member.active and not {member.account_id, member.name} & set(self.exclude)}
        return [wanted[account_id] for account_id in sorted(wanted)]

    def accounts(self, members: Iterable[Member], caller_id: str | None) -> list[Account]:
        """How each of them is reached. Those of the same name get ``_`` and their id behind it, as nodes do.

        :param caller_id: the caller's account, or None if that was not asked. If it is the management account, that is reached by the
            caller's own credentials: what deploys the role to all members (a stack set) leaves the management account out.
        """
        members = list(members)
        times = Counter(member.name for member in members)
        accounts = []
        for member in members:
            own = member.account_id == member.management_id == caller_id
            role_arn = None if own else f"arn:{member.partition}:iam::{member.account_id}:role/{self.role_name}"
            accounts.append(self.account(member.name if times[member.name] == 1 else f"{member.name}_{member.account_id}", role_arn))
        return accounts

    def account(self, name: str | None, role_arn: str | None) -> Account:
        """One of its accounts, by this role, or by the caller's own credentials."""
        return replace(self.caller, name=name, role_arn=role_arn, external_id=self.external_id if role_arn else None)

    def fingerprint(self) -> list[Any]:
        """What tells its accounts from another's, without any secret, as JSON."""
        return [self.role_name, self.external_id, self.units, self.exclude, self.caller.fingerprint()]


@dataclass(frozen=True)
class Accounts:
    """What the options say: accounts that are written down, and an organization that is still to be asked for its own."""

    written: tuple[Account, ...] = ()
    organization: Organization | None = None

    def fingerprint(self) -> list[Any]:
        """What tells their results from those of others, without any secret, as JSON (a part of the cache key)."""
        return [[account.fingerprint() for account in self.written], self.organization.fingerprint() if self.organization else None]

    def callers(self) -> tuple[Account, ...]:
        """Those whose credentials are needed first."""
        return (*self.written, *((self.organization.caller,) if self.organization else ()))


def read_scope(entries: Any, organization: Any, defaults: Mapping[str, Any], source: str = INVENTORY_FILE) -> Accounts:
    """The options `accounts` and `organization`; without both, the one account that `defaults` describes.

    :param defaults: as `parse_accounts` has them.
    :param source: where the options are written, for messages.
    :raises OptionError: for anything that cannot be meant so.
    """
    if not organization:
        return Accounts(tuple(parse_accounts(entries, defaults, source)))
    if defaults.get("role_arn"):
        raise OptionError("'assume_role_arn' and 'organization' exclude each other: the role of each account is 'role_name' of 'organization'.")
    # The entries first: their errors are the same with and without an organization.
    written = tuple(parse_accounts(entries, defaults, source)) if entries else ()
    return Accounts(written, _organization(organization, defaults, source))


def _organization(option: Any, defaults: Mapping[str, Any], source: str) -> Organization:
    if not isinstance(option, Mapping):
        raise OptionError(f"'organization' must be a mapping with 'role_name', not {option!r}.")
    unknown = sorted(str(key) for key in option if key not in ORGANIZATION_OPTIONS)
    if unknown:
        raise OptionError(f"'organization' has unknown keys: {', '.join(unknown)}. It takes: {', '.join(ORGANIZATION_OPTIONS)}.")
    role_name = str(option.get("role_name") or "")
    role = _ROLE_NAME.fullmatch(role_name)
    if role is None:
        raise OptionError(f"'role_name' of 'organization' must be the name of a role, with its path, as FleetOperator or fleet/Operator; not {role_name!r}.")
    units = as_list(option.get("units"), "'units' of 'organization'")
    for unit in units:
        if not _UNIT.fullmatch(unit):
            raise OptionError(f"'units' of 'organization' takes ids such as ou-ab12-cdefgh34, or r-ab12 of a root, not {unit!r}.")
    exclude = as_list(option.get("exclude"), "'exclude' of 'organization'")
    for entry in exclude:
        if entry.isdigit() and not _ACCOUNT_ID.fullmatch(entry):
            raise OptionError(f"'exclude' of 'organization' has {entry!r}, which is no account's id: it has 12 digits. In YAML it needs quotes.")
    # By an account with this role as by any other: what is wrong with the defaults has the words of `parse_accounts`.
    (checked,) = parse_accounts([], {**defaults, "role_arn": f"arn:aws:iam::000000000000:role/{role['role']}"}, source)
    return Organization(
        role_name=role["role"],
        caller=replace(checked, role_arn=None, external_id=None),
        external_id=checked.external_id,
        units=tuple(dict.fromkeys(units)),
        exclude=tuple(dict.fromkeys(exclude)),
    )
