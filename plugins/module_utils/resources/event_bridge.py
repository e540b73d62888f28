# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buses and rules of EventBridge."""

from __future__ import annotations

from typing import Any

from ..scope import Place
from .kind import Kind, State, absent_if, arn, document, pairs, text, unpaired

_NOT_THERE = ("ResourceNotFoundException",)


class _Tagged(Kind):
    """What EventBridge knows by its ARN."""

    def _tags_of(self, resource: str) -> dict[str, str]:
        return unpaired(self._call("ListTagsForResource", ResourceARN=arn(self._place, "events", resource))["Tags"])

    def _write_tags(self, resource: str, now: State | None) -> None:
        if missing := self._missing_tags(now):
            self._call("TagResource", ResourceARN=arn(self._place, "events", resource), Tags=pairs(missing))

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="events", **parameters)


class EventBus(_Tagged):
    """Properties: `policy`, a document that says who may put events on it; `tags`."""

    needs = ("policy",)
    takes = ("tags",)
    documents = frozenset({"policy"})

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("DescribeEventBus", Name=self._name))
        if found is None:
            return None
        return {"policy": document(found.get("Policy") or ""), **self._seen_tags(lambda: self._tags_of(f"event-bus/{self._name}"))}

    def write(self, now: State | None, wanted: State) -> None:
        if now is None:
            self._call("CreateEventBus", Name=self._name)
        self._call("PutPermission", EventBusName=self._name, Policy=text(wanted["policy"]))
        self._write_tags(f"event-bus/{self._name}", now)

    def remove(self, now: State) -> None:
        self._call("DeleteEventBus", Name=self._name)


class Rule(_Tagged):
    """Properties: `pattern`, a document; `target`, an ARN; `bus` (the default one if not given) and `role`, by which the target is reached; `tags`."""

    needs = ("pattern", "target")
    takes = ("bus", "role", "tags")
    documents = frozenset({"pattern"})

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._bus = wanted.get("bus", "default")
        self._resource = f"rule/{name}" if self._bus == "default" else f"rule/{self._bus}/{name}"

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
            **self._seen_tags(lambda: self._tags_of(self._resource)),
        }

    def write(self, now: State | None, wanted: State) -> None:
        if now is None or not now["enabled"] or now["pattern"] != document(wanted["pattern"]):
            self._call("PutRule", Name=self._name, EventBusName=self._bus, EventPattern=text(wanted["pattern"]), State="ENABLED")
        target = {"Id": "fleet.ssm", "Arn": wanted["target"], **({"RoleArn": wanted["role"]} if wanted.get("role") else {})}
        answer = self._call("PutTargets", Rule=self._name, EventBusName=self._bus, Targets=[target])
        if answer.get("FailedEntryCount"):
            raise RuntimeError(f"rule {self._name}: {answer['FailedEntries'][0].get('ErrorMessage')}")
        self._write_tags(self._resource, now)

    def remove(self, now: State) -> None:
        targets = self._call("ListTargetsByRule", Rule=self._name, EventBusName=self._bus)["Targets"]
        if targets:
            self._call("RemoveTargets", Rule=self._name, EventBusName=self._bus, Ids=[target["Id"] for target in targets])
        self._call("DeleteRule", Name=self._name, EventBusName=self._bus)
