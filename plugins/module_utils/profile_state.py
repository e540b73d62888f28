# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances and their profiles in one account and region: look at them, change one, wait until EC2 is done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .aws_errors import error_code, error_message
from .filters import FILTER_VALUES, Selection
from .nodes import join
from .paced import PacedCalls
from .problems import CollectError
from .profile_plan import AGAIN, GONE, REACHED, Association, Instance, Step, Wanted, is_passing, is_reached, judge, with_association
from .scope import Place

_PAGE = 1000
#: Seconds between looks, growing.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
#: What EC2 says of an instance or association that is not, or no more, in the state that a call needs.
_OTHER_STATE = frozenset({"IncorrectState", "IncorrectInstanceState", "InvalidAssociationID.NotFound", "InvalidInstanceID.NotFound"})


class InstanceError(Exception):
    """An instance could not be changed, whatever others could; the text says why, without naming the instance."""


class Gone(InstanceError):
    """It does not exist any more."""


class Bare(InstanceError):
    """The profile that it had was taken away, and it got no other."""


class ProfilePlace:
    """The instances of a place. Methods may run in many threads; they raise `CollectError` for what AWS refuses.

    :param known_after: seconds after which a profile that EC2 does not know is missing, rather than new.
    :param done_after: seconds in which EC2 must be done with one change.
    """

    def __init__(self, place: Place, calls: PacedCalls, wanted: Wanted, *, known_after: float, done_after: float) -> None:
        self.place = place
        self._calls = calls
        self._wanted = wanted
        self._known_after = known_after
        self._done_after = done_after

    def look(self, selection: Selection) -> list[Instance]:
        """The instances that are selected, with their profiles."""
        found: dict[str, dict[str, Any]] = {}
        for filters in selection.ec2_queries():
            found.update(self._instances(Filters=filters))
        for filters in selection.ec2_exclusions() if found else ():
            for instance_id in self._instances(Filters=filters):
                found.pop(instance_id, None)
        nodes = join(found.values(), (), {}, account_id=None, account_name=None, region=self.place.region)
        bare = [_bare(node["instance_id"], node["state"], node["tags"]) for node in nodes if selection.wants(node)]
        return self._with_associations(sorted(bare, key=lambda instance: instance.instance_id))

    def users(self, profile_arns: Iterable[str]) -> dict[str, set[str]]:
        """Ids of all instances here that have one of these profiles, by its ARN."""
        wanted: dict[str, set[str]] = {arn: set() for arn in profile_arns}
        for association in self._associations():
            if association.profile_arn in wanted and association.state in ("associating", "associated"):
                wanted[association.profile_arn].add(association.instance_id)
        return wanted

    def change(self, step: Step) -> bool:
        """Do what a step says of its instance, and return whether that is all: if not, `settle` has to wait.

        :raises InstanceError: if something about the instance is in the way; `Gone` if it is terminated, `Bare` if it is without a profile now.
        """
        instance, began, taken = step.instance, time.monotonic(), False

        def failure(text: str) -> InstanceError:
            if not taken:
                return InstanceError(text)
            why = "since EC2 replaces profiles of running instances only"
            return Bare(f"{text} Its profile {step.instance.profile} was taken away before, {why}.")

        pauses = _pauses()
        while True:
            try:
                if self._must_go_first(instance):
                    self._ec2("DisassociateIamInstanceProfile", AssociationId=instance.association_id)
                    instance, taken = replace(instance, profile_arn=None), True
                return self._try(instance)
            except CollectError as error:
                unknown = _is_unknown_profile(error)
                if not unknown and error_code(error) not in _OTHER_STATE:
                    raise failure(str(error)) from error
                patience = self._known_after
                if not unknown:
                    now = self._now(instance.instance_id)
                    verdict = judge(self._wanted, step.instance, now)
                    if verdict == REACHED:
                        return False
                    if now is None or now.state in GONE:
                        raise Gone(verdict) from error
                    if verdict != AGAIN:
                        raise InstanceError(verdict) from error
                    instance = now
                    patience = self._done_after if is_passing(now) else self._known_after
                if time.monotonic() - began >= patience:
                    raise failure(f"EC2 refuses it after {patience:.0f} s still: {error_message(error).rstrip('.')}.") from error
            time.sleep(next(pauses))

    def settle(self, instances: Sequence[Instance]) -> dict[str, InstanceError]:
        """Wait until EC2 is done with instances that were changed; what became of those with which it is not."""
        began, open_ones = time.monotonic(), {instance.instance_id: instance for instance in instances}
        errors: dict[str, InstanceError] = {}
        for pause in _pauses():
            looked = self._with_associations(list(open_ones.values()))
            waiting = {now.instance_id: now for now in looked if not is_reached(self._wanted, now)}
            lost = [instance_id for instance_id, now in waiting.items() if now.association_state is None]
            if lost:  # nothing goes on any more: terminated, or someone took it away
                alive = self._find(lost)
                for instance_id in lost:
                    verdict = judge(self._wanted, open_ones[instance_id], alive.get(instance_id))
                    if verdict != AGAIN:
                        errors[instance_id] = Gone(verdict)
                        del waiting[instance_id]
            if not waiting:
                break
            if time.monotonic() - began > self._done_after:
                for instance_id, now in waiting.items():
                    state = now.association_state or "without a profile"
                    errors[instance_id] = InstanceError(f"its profile is {state} after {self._done_after:.0f} s: look at it, and raise 'wait_timeout'")
                break
            open_ones = {instance_id: open_ones[instance_id] for instance_id in waiting}
            time.sleep(pause)
        return errors

    def _must_go_first(self, instance: Instance) -> bool:
        return self._wanted.present and instance.profile is not None and instance.state == "stopped"

    def _try(self, instance: Instance) -> bool:
        """The call that brings an instance to what is wanted; whether EC2 is done with it."""
        profile = {"Name": self._wanted.profile}
        if not self._wanted.present:
            if instance.profile is not None:
                self._ec2("DisassociateIamInstanceProfile", AssociationId=instance.association_id)
            return False
        if instance.profile is None:
            answer = self._ec2("AssociateIamInstanceProfile", InstanceId=instance.instance_id, IamInstanceProfile=profile)
        else:
            answer = self._ec2("ReplaceIamInstanceProfileAssociation", AssociationId=instance.association_id, IamInstanceProfile=profile)
        done: bool = answer["IamInstanceProfileAssociation"]["State"] == "associated"
        return done

    def _now(self, instance_id: str) -> Instance | None:
        return next(iter(self._with_associations(list(self._find([instance_id]).values()))), None)

    def _find(self, ids: Sequence[str]) -> dict[str, Instance]:
        """Instances of these ids that exist, without their profiles."""
        found: dict[str, Instance] = {}
        for chunk in _chunks(ids):
            for entry in self._instances(Filters=[{"Name": "instance-id", "Values": chunk}]).values():
                tags = {tag["Key"]: tag["Value"] for tag in entry.get("Tags", ())}
                found[entry["InstanceId"]] = _bare(entry["InstanceId"], entry["State"]["Name"], tags)
        return found

    def _instances(self, **parameters: Any) -> dict[str, dict[str, Any]]:
        region = self.place.region
        reservations = self._calls.pages("ec2", "DescribeInstances", "Reservations", region=region, MaxResults=_PAGE, **parameters)
        found = ((entry, reservation) for reservation in reservations for entry in reservation.get("Instances", ()))
        return {entry["InstanceId"]: {**entry, "OwnerId": reservation.get("OwnerId")} for entry, reservation in found}

    def _with_associations(self, instances: Sequence[Instance]) -> list[Instance]:
        by_instance: dict[str, list[Association]] = {}
        for chunk in _chunks([instance.instance_id for instance in instances]):
            for association in self._associations(Filters=[{"Name": "instance-id", "Values": chunk}]):
                by_instance.setdefault(association.instance_id, []).append(association)
        return [with_association(instance, by_instance.get(instance.instance_id, ())) for instance in instances]

    def _associations(self, **parameters: Any) -> Iterator[Association]:
        operation, key = "DescribeIamInstanceProfileAssociations", "IamInstanceProfileAssociations"
        for entry in self._calls.pages("ec2", operation, key, region=self.place.region, MaxResults=_PAGE, **parameters):
            yield Association(entry["AssociationId"], entry["InstanceId"], entry["IamInstanceProfile"]["Arn"], entry["State"])

    def _ec2(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self._calls("ec2", operation, region=self.place.region, **parameters)


def _bare(instance_id: str, state: str, tags: dict[str, str]) -> Instance:
    return replace(Instance(instance_id, state), name=tags.get("Name"))


def _is_unknown_profile(error: CollectError) -> bool:
    """Whether EC2 has not heard of a profile, or of its role: it may be new, or not exist."""
    message = error_message(error)
    return (error_code(error) in ("InvalidParameterValue", "NoSuchEntity") and "Instance Profile" in message) or "InstanceIdentityProfileNotFound" in message


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), FILTER_VALUES):
        yield list(ids[start : start + FILTER_VALUES])


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)
