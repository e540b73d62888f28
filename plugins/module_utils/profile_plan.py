# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that instances have the instance profile they should have: compared here, done elsewhere. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: What is done with an instance that has another profile.
OTHER_PROFILE = ("fail", "augment", "replace", "skip")
#: States of instances that will be no more.
GONE = frozenset({"shutting-down", "terminated"})
#: States that pass by themselves, in which EC2 attaches and detaches nothing.
_PASSING = frozenset({"pending", "stopping"})


@dataclass(frozen=True)
class Instance:
    """An instance, and the profile that it has or will have."""

    instance_id: str
    state: str  #: as EC2 says: pending, running, …
    name: str | None = None  #: its tag Name
    profile_arn: str | None = None  #: None as well while the last one is being taken away
    association_id: str | None = None
    association_state: str | None = None  #: associating, associated, disassociating

    @property
    def profile(self) -> str | None:
        """The name of its profile; no two of an account have the same, whatever their paths."""
        return self.profile_arn.rpartition("/")[2] if self.profile_arn else None

    @property
    def settled(self) -> bool:
        """Whether nothing is going on."""
        return self.association_state in (None, "associated")


@dataclass(frozen=True)
class Association:
    """An entry of DescribeIamInstanceProfileAssociations."""

    association_id: str
    instance_id: str
    profile_arn: str
    state: str


@dataclass(frozen=True)
class Role:
    """The role of a profile, with the ARNs of the managed policies that are attached to it."""

    name: str
    policies: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Wanted:
    """What a task asks for."""

    present: bool
    profile: str | None  #: a name; None with `present` false: whichever there is
    other_profile: str = "fail"
    policies: tuple[str, ...] = ()  #: what `augment` adds: ARNs, or names of AWS's own policies


@dataclass(frozen=True)
class Step:
    """What is to be done with one instance, and why nothing if that is so."""

    instance: Instance
    action: str  #: attach, replace, detach, augment, none, skip, refuse
    reason: str = ""
    role: str | None = None  #: augment: whose policies
    policies: tuple[str, ...] = field(default=())  #: augment: ARNs to be added

    @property
    def changes(self) -> bool:
        """Whether something is to be done."""
        return self.action in ("attach", "replace", "detach", "augment")


def with_association(instance: Instance, associations: Iterable[Association]) -> Instance:
    """The instance with what its associations say: the one that is there or comes, rather than one that goes."""
    own = [each for each in associations if each.instance_id == instance.instance_id and each.state != "disassociated"]
    own.sort(key=lambda each: each.state == "disassociating")
    if not own:
        return Instance(instance.instance_id, instance.state, instance.name)
    going = own[0].state == "disassociating"
    arn = None if going else own[0].profile_arn
    return Instance(instance.instance_id, instance.state, instance.name, arn, own[0].association_id, own[0].state)


def plan(wanted: Wanted, instances: Sequence[Instance], roles: Mapping[str, Role | None]) -> list[Step]:
    """A step for each instance.

    :param roles: for `augment`, the role of each other profile by the profile's name; None for one that has no role, or is not there.
    """
    return [_step(wanted, instance, roles) for instance in instances]


def others(wanted: Wanted, instances: Iterable[Instance]) -> list[str]:
    """Names of the profiles whose roles `plan` has to know."""
    if not wanted.present or wanted.other_profile != "augment":
        return []
    return sorted({instance.profile for instance in instances if instance.profile and instance.profile != wanted.profile and instance.state not in GONE})


def _step(wanted: Wanted, instance: Instance, roles: Mapping[str, Role | None]) -> Step:
    there = instance.profile
    if instance.state in GONE:
        return Step(instance, "refuse" if wanted.present else "none", f"the instance is {instance.state}")
    if not wanted.present:
        if there is None:
            return Step(instance, "none")
        if wanted.profile not in (None, there):
            return Step(instance, "none", f"it has the profile {there}, not {wanted.profile}")
        return Step(instance, "detach")
    if there is None:
        return Step(instance, "attach")
    if there == wanted.profile:
        return Step(instance, "none")
    if wanted.other_profile == "augment":
        return _augment(wanted, instance, roles.get(there))
    if wanted.other_profile == "replace":
        return Step(instance, "replace")
    return Step(instance, "refuse" if wanted.other_profile == "fail" else "skip", f"it has the profile {there}")


def _augment(wanted: Wanted, instance: Instance, role: Role | None) -> Step:
    if role is None:
        return Step(instance, "refuse", f"its profile {instance.profile} was deleted, or has no role to which policies could be added")
    arns = [policy_arn(policy, instance.profile_arn or "") for policy in wanted.policies]
    missing = tuple(arn for arn in arns if arn not in role.policies)
    return Step(instance, "augment" if missing else "none", f"it has the profile {instance.profile}", role.name, missing)


def policy_arn(policy: str, profile_arn: str) -> str:
    """The ARN of a policy that is given by its ARN, or by its name if it is one of AWS's own.

    :param profile_arn: of any profile, for the partition.
    """
    if policy.startswith("arn:"):
        return policy
    partition = profile_arn.split(":")[1] if profile_arn.count(":") >= 5 else "aws"
    return f"arn:{partition}:iam::aws:policy/{policy}"


def widened(steps: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    """The policies that each role of an account is to get, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.action == "augment" and step.role:
            found[step.role] = tuple(dict.fromkeys((*found.get(step.role, ()), *step.policies)))
    return found


def outsiders(users: Mapping[str, Collection[str]], selected: Collection[str]) -> dict[str, list[str]]:
    """Of the instances that use each role, those that the task is not about; roles without any are left out."""
    found = {role: sorted(set(instances) - set(selected)) for role, instances in users.items()}
    return {role: instances for role, instances in found.items() if instances}


def after(wanted: Wanted, step: Step) -> str | None:
    """The name of the profile that an instance has once a step is done."""
    if step.action in ("attach", "replace"):
        return wanted.profile
    return None if step.action == "detach" else step.instance.profile


#: What `judge` says of an instance beside an obstacle in words.
REACHED, AGAIN = "reached", "again"


def judge(wanted: Wanted, was: Instance, now: Instance | None) -> str:
    """What EC2's refusal of a change means, after another look at the instance.

    :param was: as it was when the change was planned. :param now: None if it cannot be found any more.
    :returns: `REACHED` if it is as wanted (someone else's doing, or a call whose answer was lost), `AGAIN` if another try may work once
        EC2 is done with what it does, or what is in the way.
    """
    if now is None or now.state in GONE:
        return f"the instance was terminated meanwhile (it is {now.state})" if now else "the instance was terminated meanwhile"
    if is_reached(wanted, now) or (wanted.present and now.profile == wanted.profile):
        return REACHED
    if now.profile is not None and now.profile != was.profile:
        return f"it was given the profile {now.profile} meanwhile: run the task again"
    return AGAIN


def is_reached(wanted: Wanted, now: Instance) -> bool:
    """Whether an instance is as wanted, and EC2 done with it."""
    if wanted.present:
        return now.profile == wanted.profile and now.settled
    return now.association_state is None or (wanted.profile is not None and now.profile not in (None, wanted.profile))


def is_passing(now: Instance) -> bool:
    """Whether EC2 is about something that ends by itself."""
    return now.state in _PASSING or not now.settled
