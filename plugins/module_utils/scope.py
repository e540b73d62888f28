# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a module works: the options `accounts`, `organization` and `regions`, made into places (an account and a region) and their clients.

The options have the shape of the inventory plugin's, so that an inventory and a playbook may share a table of the estate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .accounts import ENTRY_OPTIONS, Account, OptionError
from .clients import AccountClients, ClientPool
from .network import Network, NetworkError
from .organization import Accounts, read_scope
from .organization_listing import find_accounts
from .problems import CollectError

SOURCE = "the task"
DEFAULT_SESSION_NAME = "fleet.ssm"
_SECRET = frozenset({"secret_key", "session_token"})

T = TypeVar("T")
R = TypeVar("R")


def argument_spec() -> dict[str, Any]:
    """The options of the doc fragment `fleet.ssm.scope`."""
    entry: dict[str, Any] = {
        name: {"type": "str", "no_log": name in _SECRET, **({"aliases": list(aliases)} if aliases else {})} for name, aliases in ENTRY_OPTIONS.items()
    }
    entry["regions"] = {"type": "list", "elements": "str"}
    return {
        "accounts": {"type": "list", "elements": "dict", "default": [], "options": entry},
        "organization": {
            "type": "dict",
            "options": {
                "role_name": {"type": "str", "required": True},
                "units": {"type": "list", "elements": "str", "default": []},
                "exclude": {"type": "list", "elements": "str", "default": []},
            },
        },
        "regions": {"type": "list", "elements": "str", "default": []},
        "external_id": {"type": "str"},
        "role_session_name": {"type": "str", "default": DEFAULT_SESSION_NAME},
        "max_workers": {"type": "int", "default": 16},
    }


def read_accounts(params: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Accounts:
    """The accounts of a module's parameters. :raises OptionError: if they cannot be meant so."""
    environ = os.environ if environ is None else environ
    own = {name: params.get(name) for name in ("profile", "access_key", "secret_key", "session_token", "external_id", "role_session_name", "regions")}
    if own["profile"] and own["access_key"]:
        # A module's parameters hold the environment's values as well. What the task says wins; else keys do, as with every AWS tool.
        from_environment = own["profile"] in (environ.get("AWS_PROFILE"), environ.get("AWS_DEFAULT_PROFILE"))
        keys_from_environment = own["access_key"] in (environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_ACCESS_KEY"))
        if from_environment:
            own["profile"] = None
        elif keys_from_environment:
            own.update(dict.fromkeys(("access_key", "secret_key", "session_token")))
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in params.get("accounts") or ()]
    if not entries and not params.get("organization") and own["external_id"]:
        raise OptionError("'external_id' is for roles of 'accounts': add 'accounts' with 'role_arn', or remove it.")
    return read_scope(entries, params.get("organization"), own, SOURCE)


def make_pool(params: Mapping[str, Any], name: str, *, retries: bool = True, details: frozenset[str] = frozenset()) -> ClientPool:
    """Clients for a module's parameters.

    :param name: of the module.
    :param retries: as `ClientPool` has it.
    :param details: as `ClientPool` has it.
    :raises OptionError: for options of the network or of botocore that cannot be used.
    """
    try:
        network = Network.choose(environ=os.environ, ca_bundle=params.get("aws_ca_bundle"), validate_certs=params.get("validate_certs", True))
        return ClientPool(
            region=params.get("region"),
            endpoint_url=params.get("endpoint_url"),
            network=network,
            connections=max(1, params["max_workers"]),
            source=SOURCE,
            name=name,
            retries=retries,
            config=params.get("aws_config"),
            details=details,
        )
    except NetworkError as error:
        raise OptionError(f"{error}. Check 'aws_ca_bundle', HTTPS_PROXY, AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE.") from error
    except TypeError as error:
        raise OptionError(f"'aws_config' cannot be used: {error}.") from error


@dataclass(frozen=True)
class Place:
    """A region of an account, where something is to be done."""

    account: Account
    region: str
    clients: AccountClients = field(repr=False, compare=False)

    @property
    def account_id(self) -> str:
        """12 digits; costs one call for an account that is not given by a role. :raises CollectError: if it cannot be had."""
        return self.clients.account_id()

    def call(self, operation: str, *, service: str = "ssm", **parameters: Any) -> Any:
        """One API call. :raises CollectError: that names the action, and carries the cause."""
        return self.clients.call(service, operation, region=self.region, **parameters)

    def wait(self, waiter: Any, action: str, **parameters: Any) -> None:
        """Wait by one of botocore's waiters. :raises CollectError: that names the action by which it looks, and carries the cause."""
        try:
            waiter.wait(**parameters)
        except Exception as error:
            raise self.clients.explain(self.region, action, error) from error

    def pages(self, operation: str, key: str, *, service: str = "ssm", **parameters: Any) -> Iterable[dict[str, Any]]:
        """All entries of a listing, page by page. :raises CollectError: as `call`."""
        while True:
            page = self.call(operation, service=service, **parameters)
            yield from page.get(key, ())
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]

    def describe(self) -> dict[str, Any]:
        """Which place it is, for a module's result."""
        return {"account_id": self.account_id, "account_name": self.account.name, "region": self.region}


@dataclass
class Opened:
    """The places that can be used, in the order of accounts and regions, and why others cannot."""

    places: list[Place] = field(default_factory=list)
    errors: list[CollectError] = field(default_factory=list)


def open_places(params: Mapping[str, Any], name: str, *, retries: bool = True) -> Opened:
    """Find the organization's accounts, resolve credentials, assume roles, and list regions where they are not named.

    :param params: the module's; what one account, or the organization, refuses is among the result's errors.
    :param name: of the module.
    :param retries: as `ClientPool` has it.
    :raises OptionError: for options that cannot be used.
    """
    accounts, pool, max_workers = read_accounts(params), make_pool(params, name, retries=retries), params["max_workers"]

    def open_account(account: Account) -> list[Place]:
        clients = AccountClients(pool, account)
        return [Place(account, region, clients) for region in clients.regions()]

    found = find_accounts(accounts, pool, max_workers)
    opened, refused = attempt_all(open_account, found.accounts, max_workers)
    return Opened([place for places in opened for place in places], [*found.errors, *refused])


def side_by_side(function: Callable[[T], R], items: Iterable[T], max_workers: int) -> list[R]:
    """Results in the order of the items; the first error is raised once all have ended."""
    with ThreadPoolExecutor(max(1, max_workers), thread_name_prefix="fleet.ssm") as executor:
        futures = [executor.submit(function, item) for item in items]
    return [future.result() for future in futures]


def attempt_all(step: Callable[[T], R], items: Iterable[T], max_workers: int) -> tuple[list[R], list[CollectError]]:
    """What came of the items that AWS did not refuse, in their order, and the refusals of the others."""

    def attempt(item: T) -> R | CollectError:
        try:
            return step(item)
        except CollectError as error:
            return error

    found = side_by_side(attempt, items, max_workers)
    return [each for each in found if not isinstance(each, CollectError)], [each for each in found if isinstance(each, CollectError)]
