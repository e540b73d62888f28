# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance profiles over accounts and regions: all are looked at, then planned, then changed side by side; one that refuses stops no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from .filters import Selection
from .paced import PacedCalls
from .problems import CollectError
from .profile_plan import Instance, Step, Wanted, after, others, outsiders, plan, widened
from .profile_roles import ProfileRoles
from .profile_state import Bare, Gone, InstanceError, ProfilePlace
from .resources.iam import NOT_THERE
from .resources.kind import absent_if
from .scope import Place, side_by_side

#: Instances that a message names.
_NAMED = 10

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """What a task wants beside the profile itself; times are in seconds."""

    ids: tuple[str, ...] = ()  #: instances that must be found
    widen_shared_roles: bool = False
    check_mode: bool = False
    wait: bool = True
    wait_timeout: float = 300
    consistency_timeout: float = 120
    max_workers: int = 16


@dataclass
class _Entry:
    """An instance on its way through a run."""

    place: ProfilePlace
    step: Step
    changed: bool = False
    unsettled: bool = False
    error: str | None = None


@dataclass
class _Account:
    """The places of one account, and its roles."""

    account_id: str
    calls: PacedCalls
    roles: ProfileRoles
    places: list[ProfilePlace] = field(default_factory=list)
    instances: dict[int, list[Instance]] = field(default_factory=dict)  #: by the place's position in `places`
    entries: list[_Entry] = field(default_factory=list)
    widened: dict[str, tuple[str, ...]] = field(default_factory=dict)
    profiles: dict[str, list[str]] = field(default_factory=dict)  #: ARNs of all that have a role that is widened, by its name
    users: dict[str, set[str]] = field(default_factory=dict)  #: ids of all instances that use it, likewise
    regions: list[str] = field(default_factory=list)  #: where these may be
    outsiders: dict[str, list[str]] = field(default_factory=dict)
    error: CollectError | None = None  #: why nothing can be changed in it


