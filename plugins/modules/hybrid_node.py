#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hybrid_node
short_description: Nodes outside EC2, deregistered from AWS Systems Manager
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Deregisters hybrid nodes (C(mi-*)), in whichever of the accounts and regions they are. Their agents are refused from then on.
  - Registering takes the machine itself, and is what the role C(fleet.ssm.agent) does. EC2 instances need neither.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: That they should not be there.
    type: str
    choices: [absent]
    required: true
  instance_ids:
    description: The nodes. One that is in none of the accounts and regions counts as deregistered.
    type: list
    elements: str
    required: true
notes:
  - Needs C(ssm:DescribeInstanceInformation) and C(ssm:DeregisterManagedInstance).
seealso:
  - module: fleet.ssm.managed_node_info
"""

EXAMPLES = r"""
- name: Forget a machine that is gone
  fleet.ssm.hybrid_node:
    state: absent
    region: eu-central-1
    instance_ids: ["mi-0123456789abcdef0"]
"""

RETURN = r"""
nodes:
  description: The nodes that were deregistered, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    instance_id:
      description: The id.
      type: str
    name:
      description: The name that its activation gave it.
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
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.scope import Place, argument_spec, attempt_all, open_places

_PAGE = 50  #: the most that DescribeInstanceInformation gives, and takes as values of a filter


def registered(place: Place, ids: list[str]) -> dict[str, str]:
    """Names by id, of those that are registered in a place. :raises CollectError: as `Place.call`."""
    found: dict[str, str] = {}
    for begin in range(0, len(ids), _PAGE):
        wanted = [{"Key": "InstanceIds", "Values": ids[begin : begin + _PAGE]}]
        for entry in place.pages("DescribeInstanceInformation", "InstanceInformationList", Filters=wanted, MaxResults=_PAGE):
            found[entry["InstanceId"]] = entry.get("Name", "")
    return found


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "choices": ["absent"], "required": True},
            "instance_ids": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    ids = list(dict.fromkeys(params["instance_ids"]))
    others = [each for each in ids if not each.startswith("mi-")]
    if others:
        module.fail_json(msg=f"'instance_ids' takes nodes outside EC2 (mi-…), not {', '.join(others)}: an instance is not registered by hand.")
    try:
        opened = open_places(params, "hybrid_node")
    except OptionError as error:
        module.fail_json(msg=str(error))

    found, refused = attempt_all(lambda place: registered(place, ids), opened.places, params["max_workers"])
    if opened.errors or refused:
        module.fail_json(msg="\n".join([*told([*opened.errors, *refused]), "Nothing was changed."]))
    here = [(place, node_id, name) for place, nodes in zip(opened.places, found, strict=True) for node_id, name in sorted(nodes.items())]
    result: dict[str, Any] = {
        "changed": bool(here),
        "nodes": [{"instance_id": node_id, "name": name, **place.describe()} for place, node_id, name in here],
    }
    if module._diff:
        result["diff"] = [{"before": f"{node_id} in {place.region} of {place.account.label}\n", "after": ""} for place, node_id, _name in here]
    if not module.check_mode:
        refused = attempt_all(lambda node: node[0].call("DeregisterManagedInstance", InstanceId=node[1]), here, params["max_workers"])[1]
        if refused:
            module.fail_json(msg="\n".join([*told(refused), "The others were done."]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
