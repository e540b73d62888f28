# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents: those of type Session and Command are ours, the others moto's."""

from __future__ import annotations

import json
from typing import Any

import yaml

from ..documents import Document, Version, digest, parse
from ..errors import AwsError
from ..run_command.documents import PLATFORMS, platforms
from .registry import Call, action, page

_OURS = ("Session", "Command")
_PAGE = 50
_SHARES = 20  #: accounts of one ModifyDocumentPermission
_IDENTIFIER = frozenset(
    ("Name", "CreatedDate", "DisplayName", "Owner", "VersionName", "PlatformTypes", "DocumentVersion", "DocumentType",
     "SchemaVersion", "DocumentFormat", "TargetType", "Tags")
)  # fmt: skip


@action("CreateDocument")
async def create_document(call: Call) -> dict[str, Any]:
    """A new document."""
    given = call.parameters
    kind = given.get("DocumentType", "Command")
    if kind not in _OURS:
        return await call.to_moto()
    document = call.world.documents.create(
        call.account, call.region, given["Name"], given["Content"], given.get("DocumentFormat", "JSON"),
        given.get("VersionName", ""), kind=kind,
    )  # fmt: skip
    document.target_type = given.get("TargetType", "")
    document.tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags") or ()}
    return {"DocumentDescription": _described(call, document, document.version())}


@action("GetDocument")
async def get_document(call: Call) -> dict[str, Any]:
    """A document's content, in the format that is asked for."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    version = _version(call, document)
    form = call.parameters.get("DocumentFormat", version.format)
    return {
        "Name": document.name,
        "CreatedDate": version.created,
        "DocumentVersion": str(version.number),
        "VersionName": version.name,
        "Status": "Active",
        "Content": version.text if form == version.format else _written(version.content, form),
        "DocumentType": document.kind,
        "DocumentFormat": form,
    }


@action("DescribeDocument")
async def describe_document(call: Call) -> dict[str, Any]:
    """What is known about a document."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    return {"Document": _described(call, document, _version(call, document))}


@action("UpdateDocument")
async def update_document(call: Call) -> dict[str, Any]:
    """A new version."""
    document, given = _found(call), call.parameters
    if document is None:
        return await call.to_moto()
    _refuse_others(call, document)
    if given.get("DocumentVersion", "$LATEST") not in ("$LATEST", str(document.versions[-1].number)):
        raise AwsError("InvalidDocumentVersion", "The document version is not the latest one.")
    form = given.get("DocumentFormat", document.versions[-1].format)
    version = call.world.documents.update(document, given["Content"], form, given.get("VersionName", ""))
    document.target_type = given.get("TargetType", document.target_type)
    return {"DocumentDescription": _described(call, document, version)}


@action("UpdateDocumentDefaultVersion")
async def update_document_default_version(call: Call) -> dict[str, Any]:
    """The version that is taken when none is named."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    _refuse_others(call, document)
    version = document.version(call.parameters["DocumentVersion"])
    document.default = version.number
    return {
        "Description": {
            "Name": document.name,
            "DefaultVersion": str(document.default),
            "DefaultVersionName": version.name,
        }
    }


@action("ListDocumentVersions")
async def list_document_versions(call: Call) -> dict[str, Any]:
    """All versions."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    part, more = page(document.versions, call.parameters, call.parameters.get("MaxResults") or _PAGE)
    return {
        "DocumentVersions": [
            {
                "Name": document.name,
                "DocumentVersion": str(version.number),
                "VersionName": version.name,
                "CreatedDate": version.created,
                "IsDefaultVersion": version.number == document.default,
                "DocumentFormat": version.format,
                "Status": "Active",
            }
            for version in part
        ],
        **more,
    }


@action("DeleteDocument")
async def delete_document(call: Call) -> dict[str, Any]:
    """Remove a document, or one version that is not the default one."""
    document, wanted = _found(call), call.parameters.get("DocumentVersion")
    if document is None:
        return await call.to_moto()
    _refuse_others(call, document)
    if document.shared:
        raise AwsError("InvalidDocumentOperation", "You must share the document with nobody before you delete it.")
    if wanted is None:
        call.world.documents.delete(call.account, call.region, document.name)
    elif (version := document.version(wanted)).number == document.default:
        raise AwsError("InvalidDocumentOperation", "The default version of a document cannot be deleted.")
    else:
        document.versions.remove(version)
    return {}


