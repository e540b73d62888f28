# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accounts are asked, and with which credentials: options of the inventory plugin and of modules made into `Account` objects. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ALL_REGIONS = "all"
DEFAULT_SESSION_NAME = "fleet.ssm-inventory"
INVENTORY_FILE = "the inventory file"

#: Names of an entry of `accounts`, with the spellings that amazon.aws accepts.
ENTRY_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "name": (),
    "profile": ("aws_profile",),
    "access_key": ("aws_access_key_id", "aws_access_key"),
    "secret_key": ("aws_secret_access_key", "aws_secret_key"),
    "session_token": ("aws_session_token",),
    "role_arn": ("assume_role_arn", "iam_role_arn"),
    "external_id": (),
    "role_session_name": (),
    "regions": (),
}
_ROLE_ARN = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/\S+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


class OptionError(ValueError):
    """An option that cannot be used; the text names it and says what to do."""


@dataclass(frozen=True)
class BaseIdentity:
    """Credentials to start from: a profile, explicit keys, or neither (then botocore's own search)."""

    profile: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Account:
    """One account to ask."""

    base: BaseIdentity = BaseIdentity()
    role_arn: str | None = None
    external_id: str | None = None
    role_session_name: str = DEFAULT_SESSION_NAME
    regions: tuple[str, ...] = ()  #: empty: the region of option, environment or profile; ("all",): all that are enabled
    name: str | None = None  #: the user's word for it

    @property
    def account_id(self) -> str | None:
        """12 digits if the role's ARN tells, else None."""
        match = _ROLE_ARN.fullmatch(self.role_arn or "")
        return match["account"] if match else None

    @property
    def partition(self) -> str | None:
        match = _ROLE_ARN.fullmatch(self.role_arn or "")
        return match["partition"] if match else None

    @property
    def label(self) -> str:
        """How messages call it."""
        if self.name:
            return f"account {self.name}"
        if self.role_arn:
            return f"account {self.account_id} (role {self.role_arn.partition(':role/')[2]})"
        if self.base.profile:
            return f"account of profile {self.base.profile}"
        if self.base.access_key:
            return f"account of access key {self.base.access_key}"
        return "account of the default credentials"

    def fingerprint(self) -> tuple[str | None, ...]:
        """What tells this account's results from another's, without any secret (a part of the cache key)."""
        return (self.base.profile, self.base.access_key, self.role_arn, self.external_id, self.name, *self.regions)


def parse_accounts(entries: Any, defaults: Mapping[str, Any], source: str = INVENTORY_FILE) -> list[Account]:
    """Make the accounts of option `accounts`, or the single one that `defaults` describes.

    :param entries: the option as written: a list of mappings, or nothing.
    :param defaults: the plugin's own options by the names of `ENTRY_OPTIONS`. Credentials serve an entry that has none;
        `regions`, `external_id` and `role_session_name` an entry that has not its own.
    :param source: where the options are written, for messages.
    :raises OptionError: for anything that cannot be meant so.
    """
    if not entries:
        return [_account(_clean(defaults, source), source)]
    if defaults.get("role_arn"):
        raise OptionError("'assume_role_arn' and 'accounts' exclude each other: write 'role_arn' into the entries of 'accounts'.")
    if not isinstance(entries, list):
        raise OptionError(f"'accounts' must be a list of mappings, not {type(entries).__name__}. Begin each entry with '- '.")
    accounts = []
    for number, entry in enumerate(entries, 1):
        where = f"accounts[{number}]"
        if not isinstance(entry, Mapping):
            raise OptionError(f"{where} must be a mapping with keys such as 'profile' or 'role_arn', not {entry!r}.")
        own = _clean(_canonical(entry, where), where)
        accounts.append(_account({**_inherited(defaults, own, source), **own}, where))
    twice = {account.label for account in accounts if accounts.count(account) > 1}
    if twice:
        raise OptionError(f"'accounts' names the same account twice: {', '.join(sorted(twice))}. Remove one of the entries.")
    return accounts


def as_list(value: Any, option: str) -> list[str]:
    """A list of non-empty strings from a list or one string.

    :raises OptionError: if it is anything else.
    """
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) and item.strip() for item in values):
        raise OptionError(f"{option} must be a list of strings, not {value!r}.")
    return [str(item).strip() for item in values]


def _canonical(entry: Mapping[Any, Any], where: str) -> dict[str, Any]:
    names = {alias: name for name, aliases in ENTRY_OPTIONS.items() for alias in (name, *aliases)}
    unknown = sorted(str(key) for key in entry if key not in names)
    if unknown:
        raise OptionError(f"{where} has unknown keys: {', '.join(unknown)}. It takes: {', '.join(ENTRY_OPTIONS)}.")
    return {names[key]: value for key, value in entry.items()}


def _clean(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Without what is empty, since an empty string in a file means "not set" (and botocore dislikes it)."""
    result: dict[str, Any] = {}
    for name, value in options.items():
        if name == "regions":
            regions = as_list(value, f"'regions' of {where}")
            if regions:
                result[name] = regions
        elif value not in (None, ""):
            if not isinstance(value, (str, int)) or isinstance(value, bool):
                raise OptionError(f"'{name}' of {where} must be a string.")
            result[name] = str(value)
    return result


def _inherited(defaults: Mapping[str, Any], own: Mapping[str, Any], source: str) -> dict[str, Any]:
    names: Iterable[str] = ("regions", "role_session_name")
    if own.get("role_arn"):
        names = (*names, "external_id")
    if not own.get("profile") and not own.get("access_key"):
        names = (*names, "profile", "access_key", "secret_key", "session_token")
    return _clean({name: defaults.get(name) for name in names}, source)


def _account(options: Mapping[str, Any], where: str) -> Account:
    def option(name: str) -> str | None:
        value: str | None = options.get(name)
        return value

    if option("profile") and option("access_key"):
        raise OptionError(f"{where} has both 'profile' and 'access_key': keep one of them.")
    if bool(option("access_key")) != bool(option("secret_key")):
        raise OptionError(f"{where} needs both 'access_key' and 'secret_key', or neither.")
    role_arn = option("role_arn")
    if role_arn and not _ROLE_ARN.fullmatch(role_arn):
        raise OptionError(f"'role_arn' of {where} is not the ARN of an IAM role: {role_arn!r}. Write it as arn:aws:iam::123456789012:role/NAME.")
    if option("external_id") and not role_arn:
        raise OptionError(f"{where} has 'external_id' but no role to assume: add 'role_arn' or remove it.")
    session_name = option("role_session_name") or DEFAULT_SESSION_NAME
    if not _SESSION_NAME.fullmatch(session_name):
        raise OptionError(f"'role_session_name' of {where} must have 2 to 64 letters, digits or characters of _+=,.@-, not {session_name!r}.")
    regions = tuple(dict.fromkeys(options.get("regions", ())))
    if ALL_REGIONS in regions and len(regions) > 1:
        raise OptionError(f"'regions' of {where} has 'all' and names of regions: keep one of the two.")
    return Account(
        base=BaseIdentity(option("profile"), option("access_key"), option("secret_key"), option("session_token")),
        role_arn=role_arn,
        external_id=option("external_id"),
        role_session_name=session_name,
        regions=regions,
        name=option("name"),
    )
