# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is cached: nodes as a table in one string, and how the accounts were reached that an organization has. No I/O, no secret.

One string, since cache plugins look into every value that they get, compare it and copy it, and some keep it in files that are
read value by value. A table, since 10,000 times the names of the fields are most of the text.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...module_utils.accounts import Account
from ...module_utils.nodes import FIELDS, Node
from ...module_utils.organization import Accounts

#: To be changed with the shape of what is cached; a part of the cache key.
FORMAT = 2


@dataclass(frozen=True)
class Found:
    """The nodes, and the account of each."""

    accounts: Sequence[Account]
    nodes: Sequence[tuple[int, Node]]  #: each with the number of its account


def pack(found: Found, written: Accounts) -> dict[str, Any]:
    """As JSON. Of accounts that are written in the inventory file nothing is kept.

    :raises ValueError: if the accounts are not those of the file, and then those of the organization.
    """
    count = len(written.written)
    if tuple(found.accounts[:count]) != written.written:
        raise ValueError("the accounts of the file come first")
    rows = [[number, *(node[name] for name in FIELDS)] for number, node in found.nodes]
    table = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)
    return {"organization": [[account.name, account.role_arn] for account in found.accounts[count:]], "nodes": base64.b64encode(table).decode()}


def unpack(kept: dict[str, Any], written: Accounts) -> Found:
    """The other way, with the accounts as the file says now how to reach them."""
    accounts = list(written.written)
    if written.organization is not None:
        accounts += (written.organization.account(name, role_arn) for name, role_arn in kept["organization"])
    rows = json.loads(zlib.decompress(base64.b64decode(kept["nodes"])))
    return Found(accounts, [(row[0], dict(zip(FIELDS, row[1:], strict=True))) for row in rows])
