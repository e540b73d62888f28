# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a task describes with what is there, in every place, and brings it about."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..accounts import OptionError
from ..scope import Place
from .activation import Activation
from .bucket import Bucket, Notifications
from .event_bridge import EventBus, Rule
from .function import Function
from .instance_profile import InstanceProfile
from .key import Key
from .kind import Kind, State, document, domain_of, partition_of
from .queue import Queue
from .role import Role
from .service_setting import ServiceSetting

KINDS: Mapping[str, type[Kind]] = {
    "activation": Activation,
    "bucket": Bucket,
    "bucket_notifications": Notifications,
    "event_bus": EventBus,
    "event_rule": Rule,
    "function": Function,
    "instance_profile": InstanceProfile,
    "key": Key,
    "queue": Queue,
    "role": Role,
    "service_setting": ServiceSetting,
}


@dataclass
class Resource:
    """One resource in one place."""

    kind: str
    name: str
    place: Place
    wanted: State
    handle: Kind
    now: State | None = None
    action: str = "none"  #: none | create | change | remove | keep
    reason: str = ""

    @property
    def label(self) -> str:
        """For messages and differences."""
        where = f"{self.place.account.label}, {self.place.region}" if self.handle.regional else self.place.account.label
        return f"{self.kind} {self.name} ({where})"

    def plan(self, *, absent: bool) -> None:
        """Look, and decide. :raises CollectError: if it cannot be seen, or cannot become what is wanted."""
        self.now = self.handle.look()
        if absent:
            if self.now is not None:
                self.reason = self.handle.kept()
                self.action = "keep" if self.reason else "remove"
        elif self.now is None:
            self.action = "create"
        elif self._differences(self.now):
            self.handle.refuse(self.now)
            self.action = "change"

    def apply(self) -> None:
        """Do it. :raises CollectError: if that is refused."""
        if self.action == "remove" and self.now is not None:
            self.handle.remove(self.now)
        elif self.action in ("create", "change"):
            self.handle.write(self.now, self.wanted)

    def difference(self) -> dict[str, Any]:
        """As Ansible shows it; only what is described or was."""
        after = {} if self.action == "remove" else {key: self._comparable(key) for key in self.wanted}
        before = {} if self.now is None else self.now if self.action == "remove" else {key: self.now.get(key) for key in self.wanted}
        return {"before_header": self.label, "after_header": self.label, "before": before, "after": after}

    def _differences(self, now: State) -> bool:
        # What the service always has beside what was described, such as an encryption, counts too.
        unwanted = any(now.get(key) is False for key in ("private", "encrypted", "enabled"))
        return unwanted or any(now.get(key) != self._comparable(key) for key in self.wanted)

    def _comparable(self, key: str) -> Any:
        value = self.wanted[key]
        return document(value) if key in self.handle.documents else value


def resources_of(entries: Sequence[Mapping[str, Any]], places: Iterable[Place]) -> list[list[Resource]]:
    """The resources of each place, in the order in which they are made. :raises OptionError: for one that cannot be meant so."""
    seen: set[tuple[str, str, str]] = set()
    found = []
    for place in places:
        of_place = []
        for entry in entries:
            kind, name = KINDS[entry["kind"]], entry["name"]
            region = place.region if kind.regional else ""
            if (place.account_id, region, f"{entry['kind']} {name}") in seen:
                continue
            seen.add((place.account_id, region, f"{entry['kind']} {name}"))
            wanted = _filled(copy.deepcopy(dict(entry.get("properties") or {})), place)
            try:
                of_place.append(Resource(entry["kind"], name, place, wanted, kind(place, name, wanted)))
            except OSError as error:
                raise OptionError(f"{entry['kind']} {name}: {error}") from error
        found.append(of_place)
    return found


def check(entries: Sequence[Mapping[str, Any]]) -> None:
    """:raises OptionError: for a resource that lacks a property, or has one that its kind does not know."""
    for entry in entries:
        kind, given = KINDS[entry["kind"]], entry.get("properties") or {}
        missing = [name for name in kind.needs if name not in given]
        unknown = [name for name in given if name not in (*kind.needs, *kind.takes)]
        if missing:
            raise OptionError(f"{entry['kind']} {entry['name']} needs the properties {', '.join(missing)}.")
        if unknown:
            raise OptionError(f"{entry['kind']} {entry['name']} has no property {', '.join(unknown)}; it takes {', '.join((*kind.needs, *kind.takes))}.")


def _filled(value: Any, place: Place) -> Any:
    """With `<account>`, `<region>`, `<partition>` and `<domain>` replaced by those of the place."""
    if isinstance(value, str):
        value = value.replace("<account>", place.account_id).replace("<region>", place.region)
        return value.replace("<partition>", partition_of(place)).replace("<domain>", domain_of(place))
    if isinstance(value, Mapping):
        return {_filled(key, place): _filled(inner, place) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, place) for inner in value]
    return value
