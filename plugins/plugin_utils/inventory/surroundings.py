# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls AWS, and where, as far as it can be seen without botocore: the part of the cache's key that options do not hold.

What botocore resolves is a function of variables and files (region, profile, keys, endpoints), and for the rest of the machine
and its user (instance role, logins that are kept, programs that a profile names). So equal surroundings mean an equal identity, and
neither an API call nor the import of botocore is needed to serve a cached inventory.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from ...module_utils.accounts import Account

#: Temporary by nature or told apart by the key's id; and no secret is wanted here.
_SECRETS = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"})
#: What botocore reads: the variable that names the file, and the file if there is no such variable.
_FILES = (
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("AWS_CREDENTIAL_FILE", ""),
    ("BOTO_CONFIG", "/etc/boto.cfg"),
    ("", "~/.boto"),
)
#: Variables that say whose credentials they are, whatever machine it is (a job's container has a new name each time).
_CALLER_VARIABLES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


def surroundings(accounts: Iterable[Account], environ: Mapping[str, str]) -> dict[str, Any]:
    """Whatever tells one caller of these accounts from another, as JSON; without secrets.

    What a `credential_process` or a login answers is not among it: they count as the machine's user.
    """
    named = any(environ.get(name) for name in _CALLER_VARIABLES)
    unnamed = [account for account in accounts if not account.base.access_key and (account.base.profile or not named)]
    return {
        "variables": sorted((name, value) for name, value in environ.items() if name.startswith("AWS_") and name not in _SECRETS),
        "files": [_digest(environ.get(variable, default)) for variable, default in _FILES],
        "user": [socket.gethostname(), os.getuid()] if unnamed else None,
    }


def _digest(path: str) -> str | None:
    """Of the content, since who refreshes credentials in a file renews it, and who touches it does not change them."""
    try:
        with open(os.path.expanduser(os.path.expandvars(path)), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
