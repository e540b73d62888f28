# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buckets of S3: private ones, in every case."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ..aws_errors import error_code
from ..problems import CollectError
from ..scope import Place
from .key import NO_KEY
from .kind import Kind, State, absent_if, document, pairs, text, unpaired

_PRIVATE = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True}
_NOT_THERE = ("404", "NoSuchBucket")
_NO_POLICY, _NO_BLOCK = ("NoSuchBucketPolicy",), ("NoSuchPublicAccessBlockConfiguration",)
_NO_OWNERSHIP, _NO_LIFECYCLE = ("OwnershipControlsNotFoundError",), ("NoSuchLifecycleConfiguration",)
_NO_ENCRYPTION, _NO_TAGS = ("ServerSideEncryptionConfigurationNotFoundError",), ("NoSuchTagSet",)
_A_CALL = 1000


class Bucket(Kind):
    """Properties: `ownership`; `key`, of KMS (an ARN, or an alias of the account), or none for S3's own; `policy`; `expire`, days by prefix;
    `purge`, whether it goes with its objects; `tags`.

    Public access is always blocked. Objects that are overwritten are gone.
    """

    needs = ("ownership", "policy", "expire")
    takes = ("key", "purge", "tags")
    documents = frozenset({"policy"})

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        # Templates of older versions of Ansible make text of numbers, booleans and null.
        self._purge = bool(boolean(wanted.pop("purge", False)))
        wanted["key"] = wanted.get("key") or None
        wanted["expire"] = {prefix: int(days) for prefix, days in (wanted.get("expire") or {}).items()}
        self._wanted = wanted

    def look(self) -> State | None:
        self._resolve_key()
        if not self._exists():
            return None
        ownership = absent_if(_NO_OWNERSHIP, lambda: self._call("GetBucketOwnershipControls"))
        encryption = absent_if(_NO_ENCRYPTION, lambda: self._call("GetBucketEncryption"))
        block = absent_if(_NO_BLOCK, lambda: self._call("GetPublicAccessBlock"))
        policy = absent_if(_NO_POLICY, lambda: self._call("GetBucketPolicy"))
        lifecycle = absent_if(_NO_LIFECYCLE, lambda: self._call("GetBucketLifecycleConfiguration"))
        rule = encryption["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"] if encryption else {}
        return {
            "ownership": ownership["OwnershipControls"]["Rules"][0]["ObjectOwnership"] if ownership else None,
            "key": rule.get("KMSMasterKeyID"),
            "encrypted": bool(rule),
            "private": bool(block) and block["PublicAccessBlockConfiguration"] == _PRIVATE,
            "policy": document(policy["Policy"]) if policy else None,
            "expire": _days(lifecycle["Rules"] if lifecycle else []),
            **self._seen_tags(self._all_tags),
        }

    def write(self, now: State | None, wanted: State) -> None:
        self._resolve_key()
        if now is None:
            region = self._place.region
            # us-east-1 is the place of buckets that name none, and may not be named.
            where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self._call("CreateBucket", **where)
        was = now or {}
        if not was.get("private"):
            self._call("PutPublicAccessBlock", PublicAccessBlockConfiguration=_PRIVATE)
        if was.get("ownership") != wanted["ownership"]:
            self._call("PutBucketOwnershipControls", OwnershipControls={"Rules": [{"ObjectOwnership": wanted["ownership"]}]})
        if not was.get("encrypted") or was.get("key") != wanted["key"]:
            way = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": wanted["key"]} if wanted["key"] else {"SSEAlgorithm": "AES256"}
            rule = {"ApplyServerSideEncryptionByDefault": way, "BucketKeyEnabled": bool(wanted["key"])}
            self._call("PutBucketEncryption", ServerSideEncryptionConfiguration={"Rules": [rule]})
        if was.get("policy") != document(wanted["policy"]):
            self._call("PutBucketPolicy", Policy=text(wanted["policy"]))
        if was.get("expire", {}) != wanted["expire"]:
            self._write_lifecycle(wanted["expire"])
        if missing := self._missing_tags(now):
            self._call("PutBucketTagging", Tagging={"TagSet": pairs({**self._all_tags(), **missing})})  # which replaces all

    def remove(self, now: State) -> None:
        if self._purge:
            self._empty()
        self._call("DeleteBucket")

    def kept(self) -> str:
        if not self._purge and self._call("ListObjectVersions", MaxKeys=1).get("Versions"):
            return f"bucket {self._name} has objects and was not to be purged"
        return ""

    def _exists(self) -> bool:
        """:raises CollectError: also if the bucket is elsewhere: then its name is taken."""
        text = remedy = ""
        cause: BaseException | None = None
        try:
            found = absent_if(_NOT_THERE, lambda: self._call("HeadBucket"))
            where = (found or {}).get("BucketRegion", self._place.region)  # the SDK follows a bucket to its region
        except CollectError as error:  # answers to HEAD have no text
            if error_code(error) != "403":
                raise
            cause, text = error.cause, "s3:ListBucket is not allowed, or the bucket is another account's."
            remedy = "Allow the action, or choose another name: those of buckets are unique in all of AWS."
        else:
            if where == self._place.region:
                return found is not None
            text, remedy = f"it is in the region {where}.", "Name that region, or choose another name."
        raise CollectError(self._place.account, self._place.region, "s3:ListBucket", text, remedy, cause)

    def _resolve_key(self) -> None:
        """Put the key in the place of its alias: nodes of other accounts would look for the alias among theirs."""
        key = self._wanted.get("key") or ""
        if key.startswith("alias/"):
            found = absent_if(NO_KEY, lambda: self._place.call("DescribeKey", service="kms", KeyId=key))
            if found is not None:
                self._wanted["key"] = found["KeyMetadata"]["Arn"]

    def _all_tags(self) -> dict[str, str]:
        found = absent_if(_NO_TAGS, lambda: self._call("GetBucketTagging"))
        return unpaired(found["TagSet"] if found else ())

    def _write_lifecycle(self, days: dict[str, int]) -> None:
        rules = [
            {
                "ID": f"fleet.ssm {prefix}".strip(),
                "Status": "Enabled",
                "Filter": {"Prefix": prefix},
                "Expiration": {"Days": number},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            }
            for prefix, number in days.items()
        ]
        self._call("PutBucketLifecycleConfiguration", LifecycleConfiguration={"Rules": rules})

    def _empty(self) -> None:
        while True:
            found = self._call("ListObjectVersions", MaxKeys=_A_CALL)
            entries = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
            if not entries:
                return
            self._call("DeleteObjects", Delete={"Objects": [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries], "Quiet": True})

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="s3", Bucket=self._name, **parameters)


