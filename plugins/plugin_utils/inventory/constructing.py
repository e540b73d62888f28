# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`compose`, `groups` and `keyed_groups` as Ansible has them, without evaluating the same again for each of 10,000 hosts. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from ansible.plugins.inventory import Constructable
from ansible.utils.vars import combine_vars

from .expressions import NotPlainError, look_up, paths_read, plain_path, signature


class Constructed(Constructable):  # type: ignore[misc]  # Ansible ships no types
    """For an inventory plugin that calls `begin` before its first host, and `join_groups` after its last one."""

    inventory: Any
    _extra: Mapping[str, Any]  # extra variables, if they are to be used
    _plain_roots: set[str]
    _evaluated: dict[Hashable, Any]
    _keyed_paths: dict[int, tuple[str, ...] | None]  # by the number of the entry
    _joined: dict[Hashable, list[Any]]  # the groups of hosts with the same values
    _members: defaultdict[Any, list[Any]]  # by group, hosts that are to join it

    def begin(self, own: Iterable[str], compose: Mapping[str, Any] | None, extra: Mapping[str, Any]) -> None:
        """Forget what was evaluated.

        :param own: the variables that the plugin itself sets, whose values are no templates.
        :param compose: the option: what it sets may be anything.
        :param extra: extra variables that expressions see; they may be templates, and hide any other variable.
        """
        self._extra = extra
        # Paths into these can be looked up.
        self._plain_roots = set() if extra else set(own) - set(compose or ())
        self._evaluated = {}
        self._keyed_paths = {}
        self._joined = {}
        self._members = defaultdict(list)

    def read_own_alone(self, groups: Mapping[str, Any] | None, keyed_groups: Iterable[Any] | None) -> bool:
        """Whether all expressions of these options read nothing but variables that the plugin itself sets."""
        entries = list(keyed_groups or ())
        if not all(isinstance(entry, dict) and not _has_template(entry) for entry in entries):
            return False
        expressions = [*(groups or {}).values(), *(entry.get("key") for entry in entries)]
        read = [paths_read(each) if isinstance(each, str) else None for each in expressions]
        return all(paths is not None and all(path[0] in self._plain_roots for path in paths) for paths in read)

    def _compose(self, template: Any, variables: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """As inherited, but without evaluating what can be looked up or was evaluated for the same values before."""
        # Not only for the evaluation: the name of a parent group is a template that comes after it.
        self.templar.available_variables = combine_vars(variables, self._extra) if self._extra else variables
        path = plain_path(template) if isinstance(template, str) else None
        if path and path[0] in self._plain_roots:
            with suppress(NotPlainError):
                return look_up(path, variables)
        key = self._memo(template, variables)
        if key is None:
            return super()._compose(template, variables, *arguments, **options)
        if key not in self._evaluated:
            self._evaluated[key] = super()._compose(template, variables, *arguments, **options)
        return self._evaluated[key]

    def _add_host_to_composed_groups(self, groups: Any, variables: Any, host: str, strict: bool = False, fetch_hostvars: bool = True) -> None:
        """As inherited, group by group, and without evaluating a condition again for the same values."""
        for group, condition in (groups or {}).items():
            key = self._memo(condition, variables, group)
            self._join_as_recorded(key, host, partial(super()._add_host_to_composed_groups, {group: condition}, variables, host, strict, fetch_hostvars))

    def _add_host_to_keyed_groups(self, keys: Any, variables: Any, host: str, strict: bool = False, fetch_hostvars: bool = True) -> None:
        """As inherited, entry by entry; hosts with the same values join the groups that the first of them has joined."""
        if fetch_hostvars or not isinstance(keys, list):
            self.join_groups()
            super()._add_host_to_keyed_groups(keys, variables, host, strict=strict, fetch_hostvars=fetch_hostvars)
            return
        for number, entry in enumerate(keys):
            key = self._keyed_memo(number, entry, variables)
            self._join_as_recorded(key, host, partial(super()._add_host_to_keyed_groups, [entry], variables, host, strict, False))

    def join_groups(self) -> None:
        """Let all hosts join the groups that were found for them."""
        for group, members in self._members.items():
            join(group, members)
        self._members.clear()

    def _join_as_recorded(self, key: Hashable | None, host: str, construct: Callable[[], None]) -> None:
        """Note of which groups a host is: of those that it would join by `construct`, if these are not known yet."""
        groups = self._joined.get(key) if key is not None else None
        if groups is None:
            inventory = self.inventory
            self.inventory = recorder = _Recorder(inventory)
            try:
                construct()
            finally:
                self.inventory = inventory
            groups = [inventory.groups[group] for group in recorder.groups]
            if key is not None:
                self._joined[key] = groups
        for group in groups:
            self._members[group].append(self.inventory.hosts[host])

    def _keyed_memo(self, number: int, entry: Any, variables: Mapping[str, Any]) -> Hashable | None:
        """Equal for hosts that the entry puts into the same groups; None if that is not known."""
        if number not in self._keyed_paths:
            self._keyed_paths[number] = self._keyed_path(entry)
        path = self._keyed_paths[number]
        if path is None:
            return None
        if path:
            with suppress(NotPlainError):
                value = look_up(path, variables)
                if value is None or isinstance(value, str):
                    return (number, value)
        return self._memo(entry["key"], variables, str(number), "key")

    def _keyed_path(self, entry: Any) -> tuple[str, ...] | None:
        """The path of what the plugin itself has set, if the key is no more than that, else an empty one; None if nothing can be told."""
        expression = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(expression, str) or _has_template(entry):
            return None
        path = plain_path(expression)
        return path if path and path[0] in self._plain_roots else ()

    def _memo(self, expression: Any, variables: Mapping[str, Any], *of: str) -> Hashable | None:
        """Equal for expressions that have equal results; None for one that is to be evaluated host by host."""
        paths = paths_read(expression) if isinstance(expression, str) else None
        if paths is None:
            return None
        seen = (signature(paths, variables), signature(paths, self._extra))
        return None if None in seen else (*of, expression, *seen)


def join(group: Any, hosts: Iterable[Any]) -> None:
    """What `Group.add_host` does for each of the hosts, with what is the same for all of them done once."""
    names, groups = group.host_names, (*group.get_ancestors(), group)
    for host in hosts:
        if host.name not in names:
            names.add(host.name)
            group.hosts.append(host)
            host.groups.extend([each for each in groups if each not in host.groups])
    group.clear_hosts_cache()


def _has_template(entry: Mapping[str, Any]) -> bool:
    """Whether the name of the parent group is one, which sees the host's variables as the key does."""
    return "{" in str(entry.get("parent_group"))


class _Recorder:
    """Stands for the inventory data while a host's groups are found, and notes them."""

    def __init__(self, inventory: Any) -> None:
        self._inventory = inventory
        self.groups: list[str] = []

    def add_host(self, host: str, group: str) -> str:
        self.groups.append(group)
        return host

    def add_child(self, group: str, child: str) -> Any:
        if child in self._inventory.groups:
            return self._inventory.add_child(group, child)
        self.groups.append(group)
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inventory, name)
