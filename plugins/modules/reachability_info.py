#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: reachability_info
short_description: Whether instances reach Systems Manager from their subnets, in every account and region
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Reads subnets, route tables, VPC endpoints and security groups of instances, and says of each of the services that an agent needs how it is reached, or
    what is missing.
  - Finds a subnet without a default route, or with one that leads nowhere; instances without a public address behind an internet gateway; endpoints that
    are missing, whose private DNS is off, whose security groups let no HTTPS in, or that are not in the route table (S3); security groups of instances
    that let no HTTPS out. An interface endpoint that lets nobody in is told even where there is a NAT gateway, since its name leads to it.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.instances
  - fleet.ssm.attributes
  - fleet.ssm.attributes.info
options:
  services:
    description:
      - The services, as the last part of an endpoint's name.
      - Agents since version 3.3.40 do without C(ec2messages) in regions that began in 2024 or later. S3 has updates of the agent, and outputs.
    type: list
    elements: str
    default: [ssm, ssmmessages, ec2messages, s3]
  strict:
    description:
      - Whether an account or region that refuses fails the task. If not, it is a warning and in RV(errors), and its subnets are missing.
      - If none answers, the task fails always.
    type: bool
    default: false
notes:
  - Needs C(ec2:DescribeInstances), C(ec2:DescribeSubnets), C(ec2:DescribeRouteTables), C(ec2:DescribeVpcEndpoints), C(ec2:DescribeSecurityGroupRules), and
    C(ec2:DescribeVpcAttribute) where there are interface endpoints.
  - Network ACLs, policies of endpoints, and what is behind a transit gateway, a firewall or a NAT instance are not looked at; a default route to one of
    these counts as a way. A subnet that another account shares counts as one too, since its routes cannot be seen.
seealso:
  - module: fleet.ssm.managed_node_info
"""

EXAMPLES = r"""
- name: Which subnets cannot reach Systems Manager?
  fleet.ssm.reachability_info:
    regions: [eu-central-1, us-east-1]
    filters:
      tag:Env: prod
  register: found

- name: Name the endpoints that they lack
  ansible.builtin.debug:
    msg: "{{ found.problems }}"
"""

RETURN = r"""
subnets:
  description:
    - Instances that stand alike (in the same subnet, with or without public addresses, in the same security groups), ordered by account, region and subnet.
  returned: always
  type: list
  elements: dict
  contains:
    account_id:
      description: The account.
      type: str
    account_name:
      description: Your word for the account.
      type: str
    region:
      description: The region.
      type: str
    vpc_id:
      description: The VPC.
      type: str
    subnet_id:
      description: The subnet.
      type: str
    public:
      description: Whether the instances have public addresses.
      type: bool
    security_group_ids:
      description: Their security groups.
      type: list
      elements: str
    instance_ids:
      description: The instances.
      type: list
      elements: str
    reaches:
      description: Whether all services are reached.
      type: bool
    unreached:
      description: Those that are not.
      type: list
      elements: str
      sample: [ssmmessages]
    missing_endpoints:
      description: Names of endpoints that would help.
      type: list
      elements: str
      sample: [com.amazonaws.eu-central-1.ssmmessages]
    problem:
      description: What is wrong, and what to do; empty if nothing is.
      type: str
    services:
      description: Of each service its C(name), what it is reached C(through) (the id of an endpoint or gateway, or null), and the C(problem).
      type: list
      elements: dict
problems:
  description: Each of RV(subnets) whose instances do not reach all services, in words that name what is missing.
  returned: always
  type: list
  elements: str
  sample:
    - "subnet-0a1b2c3d of vpc-4e5f6a7b (production, eu-central-1), 3 instances do not reach ssm: rtb-8c9d0e1f has no default route, and there is no
      endpoint for com.amazonaws.eu-central-1.ssm: make it, or a NAT gateway"
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils import instances
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.network_state import Judged, judged
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.reachability import SERVICES
from ansible_collections.fleet.ssm.plugins.module_utils.scope import Place, argument_spec, attempt_all, open_places


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            **instances.argument_spec(),
            "services": {"type": "list", "elements": "str", "default": list(SERVICES)},
            "strict": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        selection = instances.read_selection(params)
        opened = open_places(params, "reachability_info")
    except OptionError as error:
        module.fail_json(msg=str(error))

    def look(place: Place) -> list[dict[str, Any]]:
        return [described(place, each) for each in judged(place, instances.selected(place, selection), params["services"])]

    looked, refused = attempt_all(look, opened.places, params["max_workers"])
    subnets = [entry for each in looked for entry in each]
    problems = [in_words(entry) for entry in subnets if not entry["reaches"]]
    refusals = told([*opened.errors, *refused])
    if refusals and (params["strict"] or not looked):
        module.fail_json(msg="\n".join(refusals), subnets=subnets, problems=problems, errors=refusals)
    for refusal in refusals:
        module.warn(f"{refusal} Subnets from there are missing.")
    module.exit_json(changed=False, subnets=subnets, problems=problems, errors=refusals)


def described(place: Place, found: Judged) -> dict[str, Any]:
    """Instances that stand alike, as the module returns them."""
    judgement = found.judgement
    return {
        **place.describe(),
        "vpc_id": found.vpc_id,
        "subnet_id": found.stand.subnet_id,
        "public": found.stand.public,
        "security_group_ids": sorted(found.stand.groups),
        "instance_ids": list(found.instance_ids),
        "reaches": not judgement.unreached,
        "unreached": judgement.unreached,
        "missing_endpoints": judgement.missing,
        "problem": "; ".join(str(fault) for fault in judgement.faults),
        "services": [{"name": way.name, "through": way.through or None, "problem": str(judgement.fault or way.fault or "")} for way in judgement.ways],
    }


def in_words(entry: dict[str, Any]) -> str:
    """One of the subnets for a person."""
    where = f"{entry['account_name'] or entry['account_id']}, {entry['region']}"
    count = len(entry["instance_ids"])
    who = "1 instance does" if count == 1 else f"{count} instances do"
    return f"{entry['subnet_id']} of {entry['vpc_id']} ({where}), {who} not reach {', '.join(entry['unreached'])}: {entry['problem']}"


if __name__ == "__main__":
    main()
