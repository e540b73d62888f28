# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance profiles of IAM: the form in which EC2 takes a role."""

from __future__ import annotations

from typing import Any

from ..problems import CollectError
from ..scope import Place
from .iam import NOT_THERE, cannot_move, chosen_tags, in_use, tag_list, texts
from .kind import Kind, State, absent_if

#: IAM answers from many places, of which some hear of a profile later than others: so long one that was just made is waited for.
_KNOWN = {"Delay": 1, "MaxAttempts": 120}


class InstanceProfile(Kind):
    """Properties: `role`, the name of the one that it has; `path`; `tags`; `leaving`, ids of instances that lose it before it goes.

    One that other instances have stays: they would be without a role.
    """

    needs = ("role",)
    takes = ("path", "tags", "leaving")
    regional = False

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._leaving = wanted.pop("leaving", None) or ()
        if not wanted.get("path"):
            wanted.pop("path", None)
        if "tags" in wanted:
            wanted["tags"] = texts(wanted["tags"])
        self._wanted = wanted
        self._arn = ""

    def look(self) -> State | None:
        found = absent_if(NOT_THERE, lambda: self._call("GetInstanceProfile"))
        if found is None:
            return None
        profile = found["InstanceProfile"]
        self._arn = profile["Arn"]
        return {
            "role": next((role["RoleName"] for role in profile["Roles"]), None),
            "path": profile["Path"],
            "tags": chosen_tags(profile.get("Tags", ()), self._wanted.get("tags", {})),
        }

    def refuse(self, now: State) -> None:
        problem = cannot_move(now, self._wanted)
        if now["role"] not in (None, self._wanted["role"]):
            problem = f"has the role {now['role']}, by which instances may be managed.", "Take it out of the profile first, or use another name."
        if problem:
            raise CollectError(self._place.account, None, "iam:GetInstanceProfile", *problem)

    def write(self, now: State | None, wanted: State) -> None:
        tags = wanted.get("tags", {})
        if now is None:
            optional = {"Path": wanted.get("path"), "Tags": tag_list(tags)}
            self._call("CreateInstanceProfile", **{key: value for key, value in optional.items() if value})
        elif now["tags"] != tags:
            self._call("TagInstanceProfile", Tags=tag_list(tags))
        if now is None or now["role"] is None:
            self._call("AddRoleToInstanceProfile", RoleName=wanted["role"])
        if now is None:
            self._await()

    def remove(self, now: State) -> None:
        if now["role"]:
            self._call("RemoveRoleFromInstanceProfile", RoleName=now["role"])
        self._call("DeleteInstanceProfile")

    def kept(self) -> str:
        return in_use(self._place, self._leaving, profile_arns={self._arn})

    def _await(self) -> None:
        waiter = self._place.clients.client("iam", self._place.region).get_waiter("instance_profile_exists")
        self._place.wait(waiter, "iam:GetInstanceProfile", InstanceProfileName=self._name, WaiterConfig=_KNOWN)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="iam", InstanceProfileName=self._name, **parameters)
