# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell commands that give a node the users of its description, with their sudo and doas rules."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from ..model import NodeUser

_RULES = {
    "nopasswd": "{name} ALL=(ALL) NOPASSWD:ALL",
    "password": "{name} ALL=(ALL) ALL",
    "requiretty": "Defaults:{name} requiretty\n{name} ALL=(ALL) NOPASSWD:ALL",
}
_DOAS = {"nopasswd": "permit nopass {name}", "password": "permit {name}", "requiretty": "permit nopass {name}"}


def setup_commands(users: Sequence[NodeUser]) -> Iterator[str]:
    """One command for each thing to do; every one must succeed, in order."""
    for user in users:
        name = shlex.quote(user.name)
        for group in user.groups:
            yield f"getent group {shlex.quote(group)} >/dev/null || groupadd {shlex.quote(group)}"
        groups = f"-G {shlex.quote(','.join(user.groups))} " if user.groups else ""
        yield f"id -u {name} >/dev/null 2>&1 || useradd -m -s {shlex.quote(user.shell)} {groups}{name}"
        if user.password is not None:
            yield f"printf '%s\\n' {shlex.quote(f'{user.name}:{user.password}')} | chpasswd"
        if user.sudo != "none":
            rule = _RULES[user.sudo].format(name=user.name)
            path = shlex.quote(f"/etc/sudoers.d/lab-{user.name}")
            yield f"printf '%s\\n' {shlex.quote(rule)} > {path} && chmod 440 {path}"
            yield f"printf '%s\\n' {shlex.quote(_DOAS[user.sudo].format(name=user.name))} >> /etc/doas.conf"
    yield "[ ! -e /etc/doas.conf ] || chmod 600 /etc/doas.conf"


def write_file(path: str, text: str) -> list[str]:
    """Commands that write a text file."""
    name = shlex.quote(path)
    return [f"mkdir -p $(dirname {name})", f"printf '%s\\n' {shlex.quote(text.rstrip())} > {name}"]
