# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules of security groups let everyone in, and which of them may be closed since everyone behind them answers otherwise. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .security_rules import SecurityRule

SSH, RDP = 22, 3389
_NAMED = 5


@dataclass(frozen=True)
class User:
    """A network interface that is in a security group."""

    interface_id: str
    instance_id: str | None  #: None for what is no instance: a load balancer, a database, a function
    description: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return self.instance_id or f"{self.interface_id}{f' ({self.description})' if self.description else ''}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a rule that lets everyone in."""

    rule: SecurityRule
    ports: tuple[int, ...]  #: those of the task that it opens
    close: bool
    reason: str = ""  #: why it may not be closed


def opened(rule: SecurityRule, ports: Sequence[int]) -> tuple[int, ...]:
    """Those ports that a rule opens to everyone. RDP is spoken over UDP too."""
    if rule.egress or not rule.anywhere:
        return ()
    return tuple(port for port in ports if rule.covers(port) or (port == RDP and rule.covers(port, "udp")))


def judge(
    rules: Iterable[SecurityRule],
    ports: Sequence[int],
    users: Mapping[str, Sequence[User]],
    answering: Collection[str],
    *,
    wide: bool,
) -> list[Verdict]:
    """A verdict for each rule that opens one of the ports to everyone.

    :param users: of each security group, all that there are.
    :param answering: ids of instances that are reached over Systems Manager now.
    :param wide: whether rules may be closed that open other ports besides.
    """
    found = []
    for rule in rules:
        open_ports = opened(rule, ports)
        if open_ports:
            reason = _reason(rule, ports, users.get(rule.group_id, ()), answering, wide)
            found.append(Verdict(rule, open_ports, not reason, reason))
    return found


def _reason(rule: SecurityRule, ports: Sequence[int], users: Sequence[User], answering: Collection[str], wide: bool) -> str:
    silent = sorted({user.name for user in users if user.instance_id is not None and user.instance_id not in answering})
    others = sorted({user.name for user in users if user.instance_id is None})
    if silent:
        return f"used by instances that do not answer over Systems Manager: {_listed(silent)}"
    if others:
        return f"used by what is no instance, and so cannot answer: {_listed(others)}"
    if not wide and (rule.everything or any(port not in ports for port in range(rule.first, rule.last + 1))):
        return "it opens other ports as well, which would be closed too: narrow it, or set 'wide_rules: close'"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
