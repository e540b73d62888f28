# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node gets its name in the inventory: option `hostnames`, in order of preference. No I/O.

An entry is one of

- `tag:NAME`, the value of a tag, or `tag:NAME=VALUE`, which gives `NAME_VALUE` if the tag has that value; several of these with commas between, of which
  the first that gives a name is taken: filters get the list of all that do, as in amazon.aws.aws_ec2;
- a name as `instance-id` or `private-dns-name`, for any field of a node (dashes and underscores are equal), and the names that
  amazon.aws.aws_ec2 uses for them;
- one of these with Jinja filters, as `tag:Name | lower`;
- a whole Jinja template over the node's host variables, as `{{ ssm_tags.Name }}.{{ ssm_region }}`;
- a mapping of `name`, `prefix` and `separator`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...module_utils.accounts import OptionError
from ...module_utils.nodes import FIELDS, Node

#: Evaluates a Jinja expression, or a template if it has braces, with these variables.
Evaluate = Callable[[str, Mapping[str, Any]], Any]

_EC2_NAMES: Mapping[str, str] = {
    "dns-name": "public_dns_name",
    "ip-address": "public_ip_address",
}
_NAMELESS = {"tags", "managed", "agent_is_latest", "security_group_ids"}
_UNSAFE = re.compile(r"[^\w.@+-]+")


@dataclass(frozen=True)
class Source:
    """One way to get a name (or a part of one) from a node."""

    kind: str  #: tag, field, template, literal
    text: str
    filters: str = ""  #: Jinja, without the first bar

    def value(self, node: Node, hostvars: Callable[[], Mapping[str, Any]], evaluate: Evaluate) -> str:
        """The name, or "" if the node has nothing to make it of."""
        if self.kind == "template":
            return _text(evaluate(self.text, hostvars()))
        if self.kind == "tag" and "," in self.text:
            names = [name for text in self.text.split(",") if (name := _tag(node, text.strip()))]
            chosen = evaluate(f"names | {self.filters}", {"names": names}) if names and self.filters else names
            return _text(chosen if isinstance(chosen, str) else next(iter(chosen), None))
        found = self._plain(node)
        return _text(evaluate(f"name | {self.filters}", {"name": found})) if found and self.filters else found

    def _plain(self, node: Node) -> str:
        if self.kind == "literal":
            return self.text
        if self.kind == "field":
            return _text(node[self.text])
        return _tag(node, self.text)


@dataclass(frozen=True)
class Preference:
    """One entry of `hostnames`."""

    source: Source
    prefix: Source | None = None
    separator: str = "_"

    def name(self, node: Node, hostvars: Callable[[], Mapping[str, Any]], evaluate: Evaluate) -> str:
        """The node's name by this entry, or "" if it has none."""
        name = self.source.value(node, hostvars, evaluate)
        prefix = self.prefix.value(node, hostvars, evaluate) if name and self.prefix else ""
        return f"{prefix}{self.separator}{name}" if prefix else name


def parse_hostnames(entries: Sequence[Any]) -> list[Preference]:
    """Read the option.

    :raises OptionError: for an entry that can never give a name.
    """
    return [_preference(entry) for entry in entries]


def safe(name: str) -> str:
    """A name that patterns, `--limit` and file names of logs can carry: letters, digits, `_`, `.`, `-`, `@`, `+`."""
    return _UNSAFE.sub("_", name.strip())


def unique_names(names: Sequence[str], node_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell apart nodes that would have the same name: **each** of them gets `_` and its id behind the name.

    Each, not all but the first, so that a name never moves to another machine because of the order of answers.

    :return: the names to use, and the names that were wanted more than once.
    """
    wanted = Counter(names)
    unique = [name if wanted[name] == 1 or name == node_id else f"{name}_{node_id}" for name, node_id in zip(names, node_ids, strict=True)]
    return unique, sorted(name for name, count in wanted.items() if count > 1)


def _preference(entry: Any) -> Preference:
    if isinstance(entry, str):
        return Preference(_source(entry))
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise OptionError(f"'hostnames' takes strings and mappings with 'name', not {entry!r}.")
    unknown = sorted(str(key) for key in entry if key not in ("name", "prefix", "separator"))
    if unknown:
        raise OptionError(f"An entry of 'hostnames' has unknown keys: {', '.join(unknown)}. It takes: name, prefix, separator.")
    prefix = entry.get("prefix")
    return Preference(_source(entry["name"]), _source(str(prefix), literal=True) if prefix else None, str(entry.get("separator", "_")))


def _source(text: str, *, literal: bool = False) -> Source:
    """:param literal: take a word that is no known name as it is, instead of refusing it."""
    if "{{" in text:
        return Source("template", text)
    plain, _bar, filters = (part.strip() for part in text.partition("|"))
    if plain.startswith("tag:"):
        return Source("tag", plain.removeprefix("tag:"), filters)
    field = _EC2_NAMES.get(plain, plain.replace("-", "_"))
    if field in FIELDS and field not in _NAMELESS:
        return Source("field", field, filters)
    if literal:
        return Source("literal", plain, filters)
    known = ", ".join(name.replace("_", "-") for name in FIELDS if name not in _NAMELESS)
    raise OptionError(f"'hostnames' has an unknown name {plain!r}. Use tag:NAME, a Jinja template with braces, or one of: {known}.")


def _tag(node: Node, text: str) -> str:
    name, equals, wanted = text.partition("=")
    value = str(node["tags"].get(name, ""))
    if not equals:
        return value
    return f"{name}_{value}" if value == wanted else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
