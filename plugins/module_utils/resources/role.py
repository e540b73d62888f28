# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles of IAM, each with one policy of its own. They belong to an account and not to a region."""

from __future__ import annotations

from typing import Any

from .kind import Kind, State, absent_if, document, text

_POLICY = "fleet.ssm"
_NOT_THERE = ("NoSuchEntity",)


class Role(Kind):
    """Properties: `trust` and `policy`, documents."""

    needs = ("trust", "policy")
    regional = False
    documents = frozenset({"trust", "policy"})

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("GetRole"))
        if found is None:
            return None
        policy = absent_if(_NOT_THERE, lambda: self._call("GetRolePolicy", PolicyName=_POLICY))
        return {
            "trust": document(found["Role"]["AssumeRolePolicyDocument"]),
            "policy": document(policy["PolicyDocument"]) if policy else None,
        }

    def write(self, now: State | None, wanted: State) -> None:
        trust = text(wanted["trust"])
        if now is None:
            self._call("CreateRole", AssumeRolePolicyDocument=trust, Description="Made by fleet.ssm")
        elif now["trust"] != document(wanted["trust"]):
            self._call("UpdateAssumeRolePolicy", PolicyDocument=trust)
        if now is None or now["policy"] != document(wanted["policy"]):
            self._call("PutRolePolicy", PolicyName=_POLICY, PolicyDocument=text(wanted["policy"]))

    def remove(self, now: State) -> None:
        if now["policy"] is not None:
            self._call("DeleteRolePolicy", PolicyName=_POLICY)
        self._call("DeleteRole")

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="iam", RoleName=self._name, **parameters)
