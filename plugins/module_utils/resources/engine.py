# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a task describes with what is there, in every place, and brings it about."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..accounts import OptionError
from ..problems import CollectError
from ..scope import Place, side_by_side
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
        """Do it. :raises CollectError: if that is refused; the action is then what was done until there."""
        try:
            if self.action == "remove" and self.now is not None:
                self.handle.remove(self.now)
            elif self.action in ("create", "change"):
                self.handle.write(self.now, self.wanted)
        except CollectError as error:
            with contextlib.suppress(CollectError):  # if nobody can see what was done, it is said to be what was planned
                self._look_again()
            raise self.named(error) from error

    def named(self, error: CollectError) -> CollectError:
        """An error that says that it is about this."""
        return CollectError(error.account, error.region, error.action, f"{self.kind} {self.name}: {error.text}", error.remedy, error.cause)

    def difference(self) -> dict[str, Any]:
        """As Ansible shows it; only what is described or was."""
        after = {} if self.action == "remove" else {key: self._comparable(key) for key in self.wanted}
        before = {} if self.now is None else self.now if self.action == "remove" else {key: self.now.get(key) for key in self.wanted}
        return {"before_header": self.label, "after_header": self.label, "before": before, "after": after}

    def _look_again(self) -> None:
        found = self.handle.look()
        if found == self.now:
            self.action = "none"
        elif found is not None:
            self.action = "create" if self.now is None else "change"
            self.wanted = {key: found.get(key) for key in self.wanted}

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


def bring_about(by_place: Sequence[Sequence[Resource]], *, absent: bool, max_workers: int) -> list[CollectError | None]:
    """Do what is planned, all accounts and regions side by side, but what the regions of an account share before all of them, or after them if it goes.

    :param by_place: of each place those that there are, one at least.
    :returns: for each place why not all was done. What comes after a refusal is left, in the place or if need be in its account, and its action says so.
    """
    accounts = [of_place[0].place.account_id for of_place in by_place]
    refused: list[CollectError | None] = [None for _account in accounts]
    for regional in (True, False) if absent else (False, True):
        stopped = {account: error for account, error in zip(accounts, refused, strict=True) if error is not None}
        parts = [[resource for resource in of_place[:: -1 if absent else 1] if resource.handle.regional is regional] for of_place in by_place]
        jobs = zip(parts, map(stopped.get, accounts), strict=True)
        refused = side_by_side(lambda job: _in_turn(*job), jobs, max_workers)
    return refused


def _in_turn(resources: Iterable[Resource], refused: CollectError | None) -> CollectError | None:
    """:param refused: what stops them all."""
    for resource in resources:
        if refused is not None:
            resource.action = "none"
            continue
        try:
            resource.apply()
        except CollectError as error:
            refused = error
    return refused


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
