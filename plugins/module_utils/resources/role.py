# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles of IAM with their policies. They belong to an account and not to a region."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ..problems import CollectError
from ..scope import Place
from .iam import NOT_THERE, cannot_move, chosen_tags, in_use, listing, tag_list, texts
from .kind import Kind, State, absent_if, document, text

#: Policies of a role whose names begin so are ours alone.
OURS = "fleet.ssm"


class Role(Kind):
    """Properties: `trust`, a document; `policies`, documents by name, of the role's own; `managed_policies`, ARNs; `boundary`, the ARN of a policy;
    `path`; `tags`; `purge`, whether it loses all other policies; `leaving`, ids of instances and names of profiles that lose it before it goes.

    Own policies whose name begins with ``fleet.ssm`` go when they are not described any more; whatever else the role has stays unless it is purged.
    Tags and boundary that are not described stay.
    """

    needs = ("trust", "policies")
    takes = ("managed_policies", "boundary", "path", "tags", "purge", "leaving")
    regional = False
    documents = frozenset({"trust", "policies"})

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._purge = bool(boolean(wanted.pop("purge", False)))
        self._leaving = wanted.pop("leaving", None)
        for key in ("boundary", "path"):
            if not wanted.get(key):
                wanted.pop(key, None)
        if "tags" in wanted:
            wanted["tags"] = texts(wanted["tags"])
        if "managed_policies" in wanted:
            wanted["managed_policies"] = sorted(wanted["managed_policies"])
        self._wanted = wanted

    def look(self) -> State | None:
        found = absent_if(NOT_THERE, lambda: self._call("GetRole"))
        if found is None:
            return None
        role = found["Role"]
        state = {
            "trust": document(role["AssumeRolePolicyDocument"]),
            "policies": self._policies(),
            "boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
            "path": role["Path"],
            "tags": chosen_tags(role.get("Tags", ()), self._wanted.get("tags", {})),
        }
        if "managed_policies" in self._wanted:
            attached = self._attached()
            state["managed_policies"] = attached if self._purge else sorted(set(attached) & set(self._wanted["managed_policies"]))
        return state

    def refuse(self, now: State) -> None:
        problem = cannot_move(now, self._wanted)
        if problem:
            raise CollectError(self._place.account, None, "iam:GetRole", *problem)

    def write(self, now: State | None, wanted: State) -> None:
        trust, tags = text(wanted["trust"]), wanted.get("tags", {})
        if now is None:
            optional = {"Path": wanted.get("path"), "PermissionsBoundary": wanted.get("boundary"), "Tags": tag_list(tags)}
            given = {key: value for key, value in optional.items() if value}
            self._call("CreateRole", AssumeRolePolicyDocument=trust, Description="Made by fleet.ssm", **given)
        else:
            if now["trust"] != document(wanted["trust"]):
                self._call("UpdateAssumeRolePolicy", PolicyDocument=trust)
            if "boundary" in wanted and now["boundary"] != wanted["boundary"]:
                self._call("PutRolePermissionsBoundary", PermissionsBoundary=wanted["boundary"])
            if now["tags"] != tags:
                self._call("TagRole", Tags=tag_list(tags))
        self._write_policies(now or {}, wanted)

    def remove(self, now: State) -> None:
        for name in listing(self._place, "ListRolePolicies", "PolicyNames", RoleName=self._name):
            self._call("DeleteRolePolicy", PolicyName=name)
        for arn in self._attached():
            self._call("DetachRolePolicy", PolicyArn=arn)
        self._call("DeleteRole")

    def kept(self) -> str:
        if self._leaving is None:
            return ""
        profiles = listing(self._place, "ListInstanceProfilesForRole", "InstanceProfiles", RoleName=self._name)
        others = sorted({profile["InstanceProfileName"] for profile in profiles} - set(self._leaving))
        used = in_use(self._place, self._leaving, profile_arns={profile["Arn"] for profile in profiles}, role=self._name)
        return used or (f"instance profiles have it: {', '.join(others)}" if others else "")

    def _policies(self) -> dict[str, Any]:
        wanted = self._wanted.get("policies", {})
        names = listing(self._place, "ListRolePolicies", "PolicyNames", RoleName=self._name)
        ours = [name for name in names if self._purge or name in wanted or name.startswith(OURS)]
        return {name: document(self._call("GetRolePolicy", PolicyName=name)["PolicyDocument"]) for name in sorted(ours)}

    def _attached(self) -> list[str]:
        attached = listing(self._place, "ListAttachedRolePolicies", "AttachedPolicies", RoleName=self._name)
        return sorted(policy["PolicyArn"] for policy in attached)

    def _write_policies(self, now: State, wanted: State) -> None:
        there = now.get("policies", {})
        for name, policy in wanted["policies"].items():
            if there.get(name) != document(policy):
                self._call("PutRolePolicy", PolicyName=name, PolicyDocument=text(policy))
        for name in there.keys() - wanted["policies"].keys():
            self._call("DeleteRolePolicy", PolicyName=name)
        attached, managed = set(now.get("managed_policies", ())), set(wanted.get("managed_policies", ()))
        for arn in sorted(managed - attached):
            self._call("AttachRolePolicy", PolicyArn=arn)
        for arn in sorted(attached - managed):
            self._call("DetachRolePolicy", PolicyArn=arn)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="iam", RoleName=self._name, **parameters)