@action("ListDocuments")
async def list_documents(call: Call) -> dict[str, Any]:
    """Our documents; moto's others come with the last page."""
    wanted = [(entry["Key"], entry["Values"]) for entry in call.parameters.get("Filters") or ()]
    own = []
    for document in call.world.documents.within(call.account, call.region):
        described = _described(call, document, document.version())
        if all(_matches(call, document, described, key, values) for key, values in wanted):
            own.append({key: value for key, value in described.items() if key in _IDENTIFIER})
    part, more = page(own, call.parameters, call.parameters.get("MaxResults") or _PAGE)
    if more or not _may_be_motos(wanted):
        return {"DocumentIdentifiers": part, **more}
    others = await call.to_moto() if "NextToken" not in call.parameters else {}
    return {"DocumentIdentifiers": [*part, *others.get("DocumentIdentifiers", [])]}


@action("ModifyDocumentPermission")
async def modify_document_permission(call: Call) -> dict[str, Any]:
    """Share a document with accounts, or with everybody ("all"), and take that back."""
    document, given = _found(call), call.parameters
    if document is None:
        return await call.to_moto()
    _refuse_others(call, document)
    added, removed = given.get("AccountIdsToAdd") or [], given.get("AccountIdsToRemove") or []
    if len(added) > _SHARES:
        raise AwsError("DocumentPermissionLimit", f"A document can be shared with {_SHARES} accounts at a time.")
    for account in added:
        document.shared[account] = given.get("SharedDocumentVersion") or "$DEFAULT"
    for account in removed:
        document.shared.pop(account, None)
    return {}


@action("DescribeDocumentPermission")
async def describe_document_permission(call: Call) -> dict[str, Any]:
    """Whom a document is shared with."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    _refuse_others(call, document)
    part, more = page(sorted(document.shared), call.parameters, call.parameters.get("MaxResults") or 200)
    return {
        "AccountIds": part,
        "AccountSharingInfoList": [
            {"AccountId": account, "SharedDocumentVersion": document.shared[account]} for account in part
        ],
        **more,
    }


def _found(call: Call) -> Document | None:
    return call.world.documents.find(call.account, call.region, call.parameters["Name"])


def _version(call: Call, document: Document) -> Version:
    """The version that is asked for, by its number or its name."""
    name = call.parameters.get("VersionName")
    for version in document.versions if name else ():
        if version.name == name:
            return version
    if name:
        raise AwsError("InvalidDocumentVersion", f"The version {name} of {document.name} does not exist.")
    return document.version(call.parameters.get("DocumentVersion"))


def _refuse_others(call: Call, document: Document) -> None:
    if document.owner != call.account:
        raise AwsError("InvalidDocument", f"Document {document.name} is not owned by you.")


def _written(content: dict[str, Any], form: str) -> str:
    return json.dumps(content, indent=2) if form == "JSON" else yaml.safe_dump(content, sort_keys=False)


def _may_be_motos(filters: list[tuple[str, list[str]]]) -> bool:
    return all(key != "DocumentType" or set(values) - set(_OURS) for key, values in filters)


def _matches(call: Call, document: Document, described: dict[str, Any], key: str, values: list[str]) -> bool:
    """One of ListDocuments' filters."""
    if key == "Name":
        return any(document.name.startswith(value) for value in values)
    if key == "Owner":
        whose = "Amazon" if document.public else "Self" if document.owner == call.account else "ThirdParty"
        return whose in values or "All" in values or (whose == "ThirdParty" and "Private" in values)
    if key == "PlatformTypes":
        return bool(set(values) & set(described["PlatformTypes"]))
    if key.startswith("tag:"):
        return document.tags.get(key[4:]) in values
    if key in ("DocumentType", "SchemaVersion", "TargetType"):
        return described.get(key) in values
    if key == "SearchKeyword":
        return all(value.lower() in document.name.lower() for value in values)
    raise AwsError("InvalidFilterKey", f"The specified filter key {key} is not valid.")


def _described(call: Call, document: Document, version: Version) -> dict[str, Any]:
    content = parse(version.text, version.format)
    found: dict[str, Any] = {
        "Name": document.name,
        "Owner": document.owner,
        "CreatedDate": version.created,
        "Status": "Active",
        "DocumentVersion": str(version.number),
        "DefaultVersion": str(document.default),
        "LatestVersion": str(document.versions[-1].number),
        "Description": content.get("description", ""),
        "Parameters": [
            {"Name": name, "Type": entry.get("type", "String"), "Description": entry.get("description", "")}
            | ({"DefaultValue": _default(entry["default"])} if "default" in entry else {})
            for name, entry in (content.get("parameters") or {}).items()
        ],
        "PlatformTypes": platforms(content) if document.kind == "Command" else list(PLATFORMS),
        "DocumentType": document.kind,
        "SchemaVersion": str(content["schemaVersion"]),
        "DocumentFormat": version.format,
        "Hash": digest(version.text),
        "HashType": "Sha256",
        "Tags": [{"Key": key, "Value": value} for key, value in document.tags.items()],
    }
    if version.name:
        found["VersionName"] = version.name
    if document.target_type:
        found["TargetType"] = document.target_type
    return found


def _default(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
