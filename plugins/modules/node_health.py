#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_health
short_description: Which nodes are not online, and why
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Says of EC2 instances and hybrid nodes (C(mi-*)) whether Systems Manager has them online, with an old agent, lost, or never heard of them.
  - For each that is not online it names the causes that speak for themselves, the likeliest first, each with a remedy. If none does, it names the usual ones.
  - It looks from outside, at what AWS tells. It changes nothing, and runs nothing on nodes.
  - A fleet in which all is well costs no more calls than a listing of its nodes; a region with ill nodes some six more, and each role of theirs two,
    unless O(evidence=false).
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
    description: Only nodes that match all of these, as in M(fleet.ssm.managed_node_info).
    type: dict
    default: {}
  exclude_filters:
    description: A list of mappings as in O(filters). A node that matches any of them is left out.
    type: list
    elements: dict
    default: []
  states:
    description: States of EC2 instances to take, unless a filter names V(instance-state-name). With O(instance_ids), all.
    type: list
    elements: str
    choices: [pending, running, stopping, stopped, shutting-down, terminated]
    default: [pending, running, stopping, stopped]
  hybrid:
    description: Whether to take hybrid nodes. V(false) saves the permission C(tag:GetResources).
    type: bool
    default: true
  minimum_agent_version:
    description:
      - Agents that are older than this are outdated, such as V(3.3.40.0).
      - If not set, agents that are not the latest are.
    type: str
  problems_only:
    description: Whether RV(nodes) has only nodes with causes. RV(counts) counts all.
    type: bool
    default: false
  evidence:
    description:
      - Whether to ask AWS for more about nodes that are not online. Without, RV(nodes[].causes) has what the listing shows, and the usual causes.
    type: bool
    default: true
  console:
    description:
      - Whether to read the console output of instances that are not online, one call each. It helps where an image sends the agent's log there.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to wait for nodes that are not online, before it says why. Those whose instance is stopped are not waited for.
    type: int
    default: 0
  observe:
    description:
      - Seconds for which to look at hybrid nodes again and again. An id that clones of one machine share changes its name and address then.
      - Agents speak every five minutes, so V(600) is a good time.
    type: int
    default: 0
  earlier:
    description:
      - RV(nodes) of an earlier report. An id that belonged to another machine then is told, as with O(observe), but without waiting.
    type: list
    elements: dict
    default: []
  strict:
    description:
      - Whether an account or region that refuses fails the task. If not, it is a warning and in RV(errors), and its nodes are missing.
      - If none answers, the task fails always.
    type: bool
    default: false
notes:
  - Needs C(ec2:DescribeInstances) and C(ssm:DescribeInstanceInformation), C(tag:GetResources) where there are hybrid nodes,
    C(ec2:DescribeRegions) for O(regions=all), C(sts:AssumeRole) for roles.
  - Uses, where it may, C(ec2:DescribeInstanceStatus), C(ec2:DescribeIamInstanceProfileAssociations), C(ec2:DescribeRouteTables),
    C(ec2:DescribeVpcEndpoints), C(ec2:DescribeVpcAttribute), C(ec2:DescribeSubnets), C(ec2:DescribeSecurityGroupRules),
    C(ssm:GetServiceSetting), C(iam:GetInstanceProfile), C(iam:SimulatePrincipalPolicy),
    C(ec2:GetConsoleOutput) for O(console); and in the place of C(iam:SimulatePrincipalPolicy) C(iam:ListAttachedRolePolicies), C(iam:GetPolicy),
    C(iam:GetPolicyVersion), C(iam:ListRolePolicies), C(iam:GetRolePolicy). What it may not ask is in RV(unchecked).
seealso:
  - module: fleet.ssm.managed_node_info
  - module: fleet.ssm.instance_profile_association
  - module: fleet.ssm.reachability_info
"""

EXAMPLES = r"""
- name: What is wrong with the instances of two accounts?
  fleet.ssm.node_health:
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetPlatform
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetPlatform
    filters:
      tag:Env: prod
    problems_only: true
  register: health

- name: Say it
  ansible.builtin.debug:
    msg: "{{ item.instance_id }} is {{ item.status }}. {{ item.causes[0].sentence }} {{ item.causes[0].remedy }}"
  loop: "{{ health.nodes }}"
  loop_control:
    label: "{{ item.instance_id }}"

- name: Do several machines share an id?
  fleet.ssm.node_health:
    region: eu-central-1
    observe: 600
  register: health
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
    name:
      description: Its tag C(Name).
      type: str
    status:
      description:
        - V(online); V(outdated), online with an old agent; V(lost), known but not heard; V(never_registered); or V(stopped) if the instance does not run.
      type: str
    causes:
      description: Why, the likeliest first. Empty for a node that is well.
      type: list
      elements: dict
      contains:
        cause:
          description:
            - A code. V(instance_stopped), V(instance_starting), V(status_check_failed), V(metadata_disabled), V(no_role), V(default_role_unused),
              V(role_missing), V(role_without_permission), V(agent_back_off), V(no_route), V(agent_not_running), V(agent_stopped), V(machine_away),
              V(clock_wrong), V(hop_limit), V(registered_as_hybrid), V(registered_again), V(several_agents), V(agent_outdated).
          type: str
        likelihood:
          description: V(certain), V(likely) or V(possible).
          type: str
        sentence:
          description: The cause in words.
          type: str
        remedy:
          description: What to do.
          type: str
    account_id:
      description: The account.
      type: str
    account_name:
      description: Your word for the account.
      type: str
    region:
      description: The region.
      type: str
    resource_type:
      description: V(ec2) or V(hybrid). Also returned are C(state), C(platform), C(computer_name), C(private_ip_address), C(agent_version),
        C(ping_status) and C(last_ping), as M(fleet.ssm.managed_node_info) has them.
      type: str
