# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is cached gives back what was found, and holds neither secrets nor what the inventory file says anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.nodes import FIELDS
from ansible_collections.fleet.ssm.plugins.module_utils.organization import Accounts, read_scope
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.kept import Found, pack, unpack

KEYS = {"access_key": "AKIA", "secret_key": "geheim", "session_token": "streng"}
ROLE = "arn:aws:iam::222222222222:role/FleetOperator"


def node(number: int) -> dict[str, Any]:
    return {**dict.fromkeys(FIELDS), "instance_id": f"i-{number}", "tags": {"Name": "\u00e4 {{ x }}"}, "managed": True, "security_group_ids": ["sg-1"]}


def scope(**defaults: Any) -> Accounts:
    return read_scope([{"name": "own"}], {"role_name": "FleetOperator"}, {**KEYS, **defaults})


def found(accounts: Accounts) -> Found:
    assert accounts.organization
    both = [*accounts.written, accounts.organization.account("member", ROLE), accounts.organization.account("head", None)]
    return Found(both, [(number % 3, node(number)) for number in range(5)])


def test_it_comes_back_by_way_of_a_file() -> None:
    accounts = scope()
    kept = json.dumps(pack(found(accounts), accounts))
    assert unpack(json.loads(kept), accounts) == found(accounts)
    assert "geheim" not in kept and "streng" not in kept


def test_accounts_are_reached_as_the_file_says_now() -> None:
    kept = pack(found(scope()), scope())
    again = unpack(kept, scope(external_id="new", secret_key="other"))
    assert [account.external_id for account in again.accounts] == [None, "new", None]
    assert {account.base.secret_key for account in again.accounts} == {"other"}


def test_accounts_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="come first"):
        pack(Found([], []), scope())
