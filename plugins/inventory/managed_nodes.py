# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: managed_nodes
short_description: Nodes of AWS Systems Manager, by tag, over many accounts and regions
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Makes an inventory of the nodes that AWS Systems Manager manages. EC2 instances come with their tags and network, hybrid
    nodes (C(mi-*)) with the tags that Systems Manager keeps for them; both with platform, agent version and ping status.
  - Asks many accounts and regions at once and with few calls; for each region C(DescribeInstances) with 1,000 instances a page and
    C(DescribeInstanceInformation) with 50 nodes a page. Tags of hybrid nodes are asked for only where there are hybrid nodes.
  - Sets the connection variables of P(fleet.ssm.ssm#connection), so that a playbook runs on the nodes without any further setting.
  - The inventory file is YAML and its name ends with C(managed_nodes.yml), C(ssm_nodes.yml) or C(ssm.yml) (or C(.yaml)),
    for example C(prod.managed_nodes.yml).
requirements:
  # Not by the fragment amazon.aws.boto3, which imports boto3.
  - boto3 >= 1.34
  - botocore >= 1.34
extends_documentation_fragment:
  - amazon.aws.common.plugins
  - amazon.aws.region.plugins
  - amazon.aws.assume_role.plugins
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
  - fleet.ssm.scope
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [fleet.ssm.managed_nodes]
  estate:
    description:
      - A YAML file whose variable C(fleet_estate) gives defaults for O(regions), O(accounts), O(organization), O(external_id),
        O(role_session_name), O(filters) and O(exclude_filters). What the inventory file says itself wins, option by option.
      - A playbook reads the same file with C(vars_files), so that inventory, modules and roles share one table of the estate.
      - The path is relative to the inventory file.
    type: str
  role_session_name:
    default: fleet.ssm-inventory
  filters:
    description:
      - Only nodes that match all of these; a name of a filter of C(DescribeInstances), and a value or a list of values, with the
        wildcards V(*) and V(?).
      - Hybrid nodes are judged by V(tag:NAME), V(tag-key), V(instance-id), V(private-ip-address) and V(owner-id); they match
        no other filter.
    type: dict
    default: {}
  include_filters:
    description:
      - A list of mappings as in O(filters). A node that matches any of them, or O(filters), is included.
      - Each entry is one more query for each account and region.
    type: list
    elements: dict
    default: []
  exclude_filters:
    description:
      - A list of mappings as in O(filters). A node that matches any of them is left out, whatever else it matches.
      - Entries of tags and usual fields cost no query.
    type: list
    elements: dict
    default: []
  states:
    description:
      - States of EC2 instances to take, unless a filter names V(instance-state-name). If empty, all states.
      - Systems Manager knows only running instances, so others appear only with O(include_unmanaged=true).
    type: list
    elements: str
    choices: [pending, running, stopping, stopped, shutting-down, terminated]
    default: [running]
  platforms:
    description: Platforms to take. If empty, all.
    type: list
    elements: str
    choices: [linux, windows, macos]
    default: []
  ping_status:
    description:
      - Take only nodes whose agent has this state. If empty, all, so that a node that is offline shows as unreachable in a play
        instead of being forgotten.
    type: list
    elements: str
    choices: [online, connection_lost, inactive]
    default: []
  hybrid:
    description: Whether to take hybrid nodes. V(false) saves the permission C(tag:GetResources).
    type: bool
    default: true
  include_unmanaged:
    description:
      - Whether to take EC2 instances that Systems Manager does not know, for example to give them a role and an agent. Their
        C(ssm_managed) is V(false), and they get no connection variables.
    type: bool
    default: false
  hostnames:
    description:
      - How a node is named, in order of preference; the first entry that gives a name is taken, the instance id if none does.
      - V(tag:NAME) is the value of a tag. V(tag:NAME=VALUE) gives V(NAME_VALUE) if the tag has that value. V(tag:A,B) are two of these in order of preference.
      - "V(instance-id), V(computer-name), V(private-dns-name), V(private-ip-address), V(dns-name), V(ip-address), or any other
        of the host variables in the notes, without prefix."
      - Jinja filters may follow, as in V(tag:Name | lower), or the entry is a whole template of host variables, with braces.
      - A mapping with C(name), C(prefix) and C(separator) (V(_)) joins two of these; a prefix may also be a fixed word.
      - Characters other than letters, digits, C(_), C(.), C(-), C(@), C(+) become C(_).
      - If several nodes would have the same name, each of them gets C(_) and its instance id behind it. See O(duplicate_hostnames).
    type: list
    elements: raw
    default: ["tag:Name", "instance-id"]
  duplicate_hostnames:
    description:
      - What to do when nodes of this file, in whatever account or region, would have the same name.
      - V(append_id) gives each of them its instance id behind the name. V(error) stops.
    type: str
    choices: [append_id, error]
    default: append_id
  hostvars_prefix:
    description: The prefix of the variables that describe a node. They are used with it in O(compose), O(groups) and O(keyed_groups).
    type: str
    default: ssm_
  hostvars_suffix:
    description: The suffix of the variables that describe a node.
    type: str
    default: ""
  connection_variables:
    description:
      - Whether to set C(ansible_connection), C(ansible_ssm_instance_id), C(ansible_ssm_region), and C(ansible_ssm_profile),
        C(ansible_ssm_role_arn), C(ansible_ssm_external_id), C(ansible_ssm_role_session_name) where the account has them.
      - O(compose) can change them.
    type: bool
    default: true
  max_workers:
    description: Calls that may run at once.
notes:
  - "Host variables, each with O(hostvars_prefix): C(instance_id), C(resource_type) (V(ec2) or V(hybrid)), C(managed), C(account_id),
    C(account_name), C(region), C(availability_zone), C(tags), C(platform) (V(linux), V(windows), V(macos)), C(platform_name),
    C(platform_version), C(computer_name), C(agent_version), C(agent_is_latest), C(ping_status) (V(online), V(connection_lost),
    V(inactive)), C(last_ping), C(activation_id), C(iam_role), C(registered_at), C(state), C(instance_type), C(architecture),
    C(image_id), C(launched_at), C(vpc_id), C(subnet_id), C(security_group_ids), C(instance_profile_arn), C(key_name),
    C(private_ip_address), C(public_ip_address), C(private_dns_name), C(public_dns_name). What is not known is null."
  - All nodes are in the group C(managed_nodes).
  - O(assume_role_arn) is for the one account of a file without O(accounts) and O(organization); it excludes both.
  - An account or region that refuses is a warning that names the missing action, and its nodes are missing; with O(strict=true)
    it is an error. If none answers it is always an error. What is incomplete is not cached.
  - Access keys never become host variables. If an account is given by O(accounts[].access_key), give its hosts their keys by
    C(ansible_ssm_access_key) and C(ansible_ssm_secret_key) from a vault; a profile or a role needs nothing.
  - Needs C(ec2:DescribeInstances) and C(ssm:DescribeInstanceInformation); C(tag:GetResources) where there are hybrid nodes,
    C(ec2:DescribeRegions) for O(regions=all), C(sts:AssumeRole) for roles, C(organizations:ListAccounts) for O(organization).
  - Windows nodes get C(ansible_shell_type=powershell). The connection plugin's session route does not serve Windows.
  - Throttled calls are repeated more and more slowly (botocore's C(adaptive) mode).
  - The values of tags are data, never templates.
seealso:
  - plugin: fleet.ssm.ssm
    plugin_type: connection
  - plugin: amazon.aws.aws_ec2
    plugin_type: inventory
"""

EXAMPLES = r"""
# web.managed_nodes.yml: nodes of the account and region of the environment, grouped by the tag Role: role_web, role_db
plugin: fleet.ssm.managed_nodes
keyed_groups:
  - key: ssm_tags.Role
    prefix: role

---

# Several accounts by a role from one hub account, two regions, only online Linux nodes of one environment
plugin: fleet.ssm.managed_nodes
profile: hub
regions: [eu-central-1, us-east-1]
external_id: fleet
accounts:
  - name: production
    role_arn: arn:aws:iam::111111111111:role/FleetOperator
  - name: staging
    role_arn: arn:aws:iam::222222222222:role/FleetOperator
    regions: all
platforms: [linux]
ping_status: [online]
filters:
  tag:Env: [prod, staging]
exclude_filters:
  - tag:Maintenance: "*"
keyed_groups:
  - key: ssm_tags.Role
    prefix: role
    default_value: none
  - key: ssm_account_name
    prefix: account
  - key: ssm_region
    prefix: region
groups:
  old_agent: ssm_agent_is_latest is false
compose:
  ansible_become: true

---

# Names by tag and region, an inventory that is kept for ten minutes, and an error if any account refuses
plugin: fleet.ssm.managed_nodes
regions: all
strict: true
hostnames:
  - "{{ ssm_tags.Name }}.{{ ssm_region }}"
  - instance-id
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/fleet.ssm
cache_timeout: 600

---

# All accounts of the organization except for one, by a role that each of them has
plugin: fleet.ssm.managed_nodes
profile: hub
regions: [eu-central-1]
organization:
  role_name: FleetOperator
  exclude: [sandbox]

---

# Instances without an agent, to be given one
plugin: fleet.ssm.managed_nodes
regions: [eu-central-1]
include_unmanaged: true
groups:
  without_agent: not ssm_managed
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable
from ansible.utils.path import unfrackpath
from ansible.utils.vars import combine_vars

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError, as_list
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection, parse_filters
from ansible_collections.fleet.ssm.plugins.module_utils.garbage import collection_paused
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import Node
from ansible_collections.fleet.ssm.plugins.module_utils.organization import Accounts, read_scope
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.constructing import Constructed, join
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.estate import read_estate
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.hostnames import Preference, parse_hostnames, safe, unique_names
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.hostvars import check_affixes, connection_variables, host_variables, variable_names
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.kept import FORMAT, Found, pack, unpack
from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.surroundings import surroundings

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18: templates are trusted unless marked otherwise
    from ansible.utils.unsafe_proxy import wrap_var as as_data

    TRUSTED: Mapping[str, bool] = {}

    def trust_as_template(value: str) -> str:
        return value
else:
    #: How a file is read whose author may write templates, as the inventory file itself.
    TRUSTED = {"trusted_as_template": True}

    def as_data(value: Any) -> Any:
        """Values are no templates unless they are trusted, and these are not."""
        return value


GROUP = "managed_nodes"
#: Options whose values in the file may be templates (of extra variables and look-ups), as in the plugins of amazon.aws.
TEMPLATES = frozenset(
    {
        "access_key", "secret_key", "session_token", "profile", "endpoint_url", "assume_role_arn", "region", "regions", "filters",
        "exclude_filters", "accounts", "organization", "external_id", "role_session_name", "estate",
    }
)  # fmt: skip
_KEY_OPTIONS = {
    "access_key": {"access_key", "aws_access_key_id", "aws_access_key"},
    "secret_key": {"secret_key", "aws_secret_access_key", "aws_secret_key"},
    "session_token": {"session_token", "aws_session_token"},
}


class InventoryModule(BaseInventoryPlugin, Constructed, Cacheable):
    """Not AWSInventoryBase of amazon.aws: that imports boto3, which takes longer than to serve a cached inventory."""

    NAME = "fleet.ssm.managed_nodes"
    FILE_SUFFIXES = tuple(f"{name}.{end}" for name in ("managed_nodes", "ssm_nodes", "ssm") for end in ("yml", "yaml"))

    def __init__(self) -> None:
        super().__init__()
        self._written: Mapping[str, Any] = {}  # the inventory file
        self._accounts = Accounts()
        self._selection = Selection()

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(self.FILE_SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache=cache)
        self._written = self._read_config_data(path)
        try:
            self._take_estate(path)
            self._accounts = self._read_accounts()
            self._selection = self._read_selection()
            preferences = parse_hostnames(self.get_option("hostnames"))
            check_affixes(self.get_option("hostvars_prefix"), self.get_option("hostvars_suffix"))
        except OptionError as error:
            where = f"{path} with the table of {self.get_option('estate')}" if self.get_option("estate") else path
            raise AnsibleParserError(f"{where}: {error}") from error

        keep = self.get_option("cache")
        key = self.get_cache_key(path)
        kept = self._cache.get(key) if keep and cache else None
        with collection_paused():
            if kept is not None:
                found = unpack(kept, self._accounts)
            else:
                found, complete = self._collect()
                if keep and complete:
                    self._cache[key] = pack(found, self._accounts)
            self._populate(found, preferences)

    def get_option(self, option: str, hostvars: Mapping[str, Any] | None = None) -> Any:
        value = super().get_option(option, hostvars)
        return self.templar.template(value) if option in TEMPLATES and value else value

    def get_cache_key(self, path: str) -> str:
        """One for each file, identity and selection; another identity must never get what this one may see."""
        identity = {
            "format": FORMAT,
            "path": path,
            "accounts": self._accounts.fingerprint(),
            "region": self.get_option("region"),
            "endpoint_url": self.get_option("endpoint_url"),
            "surroundings": surroundings(self._accounts.callers(), os.environ),
            "selection": repr(self._selection),
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return f"{self.NAME}_{digest[:24]}"

    def _take_estate(self, path: str) -> None:
        """Set the options that the table of the estate has and the inventory file has not.

        :raises OptionError: if there is no such table, or it cannot be meant so.
        """
        written = self.get_option("estate")
        if not written:
            return
        file = unfrackpath(written, follow=False, basedir=os.path.dirname(path))
        try:
            variables = self.loader.load_from_file(file, cache="none", **TRUSTED)
        except AnsibleError as error:
            raise OptionError(f"the file of 'estate' cannot be read: {error} Write its path relative to the inventory file.") from error
        for name, value in read_estate(variables, file).items():
            if name not in self._written:
                self.set_option(name, value)

    def _read_accounts(self) -> Accounts:
        own = {name: self.get_option(name) for name in ("profile", *_KEY_OPTIONS, "external_id", "role_session_name")}
        # The environment may hold both a profile and keys. What the file says wins; else keys do, as with every AWS tool.
        keys_written = {name for name, spellings in _KEY_OPTIONS.items() if spellings & self._written.keys()}
        profile_written = {"profile", "aws_profile"} & self._written.keys()
        if profile_written or keys_written:
            # Key, secret and token belong together: none of another source completes those of the file.
            own.update(dict.fromkeys(_KEY_OPTIONS.keys() - keys_written))
        if not profile_written and own["access_key"]:
            own["profile"] = None
        own["role_arn"] = self.get_option("assume_role_arn")
        own["regions"] = self.get_option("regions")
        return read_scope(self.get_option("accounts"), self.get_option("organization"), own)

    def _read_selection(self) -> Selection:
        include = parse_filters(self.get_option("filters"), "filters") + parse_filters(self.get_option("include_filters"), "include_filters")
        return Selection(
            include=include,
            exclude=parse_filters(self.get_option("exclude_filters"), "exclude_filters"),
            states=tuple(as_list(self.get_option("states"), "'states'")),
            platforms=tuple(as_list(self.get_option("platforms"), "'platforms'")),
            ping_status=tuple(as_list(self.get_option("ping_status"), "'ping_status'")),
            hybrid=self.get_option("hybrid"),
            unmanaged=self.get_option("include_unmanaged"),
        )

    def _collect(self) -> tuple[Found, bool]:
        """What was found, and whether every account and region answered."""
        # Only now: botocore takes longer to import than a cached inventory takes altogether.
        from ansible_collections.amazon.aws.plugins.module_utils.botocore import check_sdk_version_supported
        from ansible_collections.fleet.ssm.plugins.module_utils.clients import ClientPool
        from ansible_collections.fleet.ssm.plugins.module_utils.collect import collect
        from ansible_collections.fleet.ssm.plugins.module_utils.network import Network, NetworkError
        from ansible_collections.fleet.ssm.plugins.module_utils.organization_listing import find_accounts
        from ansible_collections.fleet.ssm.plugins.module_utils.problems import merge

        check_sdk_version_supported(warn=self.display.warning)
        workers = max(1, self.get_option("max_workers"))
        try:
            network = Network.choose(environ=os.environ)
        except NetworkError as error:
            raise AnsibleParserError(f"{error}. Check HTTPS_PROXY, AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE.") from error
        pool = ClientPool(region=self.get_option("region"), endpoint_url=self.get_option("endpoint_url"), network=network, connections=workers)
        accounts = find_accounts(self._accounts, pool, workers)
        collected = collect(accounts.accounts, self._selection, pool, max_workers=workers)
        problems = merge([*accounts.errors, *collected.errors])
        if problems and (self.get_option("strict") or not collected.regions):
            raise AnsibleParserError("\n".join(str(problem) for problem in problems))
        for problem in problems:
            self.display.warning(f"{problem} Nodes from there are missing in the inventory.")
        numbers = {id(account): number for number, account in enumerate(accounts.accounts)}
        return Found(accounts.accounts, [(numbers[id(account)], node) for account, node in collected.nodes]), not problems

    def _populate(self, found: Found, preferences: Sequence[Preference]) -> None:
        self.inventory.add_group(GROUP)
        fields = variable_names(self.get_option("hostvars_prefix"), self.get_option("hostvars_suffix"))
        with_connection = self.get_option("connection_variables")
        strict = self.get_option("strict")
        compose, groups, keyed_groups = (self.get_option(name) for name in ("compose", "groups", "keyed_groups"))

        self.begin(fields.values(), compose, (self._vars or {}) if self.get_option("use_extra_vars") else {})
        # The one variable that changes from group to group.
        by_groups = "group_names" in repr(keyed_groups)
        # Expressions that read no more than what AWS said need not be shown what Ansible and other sources say of the host.
        own_alone = not compose and self.read_own_alone(groups, keyed_groups)
        variables = [as_data(host_variables(node, fields)) for _number, node in found.nodes]
        names = self._names([node for _number, node in found.nodes], variables, preferences)
        hosts = self.inventory.hosts
        seen_before = [name in hosts for name in names]  # by other sources
        for name in names:
            self.inventory.add_host(name)
        join(self.inventory.groups[GROUP], [hosts[name] for name in names])
        names_are_checked = False
        for (number, node), name, facts, other_sources in zip(found.nodes, names, variables, seen_before, strict=True):
            host = hosts[name]
            connection = as_data(connection_variables(node, found.accounts[number])) if with_connection and node["managed"] else {}
            if names_are_checked and not other_sources:
                # What Ansible does to each of 400,000 variables takes seconds: it looks at the name, which is the same for all
                # hosts, and for templates in the value, which are none; and it merges it with what others say.
                host.vars.update(facts)
                host.vars.update(connection)
            else:
                for key, value in (*facts.items(), *connection.items()):
                    self.inventory.set_variable(name, key, value)
                names_are_checked = True
            if other_sources or not own_alone:
                facts = combine_vars(facts, host.get_vars())  # how it is reached, inventory_hostname, and what other sources say of the host
            if compose:
                self._set_composite_vars(compose, facts, name, strict=strict)
                facts = combine_vars(facts, host.get_vars())
            # Once instead of once an expression: fetching them is most of the time with thousands of hosts.
            if groups:
                self._add_host_to_composed_groups(groups, facts, name, strict=strict, fetch_hostvars=False)
            if keyed_groups:
                self._add_host_to_keyed_groups(keyed_groups, facts, name, strict=strict, fetch_hostvars=by_groups)
        self.join_groups()

    def _names(self, nodes: Sequence[Node], variables: Sequence[Mapping[str, Any]], preferences: Sequence[Preference]) -> list[str]:
        wanted = [self._name(node, facts, preferences) for node, facts in zip(nodes, variables, strict=True)]
        names, twice = unique_names(wanted, [node["instance_id"] for node in nodes])
        if twice:
            text = f"several nodes have the same name by 'hostnames': {', '.join(twice)}."
            if self.get_option("duplicate_hostnames") == "error":
                raise AnsibleParserError(f"{text[0].upper()}{text[1:]} Add what tells them apart, e.g. a prefix, or set 'duplicate_hostnames: append_id'.")
            self.display.v(f"{self.NAME}: {text} Each has its instance id behind the name.")
        return names

    def _name(self, node: Node, facts: Mapping[str, Any], preferences: Sequence[Preference]) -> str:
        for preference in preferences:
            try:
                name = safe(preference.name(node, lambda: facts, self._evaluate))
            except AnsibleError as error:
                if self.get_option("strict"):
                    raise AnsibleParserError(f"'hostnames' cannot be evaluated for {node['instance_id']}: {error}") from error
                continue
            if name:
                return name
        return str(node["instance_id"])

    def _evaluate(self, text: str, variables: Mapping[str, Any]) -> Any:
        if "{{" not in text:
            return self._compose(trust_as_template(text), as_data(dict(variables)))
        self.templar.available_variables = variables
        return self.templar.template(trust_as_template(text))
