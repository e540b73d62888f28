# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance profiles of one account in IAM: their roles, the policies of these, and who else uses them. IAM is the same in every region."""

from __future__ import annotations

import time

from .aws_errors import error_code
from .paced import PacedCalls
from .problems import CollectError
from .profile_plan import Role
from .scope import Place

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0


class ProfileRoles:
    """The profiles of an account. Methods raise `CollectError`.

    :param place: any of the account; IAM is asked from there.
    """

    def __init__(self, place: Place, calls: PacedCalls) -> None:
        self.place = place
        self._calls = calls

    def role(self, profile: str, *, policies: bool = True) -> Role | None:
        """The role of a profile; None if it has none.

        :param policies: whether its managed policies are asked for.
        """
        answer = self._calls("iam", "GetInstanceProfile", region=self.place.region, InstanceProfileName=profile)
        roles = answer["InstanceProfile"]["Roles"]
        if not roles:
            return None
        name: str = roles[0]["RoleName"]
        if not policies:
            return Role(name)
        region = self.place.region
        attached = self._calls.pages("iam", "ListAttachedRolePolicies", "AttachedPolicies", region=region, token="Marker", RoleName=name)
        return Role(name, frozenset(policy["PolicyArn"] for policy in attached))

    def await_profile(self, profile: str, seconds: float) -> CollectError | None:
        """Wait until IAM knows a profile and its role, since it may have been made a moment ago; why that is not so after these seconds."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                if self.role(profile, policies=False) is not None:
                    return None
                text, cause = f"the instance profile {profile} has no role.", None
            except CollectError as error:
                if error_code(error) != "NoSuchEntity":
                    raise
                text, cause = f"the instance profile {profile} does not exist.", error.cause
            if time.monotonic() - began >= seconds:
                remedy = "Create it with its role first, or correct 'instance_profile'; one that was just made may need a longer 'consistency_timeout'."
                return CollectError(self.place.account, None, "iam:GetInstanceProfile", text, remedy, cause)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def attach(self, role: str, policy_arn: str) -> None:
        """Add a managed policy to a role."""
        self._calls("iam", "AttachRolePolicy", region=self.place.region, RoleName=role, PolicyArn=policy_arn)

    def profiles_of(self, role: str) -> list[str]:
        """ARNs of all profiles that have a role."""
        entries = self._calls.pages("iam", "ListInstanceProfilesForRole", "InstanceProfiles", region=self.place.region, token="Marker", RoleName=role)
        return [entry["Arn"] for entry in entries]

    def regions(self) -> list[str]:
        """Those that are enabled."""
        return [entry["RegionName"] for entry in self._calls("ec2", "DescribeRegions", region=self.place.region)["Regions"]]
