# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buses and rules of EventBridge."""

from __future__ import annotations

from typing import Any

from ..scope import Place
from .kind import Kind, State, absent_if, document, text

_NOT_THERE = ("ResourceNotFoundException",)


class EventBus(Kind):
    """Properties: `policy`, a document that says who may put events on it."""

    needs = ("policy",)
    documents = frozenset({"policy"})

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("DescribeEventBus", Name=self._name))
        return None if found is None else {"policy": document(found.get("Policy") or "")}

    def write(self, now: State | None, wanted: State) -> None:
        if now is None:
            self._call("CreateEventBus", Name=self._name)
        self._call("PutPermission", EventBusName=self._name, Policy=text(wanted["policy"]))

    def remove(self, now: State) -> None:
        self._call("DeleteEventBus", Name=self._name)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="events", **parameters)


class Rule(Kind):
    """Properties: `pattern`, a document; `target`, an ARN; `bus` (the default one if not given) and `role`, by which the target is reached."""

    needs = ("pattern", "target")
    takes = ("bus", "role")
    documents = frozenset({"pattern"})

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._bus = wanted.get("bus", "default")

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("DescribeRule", Name=self._name, EventBusName=self._bus))
        if found is None:
            return None
        targets = self._call("ListTargetsByRule", Rule=self._name, EventBusName=self._bus)["Targets"]
        first = targets[0] if targets else {}
        return {
            "bus": self._bus,
            "pattern": document(found.get("EventPattern") or ""),
            "enabled": found.get("State") == "ENABLED",
            "target": first.get("Arn"),
            "role": first.get("RoleArn"),
        }

    def write(self, now: State | None, wanted: State) -> None:
        if now is None or not now["enabled"] or now["pattern"] != document(wanted["pattern"]):
            self._call("PutRule", Name=self._name, EventBusName=self._bus, EventPattern=text(wanted["pattern"]), State="ENABLED")
        target = {"Id": "fleet.ssm", "Arn": wanted["target"], **({"RoleArn": wanted["role"]} if wanted.get("role") else {})}
        answer = self._call("PutTargets", Rule=self._name, EventBusName=self._bus, Targets=[target])
        if answer.get("FailedEntryCount"):
            raise RuntimeError(f"rule {self._name}: {answer['FailedEntries'][0].get('ErrorMessage')}")

    def remove(self, now: State) -> None:
        targets = self._call("ListTargetsByRule", Rule=self._name, EventBusName=self._bus)["Targets"]
        if targets:
            self._call("RemoveTargets", Rule=self._name, EventBusName=self._bus, Ids=[target["Id"] for target in targets])
        self._call("DeleteRule", Name=self._name, EventBusName=self._bus)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="events", **parameters)
