# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags of managed instances and of session documents; those of anything else are moto's."""

from __future__ import annotations

from typing import Any

from ..errors import AwsError
from .registry import Call, action


@action("AddTagsToResource")
async def add_tags_to_resource(call: Call) -> dict[str, Any]:
    """Set tags."""
    tags = _tags(call)
    if tags is None:
        return await call.to_moto()
    tags.update({tag["Key"]: tag["Value"] for tag in call.parameters["Tags"]})
    return {}


@action("RemoveTagsFromResource")
async def remove_tags_from_resource(call: Call) -> dict[str, Any]:
    """Remove tags; absent ones are no error."""
    tags = _tags(call)
    if tags is None:
        return await call.to_moto()
    for key in call.parameters["TagKeys"]:
        tags.pop(key, None)
    return {}


@action("ListTagsForResource")
async def list_tags_for_resource(call: Call) -> dict[str, Any]:
    """All tags."""
    tags = _tags(call)
    if tags is None:
        return await call.to_moto()
    return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _tags(call: Call) -> dict[str, str] | None:
    kind, name = call.parameters["ResourceType"], call.parameters["ResourceId"]
    if kind == "ManagedInstance":
        node = call.node(name)
        if node is None or not node.spec.hybrid:
            raise AwsError("InvalidResourceId", f"{name} is not a managed instance of this account and region.")
        return node.tags
    if kind == "Document":
        document = call.world.documents.find(call.account, call.region, name)
        return document.tags if document is not None else None
    return None
