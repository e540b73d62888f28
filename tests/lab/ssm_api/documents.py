# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents: those of type Session are ours, the others moto's."""

from __future__ import annotations

from typing import Any

from ..documents import SessionDocument, Version, check, digest, parse, short_name
from ..errors import AwsError
from .registry import Call, action

_PLATFORMS = ["Linux", "MacOS", "Windows"]


@action("CreateDocument")
async def create_document(call: Call) -> dict[str, Any]:
    """A new session document."""
    given = call.parameters
    if given.get("DocumentType") != "Session":
        return await call.to_moto()
    document = call.world.documents.create(
        call.account, call.region, given["Name"], given["Content"], given.get("DocumentFormat", "JSON"),
        given.get("VersionName", ""),
    )  # fmt: skip
    document.tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags") or ()}
    return {"DocumentDescription": _described(document, document.version())}


@action("GetDocument")
async def get_document(call: Call) -> dict[str, Any]:
    """A document's content."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    version = document.version(call.parameters.get("DocumentVersion"))
    return {
        "Name": document.name,
        "CreatedDate": version.created,
        "DocumentVersion": str(version.number),
        "Status": "Active",
        "Content": version.text,
        "DocumentType": "Session",
        "DocumentFormat": version.format,
    }


@action("DescribeDocument")
async def describe_document(call: Call) -> dict[str, Any]:
    """What is known about a document."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    return {"Document": _described(document, document.version(call.parameters.get("DocumentVersion")))}


@action("UpdateDocument")
async def update_document(call: Call) -> dict[str, Any]:
    """A new version."""
    document, given = _found(call), call.parameters
    if document is None:
        return await call.to_moto()
    _refuse_public(document)
    if given.get("DocumentVersion", "$LATEST") not in ("$LATEST", str(document.versions[-1].number)):
        raise AwsError("InvalidDocumentVersion", "The document version is not the latest one.")
    form = given.get("DocumentFormat", document.versions[-1].format)
    version = call.world.documents.update(document, given["Content"], form, given.get("VersionName", ""))
    return {"DocumentDescription": _described(document, version)}


@action("UpdateDocumentDefaultVersion")
async def update_document_default_version(call: Call) -> dict[str, Any]:
    """The version that sessions take."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    _refuse_public(document)
    document.default = document.version(call.parameters["DocumentVersion"]).number
    return {"Description": {"Name": document.name, "DefaultVersion": str(document.default)}}


@action("ListDocumentVersions")
async def list_document_versions(call: Call) -> dict[str, Any]:
    """All versions."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    return {
        "DocumentVersions": [
            {
                "Name": document.name,
                "DocumentVersion": str(version.number),
                "CreatedDate": version.created,
                "IsDefaultVersion": version.number == document.default,
                "DocumentFormat": version.format,
                "Status": "Active",
            }
            for version in document.versions
        ]
    }


@action("DeleteDocument")
async def delete_document(call: Call) -> dict[str, Any]:
    """Remove a document."""
    document = _found(call)
    if document is None:
        return await call.to_moto()
    _refuse_public(document)
    call.world.documents.delete(call.account, call.region, document.name)
    return {}


@action("ListDocuments")
async def list_documents(call: Call) -> dict[str, Any]:
    """Our session documents and moto's others."""
    filters = {entry["Key"]: entry["Values"] for entry in call.parameters.get("Filters") or ()}
    own = []
    for document in call.world.documents.within(call.account, call.region):
        owner = "Amazon" if document.owner == "Amazon" else "Self"
        shown = {"DocumentType": "Session", "Owner": owner}
        names = filters.get("Name")
        if names and not any(document.name.startswith(name) for name in names):
            continue
        if all(shown[key] in values for key, values in filters.items() if key in shown):
            described = _described(document, document.version())
            own.append({key: value for key, value in described.items() if key in _IDENTIFIER})
    if filters.get("DocumentType") == ["Session"]:
        return {"DocumentIdentifiers": own}
    others = await call.to_moto()
    return {**others, "DocumentIdentifiers": [*own, *others.get("DocumentIdentifiers", [])]}


_IDENTIFIER = frozenset(
    ("Name", "CreatedDate", "Owner", "PlatformTypes", "DocumentVersion", "DocumentType", "SchemaVersion",
     "DocumentFormat", "Tags")
)  # fmt: skip


def _found(call: Call) -> SessionDocument | None:
    return call.world.documents.find(call.account, call.region, short_name(call.parameters["Name"]))


def _refuse_public(document: SessionDocument) -> None:
    if document.owner == "Amazon":
        raise AwsError("InvalidDocument", f"Document {document.name} is not owned by you.")


def _described(document: SessionDocument, version: Version) -> dict[str, Any]:
    content = parse(version.text, version.format)
    check(content)
    return {
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
            | ({"DefaultValue": str(entry["default"])} if "default" in entry else {})
            for name, entry in (content.get("parameters") or {}).items()
        ],
        "PlatformTypes": _PLATFORMS,
        "DocumentType": "Session",
        "SchemaVersion": "1.0",
        "DocumentFormat": version.format,
        "Hash": digest(version.text),
        "HashType": "Sha256",
        "Tags": [{"Key": key, "Value": value} for key, value in document.tags.items()],
    }
