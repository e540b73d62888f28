# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom a session runs: root, the RunAs user, or ssm-user, who is made when first needed."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .document import DocumentError, SessionOrder

DEFAULT_USER = "ssm-user"
_SUDOERS = Path("/etc/sudoers.d/ssm-agent-users")


@dataclass(frozen=True)
class Account:
    """Ids of the session's processes; None: those of the agent itself."""

    uid: int | None
    gid: int | None
    groups: tuple[int, ...]
    home: str | None  #: what HOME is set to, if it is set


def account_of(order: SessionOrder) -> Account:
    """The account for a session. Raises DocumentError in the agent's words."""
    if order.elevated:
        return Account(None, None, (), "/root")
    if os.geteuid() != 0:
        if order.run_as_enabled:
            raise DocumentError("the agent must run as root to use RunAs")
        return Account(None, None, (), os.environ.get("HOME"))
    if only_root():
        if order.run_as_enabled:
            raise DocumentError("this node has no user but root")
        return Account(None, None, (), "/root")
    name = DEFAULT_USER
    if order.run_as_enabled:
        name = order.run_as.strip()
        if not name:
            raise DocumentError("please set the RunAs default user")
        if not _exists(name):
            raise DocumentError(f"failed to start pty since RunAs user {name} does not exist")
    elif not _exists(name):
        _create(name)
    entry = pwd.getpwnam(name)
    if not entry.pw_uid or not entry.pw_gid:
        raise DocumentError("invalid uid and gid")
    # HOME is guessed from the name, whatever the user database says: the agent does so.
    return Account(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)), f"/home/{name}")


def only_root() -> bool:
    """Whether no other user can be: the agent runs in a user namespace with a single id."""
    return Path("/proc/self/uid_map").read_text().split()[2:] == ["1"]


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _create(name: str) -> None:
    subprocess.run(["useradd", "-m", name], check=False, capture_output=True)
    if not _SUDOERS.exists():
        _SUDOERS.parent.mkdir(parents=True, exist_ok=True)
        _SUDOERS.write_text(f"# User rules for {name}\n{name} ALL=(ALL) NOPASSWD:ALL\n")
        _SUDOERS.chmod(0o440)
