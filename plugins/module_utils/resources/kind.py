# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kind of resource must be able to do, and what all of them use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..aws_errors import error_code
from ..problems import CollectError
from ..scope import Place

#: What a resource is like: the same keys as the task gives, or those of them that the kind knows.
State = dict[str, Any]


class Kind:
    """One resource in one place. Properties that the task does not give are left alone."""

    regional = True  #: False: the account has it once, whatever the region
    needs: tuple[str, ...] = ()  #: properties that it must have
    takes: tuple[str, ...] = ()  #: others that it may have
    documents: frozenset[str] = frozenset()  #: properties that are policies or patterns
    arn: str | None = None  #: where the name does not tell it, once the resource is there

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        self._place, self._name = place, name
        self._tags = {str(key): str(value) for key, value in (wanted.get("tags") or {}).items()}
        if "tags" in wanted:
            wanted["tags"] = self._tags

    def look(self) -> State | None:
        """As it is now; None if it is not there. :raises CollectError: if it cannot be seen."""
        raise NotImplementedError

    def refuse(self, now: State) -> None:
        """:raises CollectError: if what is there cannot, or must not, become what is wanted."""

    def write(self, now: State | None, wanted: State) -> None:
        """Make it, or change what differs. :raises CollectError: if that is refused."""
        raise NotImplementedError

    def remove(self, now: State) -> None:
        """Let it be gone. :raises CollectError: if that is refused."""
        raise NotImplementedError

    def kept(self) -> str:
        """Why it stays where it is to go; empty if it goes."""
        return ""

    def _seen_tags(self, read: Callable[[], Mapping[str, str]]) -> State:
        """The property `tags` as it is now. Tags of others do not matter, and where none are wanted nothing is asked.

        :param read: asks for all that there are.
        """
        if not self._tags:
            return {"tags": {}}
        found = read()
        return {"tags": {key: found[key] for key in self._tags if key in found}}

    def _missing_tags(self, now: State | None) -> dict[str, str]:
        """Those to write."""
        seen = (now or {}).get("tags", {})
        return {key: value for key, value in self._tags.items() if seen.get(key) != value}


def absent_if(codes: tuple[str, ...], call: Callable[[], Any]) -> Any:
    """The answer of a call, or None for errors that mean that there is nothing."""
    try:
        return call()
    except CollectError as error:
        if error_code(error) in codes:
            return None
        raise


def document(value: Any) -> Any:
    """A policy or pattern, from its text or as it is, in a form that can be compared: lists of one are that one, and lists have no order."""
    if isinstance(value, str):
        value = json.loads(value) if value else None
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        found = sorted((_plain(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
        return found[0] if len(found) == 1 else found
    return value


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def unpaired(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The other way around."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def text(value: Any) -> str:
    """A policy or pattern as it is sent."""
    return json.dumps(value)


def partition_of(place: Place) -> str:
    """The part of AWS that a region belongs to."""
    return "aws-cn" if place.region.startswith("cn-") else "aws-us-gov" if place.region.startswith("us-gov-") else "aws"


def arn(place: Place, service: str, resource: str) -> str:
    """Of a resource in a place."""
    return f"arn:{partition_of(place)}:{service}:{place.region}:{place.account_id}:{resource}"


def domain_of(place: Place) -> str:
    """What the names of its services end in."""
    return "amazonaws.com.cn" if place.region.startswith("cn-") else "amazonaws.com"
