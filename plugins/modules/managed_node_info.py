#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_node_info
short_description: Nodes of AWS Systems Manager with their state, over many accounts and regions
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Returns EC2 instances and hybrid nodes (C(mi-*)) with state, platform, agent version, ping status and tags.
  - Waits, if asked to, until nodes are online, and says of each one that did not come why.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.attributes
  - fleet.ssm.attributes.info
options:
  instance_ids:
    description: Only these nodes; ids of instances (V(i-…)) or hybrid nodes (V(mi-…)).
    type: list
    elements: str
    default: []
  filters:
    description:
      - Only nodes that match all of these; a name of a filter of C(DescribeInstances), and a value or a list of values, with the
        wildcards V(*) and V(?).
      - Hybrid nodes are judged by V(tag:NAME), V(tag-key), V(instance-id), V(private-ip-address) and V(owner-id); they match
        no other filter.
    type: dict
    default: {}
  exclude_filters:
    description: A list of mappings as in O(filters). A node that matches any of them is left out.
    type: list
    elements: dict
    default: []
  states:
    description:
      - States of EC2 instances to take, unless a filter names V(instance-state-name). If empty, all states.
      - The default is V([running]); V([pending, running]) with O(wait_for); all states with O(instance_ids).
    type: list
    elements: str
    choices: [pending, running, stopping, stopped, shutting-down, terminated]
  platforms:
    description: Platforms to take. If empty, all.
    type: list
    elements: str
    choices: [linux, windows, macos]
    default: []
  ping_status:
    description: Take only nodes whose agent has this state. If empty, all. Excludes O(wait_for).
    type: list
    elements: str
    choices: [online, connection_lost, inactive]
    default: []
  hybrid:
    description: Whether to take hybrid nodes. V(false) saves the permission C(tag:GetResources).
    type: bool
    default: true
  include_unmanaged:
    description: Whether to take EC2 instances that Systems Manager does not know. With O(wait_for) they are always awaited.
    type: bool
    default: false
  wait_for:
    description:
      - V(online) waits until all nodes that match are online. A node that does not come within O(wait_timeout) fails the task, and
        RV(late) says why.
    type: str
    choices: [online]
  wait_count:
    description:
      - How many nodes must be online at least, for instances that may not exist yet when the task begins.
      - The default is one, or all of O(instance_ids).
    type: int
  wait_timeout:
    description: Seconds to wait.
    type: int
    default: 600
  strict:
    description:
      - Whether an account or region that refuses fails the task. If not, it is a warning and in RV(errors), and its nodes are missing.
      - If none answers, the task fails always.
    type: bool
    default: false
notes:
  - Needs C(ec2:DescribeInstances) and C(ssm:DescribeInstanceInformation); C(tag:GetResources) where there are hybrid nodes,
    C(ec2:DescribeRegions) for O(regions=all), C(sts:AssumeRole) for roles.
  - To say why nodes are late, it asks what M(fleet.ssm.node_health) asks; where that is not allowed, it says less.
seealso:
  - module: fleet.ssm.node_health
  - plugin: fleet.ssm.managed_nodes
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Which nodes of two accounts have an old agent?
  fleet.ssm.managed_node_info:
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetOperator
    filters:
      tag:Role: web
  register: found

- name: Name them
  ansible.builtin.debug:
    msg: "{{ found.nodes | rejectattr('agent_is_latest') | map(attribute='instance_id') }}"

- name: Wait until new instances take commands
  fleet.ssm.managed_node_info:
    region: eu-central-1
    instance_ids: ["i-0123456789abcdef0"]
    wait_for: online
    wait_timeout: 300
"""

RETURN = r"""
nodes:
  description: The nodes, ordered by account, region and id. What is not known is null.
  returned: always
  type: list
  elements: dict
  contains:
    instance_id:
      description: The id of the instance or hybrid node.
      type: str
      sample: i-0123456789abcdef0
    resource_type:
      description: V(ec2) or V(hybrid).
      type: str
    managed:
      description: Whether Systems Manager knows it.
      type: bool
    account_id:
      description: The account.
      type: str
    account_name:
      description: Your word for the account.
      type: str
    region:
      description: The region.
      type: str
    availability_zone:
      description: The availability zone.
      type: str
    tags:
      description: Tags.
      type: dict
    platform:
      description: V(linux), V(windows) or V(macos).
      type: str
    platform_name:
      description: The name of the operating system.
      type: str
    platform_version:
      description: Its version.
      type: str
    computer_name:
      description: The host name, as the agent says.
      type: str
    agent_version:
      description: The version of the agent.
      type: str
    agent_is_latest:
      description: Whether there is no newer one.
      type: bool
    ping_status:
      description: V(online), V(connection_lost) or V(inactive).
      type: str
    last_ping:
      description: When the agent was last heard, ISO 8601 in UTC.
      type: str
    state:
      description: The state of the instance; null for a hybrid node.
      type: str
    instance_type:
      description: The type of the instance. Also returned are C(architecture), C(image_id), C(launched_at), C(vpc_id), C(subnet_id),
        C(security_group_ids), C(instance_profile_arn), C(key_name), C(private_ip_address), C(public_ip_address), C(private_dns_name),
        C(public_dns_name), C(activation_id), C(iam_role) and C(registered_at).
      type: str
