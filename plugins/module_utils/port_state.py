# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of the instances of a place that are open to everyone: found, judged, and closed where nobody is locked out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .aws_errors import error_code
from .filters import Selection
from .instances import described, selected
from .nodes import Node
from .port_plan import User, Verdict, judge, opened
from .problems import CollectError
from .scope import Place, side_by_side
from .security_rules import SecurityRule, rules_of

#: Ids that DescribeInstanceInformation takes.
_IDS = 50
_ASKED_AT_ONCE = 8
#: Somebody else has closed it, or an answer to us was lost.
_CLOSED = ("InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound")


@dataclass
class PortPlace:
    """One account and region. `look` first, whose errors are of the caller; then `confirm` or `close`."""

    place: Place
    ports: Sequence[int]
    wide: bool
    nodes: list[Node] = field(default_factory=list)  #: those selected that have open ports
    verdicts: list[Verdict] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  #: ids of rules
    errors: list[CollectError] = field(default_factory=list)
    _users: dict[str, list[User]] = field(default_factory=dict)
    _groups: dict[str, set[str]] = field(default_factory=dict)
    _answering: set[str] = field(default_factory=set)

    def look(self, selection: Selection) -> None:
        """See what is open, and judge. :raises CollectError: if something cannot be seen."""
        nodes = selected(self.place, selection)
        self._groups = {node["instance_id"]: set(node["security_group_ids"]) for node in nodes}
        for entry in self._interfaces("attachment.instance-id", self._groups):  # an instance may have several
            self._groups[entry["Attachment"]["InstanceId"]].update(group["GroupId"] for group in entry.get("Groups", ()))
        rules = [rule for rule in rules_of(self.place, {group for groups in self._groups.values() for group in groups}) if opened(rule, self.ports)]
        if not rules:
            return
        wide_open = {rule.group_id for rule in rules}
        self._users = {group: [] for group in wide_open}
        for entry in self._interfaces("group-id", wide_open):
            instance_id = entry.get("Attachment", {}).get("InstanceId")
            user = User(entry["NetworkInterfaceId"], instance_id, entry.get("Description", ""))
            for group in entry.get("Groups", ()):
                if group["GroupId"] in wide_open:
                    self._users[group["GroupId"]].append(user)
        self._answering = self._online(wide_open)
        self._judge(rules)
        self.nodes = [node for node in nodes if self._groups[node["instance_id"]] & wide_open]

    def confirm(self) -> None:
        """Ask those behind rules that may be closed whether they can be reached by a session: who is online may lack the way to `ssmmessages`."""
        asked = self._instances({verdict.rule.group_id for verdict in self.verdicts if verdict.close})
        try:
            connected = side_by_side(self._is_connected, asked, _ASKED_AT_ONCE)
        except CollectError as error:
            self.errors.append(error)
            self.verdicts = [replace(verdict, close=False) for verdict in self.verdicts]
            return
        self._answering.difference_update(instance_id for instance_id, yes in zip(asked, connected, strict=True) if not yes)
        self._judge([verdict.rule for verdict in self.verdicts])

    def close(self) -> None:
        """Close what may be closed, right after all behind it were asked."""
        self.confirm()
        for verdict in self.verdicts:
            if verdict.close:
                self._revoke(verdict.rule)

    def instances(self) -> list[dict[str, Any]]:
        """The instances that have open ports, as the module returns them."""
        found = []
        for node in self.nodes:
            groups = self._groups[node["instance_id"]]
            ports = {port for verdict in self.verdicts if verdict.rule.group_id in groups for port in verdict.ports}
            found.append(
                {
                    "instance_id": node["instance_id"],
                    "name": node["tags"].get("Name"),
                    "state": node["state"],
                    **self.place.describe(),
                    "public_ip_address": node["public_ip_address"],
                    "answers": node["instance_id"] in self._answering,
                    "ports": sorted(ports),
                    "security_group_ids": sorted({verdict.rule.group_id for verdict in self.verdicts if verdict.rule.group_id in groups}),
                }
            )
        return found

    def rules(self, done: Collection[str]) -> list[dict[str, Any]]:
        """The rules that let everyone in. :param done: ids of those that were closed, or would be."""
        return [
            {
                "group_id": verdict.rule.group_id,
                "rule_id": verdict.rule.rule_id,
                **self.place.describe(),
                "protocol": verdict.rule.protocol,
                "from_port": verdict.rule.first,
                "to_port": verdict.rule.last,
                "source": verdict.rule.source,
                "ports": list(verdict.ports),
                "instance_ids": sorted({user.instance_id for user in self._users[verdict.rule.group_id] if user.instance_id}),
                "closable": verdict.close,
                "reason": verdict.reason,
                "changed": verdict.rule.rule_id in done,
            }
            for verdict in self.verdicts
        ]

    def _revoke(self, rule: SecurityRule) -> None:
        try:  # alone, since for one that is gone EC2 refuses all that are in a call
            self.place.call("RevokeSecurityGroupIngress", service="ec2", GroupId=rule.group_id, SecurityGroupRuleIds=[rule.rule_id])
        except CollectError as error:
            if error_code(error) not in _CLOSED:
                self.errors.append(error)
                return
        self.closed.add(rule.rule_id)

    def _judge(self, rules: Iterable[SecurityRule]) -> None:
        self.verdicts = judge(rules, self.ports, self._users, self._answering, wide=self.wide)

    def _instances(self, groups: Iterable[str]) -> list[str]:
        return sorted({user.instance_id for group in groups for user in self._users[group] if user.instance_id})

    def _is_connected(self, instance_id: str) -> bool:
        return bool(self.place.call("GetConnectionStatus", Target=instance_id)["Status"] == "connected")

    def _online(self, groups: Iterable[str]) -> set[str]:
        """Those instances of some groups whose agent is heard now."""
        ids, found = self._instances(groups), set[str]()
        for start in range(0, len(ids), _IDS):
            chosen = [{"Key": "InstanceIds", "Values": ids[start : start + _IDS]}]
            entries = self.place.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=chosen, MaxResults=_IDS)
            found.update(entry["InstanceId"] for entry in entries if entry["PingStatus"] == "Online")
        return found

    def _interfaces(self, name: str, values: Collection[str]) -> Iterable[dict[str, Any]]:
        return described(self.place, "DescribeNetworkInterfaces", "NetworkInterfaces", name, values)