class ProfileRun:
    """One task. `look` first, then `obstacles`, and if there are none `apply`."""

    def __init__(self, places: Sequence[Place], wanted: Wanted, selection: Selection, settings: Settings) -> None:
        self.errors: list[CollectError] = []
        self.warnings: list[str] = []
        self._wanted = wanted
        self._selection = selection
        self._settings = settings
        self._accounts: dict[str, _Account] = {}
        self._missing: list[str] = []
        for place, account_id in zip(places, self._each(lambda place: place.account_id, places), strict=True):
            if account_id is not None:
                self._add(place, account_id)

    # -- looking

    def look(self) -> None:
        """See what there is everywhere, and plan."""
        self._look_for_instances()
        seen = {instance.instance_id for account in self._accounts.values() for listed in account.instances.values() for instance in listed}
        self._missing = [instance_id for instance_id in self._settings.ids if instance_id not in seen]
        self._in_accounts(self._plan)
        if not self._settings.widen_shared_roles:
            self._look_for_outsiders()
        self._in_accounts(self._await_profile)

    def _look_for_instances(self) -> None:
        pairs = [(account, number) for account in self._accounts.values() for number in range(len(account.places))]
        looked = self._each(lambda pair: pair[0].places[pair[1]].look(self._selection), pairs)
        for (account, number), instances in zip(pairs, looked, strict=True):
            account.instances[number] = instances or []

    def _plan(self, account: _Account) -> None:
        every = [instance for listed in account.instances.values() for instance in listed]
        roles = {profile: absent_if(NOT_THERE, partial(account.roles.role, profile)) for profile in others(self._wanted, every)}
        for number, instances in account.instances.items():
            account.entries += [_Entry(account.places[number], step) for step in plan(self._wanted, instances, roles)]
        account.widened = widened(entry.step for entry in account.entries)

    def _look_for_outsiders(self) -> None:
        """See who else uses the roles that are widened, in every region of their accounts."""
        self._in_accounts(self._find_profiles)
        self._in_accounts(self._find_users, [(account, region) for account in self._usable() for region in account.regions])
        for account in self._usable():
            selected = {instance.instance_id for listed in account.instances.values() for instance in listed}
            account.outsiders = outsiders(account.users, selected)

    def _find_profiles(self, account: _Account) -> None:
        if account.widened:
            account.profiles = {role: account.roles.profiles_of(role) for role in account.widened}
            account.regions = account.roles.regions()

    def _find_users(self, account: _Account, region: str) -> None:
        place, arns = account.roles.place, [arn for listed in account.profiles.values() for arn in listed]
        found = self._place(Place(place.account, region, place.clients), account.calls).users(arns)
        for role, listed in account.profiles.items():
            account.users.setdefault(role, set()).update(*(found[arn] for arn in listed))

    def _await_profile(self, account: _Account) -> None:
        """Nothing is changed in an account that does not have the profile; in check mode it may be made by a task before this one."""
        if not any(entry.step.action in ("attach", "replace") for entry in account.entries):
            return
        if any(entry.step.action == "refuse" for entry in account.entries) or account.outsiders:
            return  # the task will stop anyway
        seconds = 0 if self._settings.check_mode else self._settings.consistency_timeout
        error = account.roles.await_profile(str(self._wanted.profile), seconds)
        if error is not None and self._settings.check_mode:
            self.warnings.append(str(error))
        elif error is not None:
            raise error

    # -- judging

    def obstacles(self) -> list[str]:
        """Why nothing may be changed anywhere, in words."""
        found = []
        refused = [entry for account in self._accounts.values() for entry in account.entries if entry.step.action == "refuse"]
        if refused:
            others_there = any(entry.step.instance.profile for entry in refused)
            remedy = "Set 'other_profile' to augment, replace or skip, or choose other instances." if others_there else "Leave them out."
            told = _listed(f"{entry.step.instance.instance_id} in {_where(entry.place.place)}: {entry.step.reason}" for entry in refused)
            found.append(f"{_count(len(refused), 'instance')} cannot get the profile {self._wanted.profile}: {told}. {remedy}")
        for account in self._accounts.values():
            for role, instances in account.outsiders.items():
                found.append(
                    f"The role {role} of account {account.account_id} is used by {_count(len(instances), 'instance')} that the task is not about: "
                    f"{_listed(instances)}. Set 'widen_shared_roles: true' to give it the policies all the same, or choose these instances too."
                )
        if self._missing and not self.errors:  # else they may be where nobody could look
            text = "not found in the accounts and regions that were asked: check 'instance_ids', 'accounts' and 'regions'"
            found.append(f"{_count(len(self._missing), 'instance')} {text}: {_listed(self._missing)}.")
        return found

    # -- changing

    def apply(self) -> None:
        """Do what is planned, or in check mode say so."""
        accounts = self._usable()
        if self._settings.check_mode:
            for account in accounts:
                for entry in account.entries:
                    entry.changed = entry.step.changes
            return
        pairs = [(account, role) for account in accounts for role in account.widened]
        self._side_by_side(lambda pair: self._widen(*pair), pairs)
        entries = [entry for account in accounts for entry in account.entries]
        self._side_by_side(self._change, [entry for entry in entries if entry.step.action in ("attach", "replace", "detach")])
        if self._settings.wait:
            for entry in entries:
                entry.unsettled |= entry.step.action == "none" and not entry.step.instance.settled
            self._side_by_side(self._settle, [place for account in accounts for place in account.places])

    def _widen(self, account: _Account, role: str) -> None:
        entries = [entry for entry in account.entries if entry.step.action == "augment" and entry.step.role == role]
        added: list[str] = []
        try:
            for arn in account.widened[role]:
                account.roles.attach(role, arn)
                added.append(arn)
        except CollectError as error:
            self.errors.append(error)
            account.widened[role] = tuple(added)
            for entry in entries:
                entry.error = str(error)
        for entry in entries:
            entry.step = replace(entry.step, policies=tuple(arn for arn in entry.step.policies if arn in added))
            entry.changed = bool(entry.step.policies)

    def _change(self, entry: _Entry) -> None:
        try:
            entry.unsettled = not entry.place.change(entry.step)
            entry.changed = True
        except (InstanceError, CollectError) as error:
            self._failed(entry, error)

    def _settle(self, place: ProfilePlace) -> None:
        entries = {
            entry.step.instance.instance_id: entry
            for account in self._accounts.values() for entry in account.entries if entry.place is place and entry.unsettled
        }  # fmt: skip
        if not entries:
            return
        try:
            for instance_id, error in place.settle([entry.step.instance for entry in entries.values()]).items():
                self._failed(entries[instance_id], error)
        except CollectError as error:
            self.errors.append(error)

    def _failed(self, entry: _Entry, error: Exception) -> None:
        cause = error.__cause__
        if isinstance(error, Bare):
            entry.step, entry.changed = replace(entry.step, action="detach"), True
        if isinstance(error, Gone):
            entry.step, entry.changed = replace(entry.step, action="gone", reason=str(error)), False
            self.warnings.append(f"{entry.step.instance.instance_id} in {_where(entry.place.place)}: {error}")
        elif isinstance(error, CollectError):
            entry.error = str(error)
            self.errors.append(error)
        else:
            entry.error = str(error)
            if isinstance(cause, CollectError) and str(error).startswith(str(cause)):
                self.errors.append(cause)  # said once for a region, however many instances it is true of

    # -- telling

    def failures(self) -> list[str]:
        """What else than accounts and regions failed: instances, each in words."""
        told = {str(error) for error in self.errors}
        found = []
        for account in self._accounts.values():
            for entry in account.entries:
                named = entry.step.instance.instance_id
                gone = entry.step.action == "gone" and named in self._settings.ids
                text = entry.step.reason if gone else entry.error
                if text and text not in told:
                    found.append(f"{named} in {_where(entry.place.place)}: {text}")
        if self._missing:
            found.append(f"not found: {_listed(self._missing)}")
        return found if len(found) <= _NAMED else [*found[:_NAMED], f"and {len(found) - _NAMED} more in 'instances'"]

    def result(self) -> dict[str, Any]:
        """What the module returns of instances and roles."""
        instances = [self._shown(account, entry) for account in self._accounts.values() for entry in account.entries]
        counts = Counter(instance["action"] for instance in instances)
        roles = [
            {"account_id": account.account_id, "role": role, "policies": list(policies), "outsiders": account.outsiders.get(role, [])}
            for account in self._accounts.values() for role, policies in account.widened.items()
        ]  # fmt: skip
        return {
            "changed": any(instance["changed"] for instance in instances),
            "instances": instances,
            "counts": {**counts, "failed": sum("error" in instance for instance in instances)},
            "roles": roles,
        }

    def diff(self) -> list[dict[str, Any]]:
        """Of each instance that is changed."""
        shown = (self._shown(account, entry) for account in self._accounts.values() for entry in account.entries if entry.changed)
        headers = ((entry, f"{entry['instance_id']} ({entry['account_name'] or entry['account_id']}, {entry['region']})") for entry in shown)
        return [{"before_header": header, "after_header": header, "before": entry["before"], "after": entry["after"]} for entry, header in headers]

    def _shown(self, account: _Account, entry: _Entry) -> dict[str, Any]:
        step, instance, place = entry.step, entry.step.instance, entry.place.place
        before: dict[str, Any] = {"instance_profile": instance.profile}
        planned: dict[str, Any] = {"instance_profile": after(self._wanted, step)}
        if step.action == "augment":
            before |= {"role": step.role, "policies": []}
            planned |= {"role": step.role, "policies": list(step.policies)}
        return {
            "instance_id": instance.instance_id,
            "name": instance.name,
            "state": instance.state,
            "account_id": account.account_id,
            "account_name": place.account.name,
            "region": place.region,
            "action": step.action,
            "changed": entry.changed,
            "reason": step.reason,
            "before": before,
            "after": planned if entry.changed else before,
            **({"error": entry.error} if entry.error else {}),
        }

    # -- help

    def _add(self, place: Place, account_id: str) -> None:
        account = self._accounts.get(account_id)
        if account is None:
            calls = PacedCalls(place.clients)
            account = self._accounts[account_id] = _Account(account_id, calls, ProfileRoles(place, calls))
        # A second entry for the same account has credentials of its own.
        calls = account.calls if place.clients is account.roles.place.clients else PacedCalls(place.clients)
        account.places.append(self._place(place, calls))

    def _place(self, place: Place, calls: PacedCalls) -> ProfilePlace:
        return ProfilePlace(place, calls, self._wanted, known_after=self._settings.consistency_timeout, done_after=self._settings.wait_timeout)

    def _side_by_side(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        return side_by_side(function, items, self._settings.max_workers)

    def _each(self, function: Callable[[T], R], items: Sequence[T]) -> list[R | None]:
        """Results in order; None and an error for those that are refused."""

        def run(item: T) -> R | None:
            try:
                return function(item)
            except CollectError as error:
                self.errors.append(error)
                return None

        return self._side_by_side(run, items)

    def _in_accounts(self, function: Callable[..., None], jobs: Sequence[tuple[Any, ...]] | None = None) -> None:
        """Side by side, for each account unless there are other jobs in them; what is refused first takes the account out of the run.

        :param jobs: what the function is called with; an account comes first.
        """

        def run(job: tuple[Any, ...]) -> CollectError | None:
            try:
                function(*job)
            except CollectError as error:
                return error
            return None

        if jobs is None:
            jobs = [(account,) for account in self._usable()]
        for (account, *_others), error in zip(jobs, self._side_by_side(run, jobs), strict=True):
            if error is not None and account.error is None:
                account.error = error
                self.errors.append(error)

    def _usable(self) -> list[_Account]:
        return [account for account in self._accounts.values() if account.error is None]


def _where(place: Place) -> str:
    return f"{place.account.label}, region {place.region}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(texts: Iterable[str]) -> str:
    every = list(texts)
    more = f", and {len(every) - _NAMED} more in the result" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