late:
  description:
    - Nodes that did not come within O(wait_timeout), each with C(instance_id), C(account_id), C(region), C(reason), and C(causes) as
      M(fleet.ssm.node_health) returns them.
  returned: with O(wait_for)
  type: list
  elements: dict
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
"""

import time
from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.awaited import judge
from ansible_collections.fleet.ssm.plugins.module_utils.collect import Collected, collect
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection, parse_filters, with_ids
from ansible_collections.fleet.ssm.plugins.module_utils.health.gather import DETAILS, gather
from ansible_collections.fleet.ssm.plugins.module_utils.looks import look_until
from ansible_collections.fleet.ssm.plugins.module_utils.organization_listing import find_accounts
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, make_pool, read_accounts

_STATES = ["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]


def select(params: dict[str, Any]) -> Selection:
    """Which nodes are asked for. :raises OptionError: if the filters have another shape."""
    waiting = params["wait_for"] is not None
    ids = params["instance_ids"]
    include = with_ids(parse_filters(params["filters"], "filters"), ids)
    states = params["states"]
    if states is None:
        states = [] if ids else ["pending", "running"] if waiting else ["running"]
    return Selection(
        include=include,
        exclude=parse_filters(params["exclude_filters"], "exclude_filters"),
        states=tuple(states),
        platforms=tuple(params["platforms"]),
        ping_status=tuple(params["ping_status"]),
        hybrid=params["hybrid"],
        unmanaged=waiting or params["include_unmanaged"],
    )


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "instance_ids": {"type": "list", "elements": "str", "default": []},
            "filters": {"type": "dict", "default": {}},
            "exclude_filters": {"type": "list", "elements": "dict", "default": []},
            "states": {"type": "list", "elements": "str", "choices": _STATES},
            "platforms": {"type": "list", "elements": "str", "choices": ["linux", "windows", "macos"], "default": []},
            "ping_status": {"type": "list", "elements": "str", "choices": ["online", "connection_lost", "inactive"], "default": []},
            "hybrid": {"type": "bool", "default": True},
            "include_unmanaged": {"type": "bool", "default": False},
            "wait_for": {"type": "str", "choices": ["online"]},
            "wait_count": {"type": "int"},
            "wait_timeout": {"type": "int", "default": 600},
            "strict": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["wait_for"] and params["ping_status"]:
        module.fail_json(msg="'ping_status' and 'wait_for' exclude each other: nodes that are not online could not be awaited. Remove one of them.")
    try:
        accounts, selection = read_accounts(params), select(params)
        pool = make_pool(params, "managed_node_info", details=DETAILS if params["wait_for"] else frozenset())
    except OptionError as error:
        module.fail_json(msg=str(error))

    workers = max(1, params["max_workers"])
    listed = find_accounts(accounts, pool, workers)

    def look() -> Collected:
        found = collect(listed.accounts, selection, pool, max_workers=workers)
        found.errors[:0] = listed.errors
        problems = told(found.errors)
        if problems and (params["strict"] or not found.regions):
            module.fail_json(msg="\n".join(problems), nodes=[node for _account, node in found.nodes], errors=problems)
        return found

    def late(found: Collected) -> list[str] | None:
        waiting = judge((node for _account, node in found.nodes), params["instance_ids"], now=time.time())
        if not params["wait_for"] or waiting.enough(params["wait_count"]):
            return None
        return [] if params["wait_count"] else [node["instance_id"] for node in waiting.late]

    found = look_until(look, late, selection, seconds=params["wait_timeout"], max_workers=workers)
    result: dict[str, Any] = {}
    if params["wait_for"]:
        waiting = judge((node for _account, node in found.nodes), params["instance_ids"], now=time.time())
        if waiting.late:  # only now, since it costs calls
            evidence = gather(found, max_workers=workers).evidence
            waiting = judge((node for _account, node in found.nodes), params["instance_ids"], evidence, now=time.time())
        result["late"] = list(waiting.late)
        if not waiting.enough(params["wait_count"]):
            late = "; ".join(f"{node['instance_id']}: {node['reason']}" for node in waiting.late[:20])
            more = f"; and {len(waiting.late) - 20} more in 'late'" if len(waiting.late) > 20 else ""
            wanted = max(params["wait_count"] or 1, len(waiting.online) + len(waiting.late))
            text = f"{len(waiting.online)} of {wanted} nodes are online after {params['wait_timeout']} s. {late or 'No other node matches'}{more}."
            module.fail_json(msg=text, nodes=[node for _account, node in found.nodes], **result)
    problems = told(found.errors)
    for problem in problems:
        module.warn(f"{problem} Nodes from there are missing.")
    module.exit_json(changed=False, nodes=[node for _account, node in found.nodes], errors=problems, **result)


if __name__ == "__main__":
    main()
