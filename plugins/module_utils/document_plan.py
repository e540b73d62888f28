# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a document is as it should be: compared here, done elsewhere. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

try:
    import yaml
except ImportError:  # told by whoever needs it
    yaml = None  # type: ignore[assignment]

_UNREADABLE: tuple[type[Exception], ...] = (ValueError, *([yaml.YAMLError] if yaml else []))
LATEST = "latest"
KEEP = "keep"


class ContentError(ValueError):
    """A content that is none; the text says why."""


@dataclass(frozen=True)
class Content:
    """A document's content, and what it means."""

    text: str
    format: str  #: JSON | YAML
    value: dict[str, Any] = field(compare=False)

    @classmethod
    def read(cls, text: str, form: str) -> Content:
        """:raises ContentError: if the text is no mapping of that format."""
        if form == "YAML" and yaml is None:
            raise ContentError("reading YAML needs PyYAML for this Python: install it, or give the content as JSON or as a mapping.")
        try:
            value = yaml.safe_load(text) if form == "YAML" else json.loads(text)
        except _UNREADABLE as error:
            raise ContentError(f"it is no {form}: {error}.") from error
        if not isinstance(value, dict):
            raise ContentError(f"it is no {form} mapping, but {type(value).__name__}.")
        return cls(text, form, value)

    @classmethod
    def of(cls, given: Any, form: str | None) -> Content:
        """Of the module's options. A mapping is written down; text is left as it is.

        :param form: JSON or YAML; by default what the text looks like. :raises ContentError: as `read`.
        """
        if isinstance(given, Mapping):
            text = json.dumps(given, indent=2)
            if form == "YAML":
                if yaml is None:
                    raise ContentError("writing YAML needs PyYAML for this Python: install it, or leave 'document_format' out.")
                text = yaml.safe_dump(json.loads(text), sort_keys=False)
            return cls.read(text, form or "JSON")
        text = str(given)
        return cls.read(text, form or ("JSON" if text.lstrip().startswith("{") else "YAML"))

    def means(self, other: Content | None) -> bool:
        """Whether both say the same, however they are written."""
        return other is not None and json.dumps(self.value, sort_keys=True, default=str) == json.dumps(other.value, sort_keys=True, default=str)


@dataclass(frozen=True)
class Wanted:
    """What a task asks for."""

    name: str
    type: str
    content: Content | None = None  #: None: leave it
    version_name: str | None = None
    target_type: str | None = None
    default_version: str = LATEST  #: latest, keep, or a number
    tags: Mapping[str, str] | None = None
    purge_tags: bool = True
    shared_with: tuple[str, ...] | None = None
    purge_shared: bool = True


@dataclass(frozen=True)
class Existing:
    """What is there."""

    type: str
    default_version: str
    latest_version: str
    latest: Content
    default: Content
    tags: Mapping[str, str] = field(default_factory=dict)
    shared_with: tuple[str, ...] = ()
    other_version: str | None = None  #: one beside these that has the wanted content, where that matters


@dataclass(frozen=True)
class Plan:
    """What to do, in this order; whatever is empty is not to be done."""

    create: bool = False
    add_version: bool = False
    default_version: str | None = None  #: a number, or `latest` for one that is yet to be made
    share: tuple[str, ...] = ()
    unshare: tuple[str, ...] = ()
    tag: Mapping[str, str] = field(default_factory=dict)
    untag: tuple[str, ...] = ()
    delete: bool = False

    def __bool__(self) -> bool:
        return self != Plan()


class PlanError(ValueError):
    """What is asked for cannot be; the text says what to do."""


def plan_present(wanted: Wanted, existing: Existing | None) -> Plan:
    """:raises PlanError: for a document that exists as another type, or does not and has no content."""
    if existing is None:
        if wanted.content is None:
            raise PlanError(f"The document {wanted.name} does not exist, and 'content' is missing to create it.")
        if wanted.default_version not in (LATEST, KEEP, "1"):
            raise PlanError(f"The document {wanted.name} does not exist, so its version {wanted.default_version} cannot be the default one.")
        # Tags go with the creation, since a policy may demand them.
        return Plan(create=True, share=tuple(wanted.shared_with or ()))
    if existing.type != wanted.type:
        raise PlanError(
            f"The document {wanted.name} exists with the type {existing.type}, which cannot be changed to {wanted.type}: "
            "correct 'document_type', or remove the document first."
        )
    plan = Plan()
    version: str | None = existing.latest_version
    if wanted.content is not None and not wanted.content.means(existing.latest):
        # It may be in force already, beside a newer version that is not.
        version = existing.default_version if wanted.content.means(existing.default) else existing.other_version
        if version is None:
            plan, version = replace(plan, add_version=True), LATEST
    if wanted.default_version == LATEST:
        if wanted.content is not None and version != existing.default_version:
            plan = replace(plan, default_version=version)
    elif wanted.default_version not in (KEEP, existing.default_version):
        plan = replace(plan, default_version=wanted.default_version)
    if wanted.shared_with is not None:
        there, asked = set(existing.shared_with), set(wanted.shared_with)
        plan = replace(plan, share=tuple(sorted(asked - there)), unshare=tuple(sorted(there - asked)) if wanted.purge_shared else ())
    if wanted.tags is not None:
        own = {key: value for key, value in existing.tags.items() if not key.startswith("aws:")}
        new = {key: value for key, value in wanted.tags.items() if own.get(key) != value}
        plan = replace(plan, tag=new, untag=tuple(sorted(own.keys() - wanted.tags.keys())) if wanted.purge_tags else ())
    return plan


def plan_absent(existing: Existing | None) -> Plan:
    """A shared document must be unshared before it can be deleted."""
    return Plan() if existing is None else Plan(delete=True, unshare=tuple(existing.shared_with))


def view(existing: Existing | None) -> dict[str, Any]:
    """What a diff shows of a document."""
    if existing is None:
        return {}
    return {
        "default_version": existing.default_version,
        "latest_version": existing.latest_version,
        "content": existing.latest.value,
        "shared_with": sorted(existing.shared_with),
        "tags": dict(existing.tags),
    }


def after(wanted: Wanted, existing: Existing | None, plan: Plan) -> Existing | None:
    """The document as the plan will make it."""
    if plan.delete:
        return None
    if existing is None:
        if not plan.create or wanted.content is None:
            return None
        return Existing(wanted.type, "1", "1", wanted.content, wanted.content, dict(wanted.tags or {}), plan.share)
    latest, content = existing.latest_version, existing.latest
    if plan.add_version and wanted.content is not None:
        latest, content = str(int(latest) + 1), wanted.content
    default = latest if plan.default_version == LATEST else plan.default_version or existing.default_version
    tags = {key: value for key, value in {**existing.tags, **plan.tag}.items() if key not in plan.untag}
    shared = tuple(account for account in (*existing.shared_with, *plan.share) if account not in plan.unshare)
    return replace(existing, latest_version=latest, latest=content, default_version=default, tags=tags, shared_with=shared)
