# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of KMS, known by their alias."""

from __future__ import annotations

from typing import Any

from .kind import Kind, State, absent_if, document, text

NO_KEY = ("NotFoundException",)


class Key(Kind):
    """Properties: `policy`; `tags`. The name is the alias's, without ``alias/``. It is renewed every year by KMS."""

    needs = ("policy",)
    takes = ("tags",)
    documents = frozenset({"policy"})

    def look(self) -> State | None:
        key = self._id()
        if key is None:
            return None
        return {
            "policy": document(self._call("GetKeyPolicy", KeyId=key, PolicyName="default")["Policy"]),
            "enabled": bool(self._call("GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"]),
            **self._seen_tags(lambda: {tag["TagKey"]: tag["TagValue"] for tag in self._call("ListResourceTags", KeyId=key)["Tags"]}),
        }

    def write(self, now: State | None, wanted: State) -> None:
        policy = text(wanted["policy"])
        if now is None:
            made = self._call("CreateKey", Policy=policy, Description="Made by fleet.ssm")["KeyMetadata"]
            key, self.arn = made["KeyId"], made["Arn"]
            self._call("CreateAlias", AliasName=f"alias/{self._name}", TargetKeyId=key)
        else:
            key = self._id()
            self._call("PutKeyPolicy", KeyId=key, PolicyName="default", Policy=policy)
        self._call("EnableKeyRotation", KeyId=key)
        if missing := self._missing_tags(now):
            self._call("TagResource", KeyId=key, Tags=[{"TagKey": name, "TagValue": value} for name, value in missing.items()])

    def kept(self) -> str:
        return "what it has encrypted would be lost"

    def _id(self) -> str | None:
        found = absent_if(NO_KEY, lambda: self._call("DescribeKey", KeyId=f"alias/{self._name}"))
        if found is None:
            return None
        self.arn = found["KeyMetadata"]["Arn"]
        return str(found["KeyMetadata"]["KeyId"])

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="kms", **parameters)