def _days(rules: list[dict[str, Any]]) -> dict[str, int]:
    """Days by prefix, of the rules that expire something."""
    return {rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")): rule["Expiration"]["Days"] for rule in rules if "Days" in rule.get("Expiration", {})}


class Notifications(Kind):
    """Properties: `function`, an ARN that is called for new objects, and `suffixes` of their keys. The name is the bucket's.

    Notifications of others stay.
    """

    needs = ("function", "suffixes")

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("GetBucketNotificationConfiguration"))
        ours = [entry for entry in (found or {}).get("LambdaFunctionConfigurations", ()) if _is_ours(entry)]
        if not ours:
            return None
        return {"function": ours[0]["LambdaFunctionArn"], "suffixes": sorted(entry["Filter"]["Key"]["FilterRules"][0]["Value"] for entry in ours)}

    def write(self, now: State | None, wanted: State) -> None:
        self._replace(
            [
                {
                    "Id": f"fleet.ssm{suffix.replace('/', '.')}",
                    "LambdaFunctionArn": wanted["function"],
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": suffix}]}},
                }
                for suffix in wanted["suffixes"]
            ]
        )

    def remove(self, now: State) -> None:
        self._replace([])

    def _replace(self, entries: list[dict[str, Any]]) -> None:
        found = self._call("GetBucketNotificationConfiguration")
        kinds = ("TopicConfigurations", "QueueConfigurations", "LambdaFunctionConfigurations", "EventBridgeConfiguration")
        configuration = {key: found[key] for key in kinds if key in found}
        others = [entry for entry in configuration.get("LambdaFunctionConfigurations", ()) if not _is_ours(entry)]
        configuration["LambdaFunctionConfigurations"] = [*others, *entries]
        self._call("PutBucketNotificationConfiguration", NotificationConfiguration=configuration)

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="s3", Bucket=self._name, **parameters)


def _is_ours(entry: dict[str, Any]) -> bool:
    return str(entry.get("Id", "")).startswith("fleet.ssm.")