counts:
  description: How many nodes there are of each status.
  returned: always
  type: dict
  sample: {online: 950, outdated: 20, lost: 3, never_registered: 27, stopped: 0}
causes:
  description: Of how many nodes each cause is the first one.
  returned: always
  type: dict
  sample: {no_role: 20, no_route: 7}
unchecked:
  description: What could not be looked at, with the missing action. Causes that would show there are not told.
  returned: always
  type: list
  elements: str
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
"""

import time
from collections import Counter
from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.collect import Collected, collect
from ansible_collections.fleet.ssm.plugins.module_utils.filters import Selection, parse_filters, with_ids
from ansible_collections.fleet.ssm.plugins.module_utils.health.diagnosis import Status, diagnose, status_of
from ansible_collections.fleet.ssm.plugins.module_utils.health.evidence import NOTHING, Evidence
from ansible_collections.fleet.ssm.plugins.module_utils.health.gather import DETAILS, Gathered, gather
from ansible_collections.fleet.ssm.plugins.module_utils.health.observe import observe
from ansible_collections.fleet.ssm.plugins.module_utils.looks import look_until
from ansible_collections.fleet.ssm.plugins.module_utils.nodes import Node
from ansible_collections.fleet.ssm.plugins.module_utils.organization_listing import find_accounts
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, make_pool, read_accounts

_STATES = ["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]
_TOLD = (
    "instance_id", "resource_type", "account_id", "account_name", "region", "state", "platform", "computer_name", "private_ip_address", "agent_version",
    "ping_status", "last_ping",
)  # fmt: skip


def select(params: dict[str, Any]) -> Selection:
    """Which nodes are asked for. :raises OptionError: if the filters have another shape."""
    return Selection(
        include=with_ids(parse_filters(params["filters"], "filters"), params["instance_ids"]),
        exclude=parse_filters(params["exclude_filters"], "exclude_filters"),
        states=() if params["instance_ids"] else tuple(params["states"]),
        hybrid=params["hybrid"],
        unmanaged=True,
    )


def describe(node: Node, evidence: Evidence, now: float, minimum_version: str | None) -> dict[str, Any]:
    """A node of the report."""
    causes = [cause.describe() for cause in diagnose(node, evidence, now=now, minimum_version=minimum_version)]
    return {**{name: node[name] for name in _TOLD}, "name": node["tags"].get("Name"), "status": str(status_of(node, minimum_version)), "causes": causes}


def late(found: Collected) -> list[str] | None:
    """Ids of the nodes that should be online and are not; None if there is none."""
    return [node["instance_id"] for _account, node in found.nodes if status_of(node) in (Status.LOST, Status.NEVER_REGISTERED)] or None


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "instance_ids": {"type": "list", "elements": "str", "default": []},
            "filters": {"type": "dict", "default": {}},
            "exclude_filters": {"type": "list", "elements": "dict", "default": []},
            "states": {"type": "list", "elements": "str", "choices": _STATES, "default": _STATES[:4]},
            "hybrid": {"type": "bool", "default": True},
            "minimum_agent_version": {"type": "str"},
            "problems_only": {"type": "bool", "default": False},
            "evidence": {"type": "bool", "default": True},
            "console": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 0},
            "observe": {"type": "int", "default": 0},
            "earlier": {"type": "list", "elements": "dict", "default": []},
            "strict": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        accounts, selection = read_accounts(params), select(params)
        pool = make_pool(params, "node_health", details=DETAILS)
    except OptionError as error:
        module.fail_json(msg=str(error))

    workers = max(1, params["max_workers"])
    listed = find_accounts(accounts, pool, workers)

    def look() -> Collected:
        found = collect(listed.accounts, selection, pool, max_workers=workers)
        found.errors[:0] = listed.errors
        problems = told(found.errors)
        if problems and (params["strict"] or not found.regions):
            module.fail_json(msg="\n".join(problems), errors=problems)
        return found

    found = look_until(look, late, selection, seconds=params["wait_timeout"], max_workers=workers)
    problems = told(found.errors)
    machines, not_observed = observe(found.places, params["observe"], params["earlier"], workers)
    gathered = gather(found, max_workers=workers, machines=machines, console=params["console"]) if params["evidence"] else Gathered()
    unchecked = told([*gathered.errors, *not_observed])

    now = time.time()
    nodes = [
        describe(node, gathered.evidence.get(node["instance_id"], NOTHING), now, params["minimum_agent_version"])
        for answered in found.places
        for node in answered.nodes
    ]
    for problem in problems:
        module.warn(f"{problem} Nodes from there are missing.")
    for problem in unchecked:
        module.warn(problem)
    statuses = Counter(node["status"] for node in nodes)
    module.exit_json(
        changed=False,
        nodes=[node for node in nodes if node["causes"] or not params["problems_only"]],
        counts={str(status): statuses[str(status)] for status in Status},
        causes=dict(Counter(node["causes"][0]["cause"] for node in nodes if node["causes"]).most_common()),
        unchecked=unchecked,
        errors=problems,
    )


if __name__ == "__main__":
    main()
