# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Organizations: moto's, with the lab's accounts in it, and closed to those whom AWS does not answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from moto.organizations import utils
from moto.organizations.models import organizations_backends

from .errors import AwsError

#: What accounts may ask that manage nothing (service authorization reference: the others are for the management account).
_FOR_MEMBERS = frozenset({"DescribeOrganization", "LeaveOrganization"})


def create(management: str, members: Sequence[str]) -> None:
    """An organization of these accounts, all of them right below its root. Members are called as their profiles, lab-ID."""
    backend = organizations_backends[management]["aws"]
    with _next_id(management):
        backend.create_organization(region="us-east-1", FeatureSet="ALL")
    for member in members:
        with _next_id(member):
            backend.create_account(AccountName=f"lab-{member}", Email=f"{member}@example.com")


def asked_as(account: str, action: str) -> str:
    """The account in whose name moto is to be asked.

    :raises AwsError: if AWS does not answer this account: the management account and delegated administrators alone may look around.
    """
    if organizations_backends[account]["aws"].org is not None or action == "CreateOrganization":
        return account
    management, partition = organizations_backends.master_accounts.get(account, ("", ""))
    if not management:
        raise AwsError("AWSOrganizationsNotInUseException", "Your account is not a member of an organization.")
    backend = organizations_backends[management][partition]
    if action.startswith(("List", "Describe")) and any(admin.account.id == account for admin in backend.admins):
        return str(management)
    if action not in _FOR_MEMBERS:
        raise AwsError("AccessDeniedException", "You don't have permissions to access this resource.")
    return account


@contextmanager
def _next_id(account: str) -> Iterator[None]:
    """The account that is made within has this id, where moto would throw dice."""
    dice = utils.make_random_account_id
    utils.make_random_account_id = lambda: account
    try:
        yield
    finally:
        utils.make_random_account_id = dice
