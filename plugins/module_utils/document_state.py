# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One document in one account and region: look at it, and do what a plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list, boto3_tag_list_to_ansible_dict
from ansible_collections.amazon.aws.plugins.module_utils.waiter import BaseWaiterFactory, custom_waiter_config

from .aws_errors import error_code
from .document_plan import LATEST, Content, ContentError, Existing, Plan, Wanted
from .problems import CollectError
from .scope import Place

#: ModifyDocumentPermission takes no more account ids.
_ACCOUNTS_A_CALL = 20


class _Waiters(BaseWaiterFactory):  # type: ignore[misc]
    """Waits for a document; botocore has no waiter of its own for that."""

    @property
    def _waiter_model_data(self) -> dict[str, Any]:
        status = {"matcher": "path", "argument": "Document.Status"}
        return {
            "document_active": {
                "operation": "DescribeDocument",
                "delay": 1,
                "maxAttempts": 60,
                "acceptors": [
                    {**status, "state": "success", "expected": "Active"},
                    {**status, "state": "failure", "expected": "Failed"},
                    {"state": "retry", "matcher": "error", "expected": "InvalidDocument"},
                ],
            }
        }


class DocumentState:
    """A document of a place. Methods raise `CollectError`."""

    def __init__(self, place: Place, wanted: Wanted, *, wait_timeout: int) -> None:
        self.place = place
        self.wanted = wanted
        self._wait_timeout = wait_timeout
        self._made: str | None = None  # the number of the version that was made or found

    @property
    def label(self) -> str:
        """How a diff calls it."""
        return f"{self.wanted.name} ({self.place.account.label}, {self.place.region})"

    def look(self, *, absent: bool = False) -> Existing | None:
        """What is there now; only what the task is about."""
        try:
            found = self._call("DescribeDocument", Name=self.wanted.name)["Document"]
        except CollectError as error:
            if error_code(error) == "InvalidDocument":
                return None
            raise
        latest, content = self._content(LATEST), self.wanted.content
        default_version, latest_version = str(found["DefaultVersion"]), str(found.get("LatestVersion", found["DocumentVersion"]))
        default = latest if default_version == latest_version or content is None else self._content(default_version)
        other = None
        if content is not None and self.wanted.default_version != LATEST and not content.means(latest) and not content.means(default):
            other = self._version_of(content)
        return Existing(
            type=found["DocumentType"],
            default_version=default_version,
            latest_version=latest_version,
            latest=latest,
            default=default,
            other_version=other,
            tags=self._tags() if self.wanted.tags is not None else {},
            shared_with=self._shared_with() if absent or self.wanted.shared_with is not None else (),
        )

    def apply(self, plan: Plan) -> None:
        """Do it, in the plan's order."""
        name = self.wanted.name
        if plan.create:
            self._create()
        if plan.add_version:
            self._made = self._add_version()
        if plan.default_version:
            version = self._made if plan.default_version == LATEST else plan.default_version
            self._call("UpdateDocumentDefaultVersion", Name=name, DocumentVersion=version)
        self._permit("AccountIdsToAdd", plan.share)
        self._permit("AccountIdsToRemove", plan.unshare)
        resource = {"ResourceType": "Document", "ResourceId": name}
        if plan.untag:
            self._call("RemoveTagsFromResource", **resource, TagKeys=list(plan.untag))
        if plan.tag:
            self._call("AddTagsToResource", **resource, Tags=ansible_dict_to_boto3_tag_list(dict(plan.tag)))
        if plan.delete:
            self._call("DeleteDocument", Name=name)

    def result(self, expected: Existing | None) -> Existing | None:
        """What was expected, with the version that AWS has really given."""
        if expected is None or self._made is None:
            return expected
        latest = str(max(int(self._made), int(expected.latest_version) - 1))
        default = self._made if self.wanted.default_version == LATEST else expected.default_version
        return replace(expected, latest_version=latest, default_version=default)

    def _create(self) -> None:
        optional = {"VersionName": self.wanted.version_name, "TargetType": self.wanted.target_type}
        parameters: dict[str, Any] = {key: value for key, value in optional.items() if value}
        if self.wanted.tags:
            parameters["Tags"] = ansible_dict_to_boto3_tag_list(dict(self.wanted.tags))
        content = self._wanted_content()
        self._call(
            "CreateDocument", Name=self.wanted.name, DocumentType=self.wanted.type, Content=content.text, DocumentFormat=content.format, **parameters
        )
        self._await_active("1")

    def _add_version(self) -> str:
        """The number of the version that has the wanted content: a new one, or an older one, since AWS takes no content twice."""
        content = self._wanted_content()
        optional = {"VersionName": self.wanted.version_name, "TargetType": self.wanted.target_type}
        parameters = {key: value for key, value in optional.items() if value}
        try:
            answer = self._call(
                "UpdateDocument", Name=self.wanted.name, DocumentVersion="$LATEST", Content=content.text, DocumentFormat=content.format, **parameters
            )
        except CollectError as error:
            if error_code(error) != "DuplicateDocumentContent":
                raise
            older = self._version_of(content)
            if older is None:
                raise
            return older
        version = str(answer["DocumentDescription"]["DocumentVersion"])
        self._await_active(version)
        return version

    def _wanted_content(self) -> Content:
        if self.wanted.content is None:  # a plan that creates or updates has one
            raise AssertionError
        return self.wanted.content

    def _await_active(self, version: str) -> None:
        client = self.place.clients.client("ssm", self.place.region)
        waiter = _Waiters().get_waiter(client, "document_active")
        limits = custom_waiter_config(self._wait_timeout, default_pause=1)
        try:
            self.place.wait(waiter, "ssm:DescribeDocument", Name=self.wanted.name, DocumentVersion=version, WaiterConfig=limits)
        except CollectError as error:
            raise self._named(error) from error.cause

    def _version_of(self, content: Content) -> str | None:
        """The newest version that has this content."""
        found = [str(entry["DocumentVersion"]) for entry in self.place.pages("ListDocumentVersions", "DocumentVersions", Name=self.wanted.name)]
        return next((version for version in sorted(found, key=int, reverse=True) if self._content(version).means(content)), None)

    def _content(self, version: str) -> Content:
        number = "$LATEST" if version == LATEST else version
        answer = self._call("GetDocument", Name=self.wanted.name, DocumentVersion=number)
        form = answer.get("DocumentFormat", "JSON")
        try:
            return Content.read(answer["Content"], form)
        except ContentError:
            return Content(answer["Content"], form, {"content": answer["Content"]})  # whatever it is, it is to be replaced

    def _tags(self) -> dict[str, str]:
        answer = self._call("ListTagsForResource", ResourceType="Document", ResourceId=self.wanted.name)
        found: dict[str, str] = boto3_tag_list_to_ansible_dict(answer.get("TagList") or [])
        return found

    def _shared_with(self) -> tuple[str, ...]:
        parameters = {"Name": self.wanted.name, "PermissionType": "Share"}
        return tuple(str(account) for account in self.place.pages("DescribeDocumentPermission", "AccountIds", **parameters))

    def _permit(self, key: str, accounts: tuple[str, ...]) -> None:
        for start in range(0, len(accounts), _ACCOUNTS_A_CALL):
            chunk = list(accounts[start : start + _ACCOUNTS_A_CALL])
            self._call("ModifyDocumentPermission", Name=self.wanted.name, PermissionType="Share", **{key: chunk})

    def _call(self, operation: str, **parameters: Any) -> Any:
        try:
            return self.place.call(operation, **parameters)
        except CollectError as error:
            raise self._named(error) from error.cause

    def _named(self, error: CollectError) -> CollectError:
        text = f"document {self.wanted.name}: {error.text}"
        return CollectError(error.account, error.region, error.action, text, error.remedy, error.cause)
