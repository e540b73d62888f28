#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: account_resources
short_description: Buckets, queues, roles and other parts of a fleet's setup, in every account and region
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Makes, changes and removes the resources of AWS of which the roles of this collection consist, such as P(fleet.ssm.output_store#role).
  - Other than with a task for each of them, check mode is right on the first run, when nothing is there yet, and all accounts and regions are
    done side by side.
  - Looks at everything before it changes anything, so that an account that refuses stops the task before.
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
    description:
      - Whether the resources should be there.
      - With V(absent) they are removed in reverse order. A bucket that has objects stays, with a warning, unless its property C(purge) is true.
    type: str
    choices: [present, absent]
    default: present
  strict:
    description:
      - Whether an account or region that refuses stops the task before anything is changed.
      - If not, its account is left out, with a warning and an entry of RV(errors), and the others are done. If all refuse, the task fails always.
    type: bool
    default: true
  resources:
    description:
      - The resources, in the order in which they are made. Those of IAM come before those of any region.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: What it is. Those of IAM are made once for each account; if one of them is refused, nothing else is done in its account.
        type: str
        choices: [activation, bucket, bucket_notifications, event_bus, event_rule, function, instance_profile, key, queue, role, service_setting]
        required: true
      name:
        description: Its name; that of the bucket for V(bucket_notifications), the id for V(service_setting).
        type: str
        required: true
      properties:
        description:
          - What it is like. C(<account>), C(<region>), C(<partition>) and C(<domain>) in text are those of the place.
          - B(activation) has C(role), C(parameter) (an SSM parameter that gets id and code, encrypted, as JSON), and if need be C(registrations), C(days),
            C(renew_hours), C(node_name), C(tags) and C(key) (of KMS, for the parameter). It is known by a tag. One that is used up, expired, near its end or
            other than described is replaced, since its code is told once and nothing about it can be changed.
          - B(bucket) has C(ownership), C(policy), C(expire) (days by prefix), and if need be C(key) (of KMS, an ARN or alias) and C(purge).
          - B(bucket_notifications) has C(function) and C(suffixes).
          - B(event_bus) has C(policy).
          - B(event_rule) has C(pattern), C(target), and if need be C(bus) and C(role).
          - B(function) has C(code) (a folder on the controller), C(role), C(handler), C(runtime), C(timeout), C(memory), C(environment),
            C(callers) and C(failures).
          - B(instance_profile) has C(role), and if need be C(path) and C(tags). One that has another role already is refused. With V(absent) one that
            instances have stays, unless they are among C(leaving), a list of ids.
          - B(key) has C(policy); the name is that of its alias. It stays with V(absent), since what it has encrypted would be lost.
          - B(queue) has, if need be, C(retention), C(visibility) and C(policy).
          - B(role) has C(trust) and C(policies) (documents by name), and if need be C(managed_policies) (ARNs), C(boundary) (an ARN), C(path), C(tags),
            C(purge) and C(leaving), ids of instances and names of instance profiles. With this, one that others of them have, or machines that registered by
            an activation, stays with V(absent). Own policies whose names begin with C(fleet.ssm) are taken away when they are not described any more; other
            ones, and managed ones, only if C(purge) is true. Paths cannot be changed.
          - B(service_setting) has C(value), and if need be C(replace), without which a value that somebody else has given it stops the task.
          - All but B(bucket_notifications) have, if need be, C(tags). Tags that others have set stay.
        type: dict
        default: {}
notes:
  - Needs the actions by which each kind is looked at and made; its errors name the one that is missing. In accounts that have rules and roles alone
    these are C(iam:GetRole), C(iam:ListRolePolicies), C(iam:GetRolePolicy), C(iam:CreateRole), C(iam:PutRolePolicy), C(iam:UpdateAssumeRolePolicy),
    C(iam:ListAttachedRolePolicies), C(iam:DeleteRolePolicy), C(iam:DeleteRole), C(iam:PassRole), C(events:DescribeRule), C(events:ListTargetsByRule),
    C(events:PutRule), C(events:PutTargets), C(events:RemoveTargets) and C(events:DeleteRule).
seealso:
  - module: fleet.ssm.completions
  - module: fleet.ssm.instance_profile_association
"""

EXAMPLES = r"""
- name: Send the end of every command to a bus, from two accounts and two regions
  fleet.ssm.account_resources:
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetPlatform
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetPlatform
    resources:
      - kind: event_rule
        name: command-ended
        properties:
          pattern:
            source: [aws.ssm]
            detail-type: [EC2 Command Invocation Status-change Notification]
          target: arn:aws:events:eu-central-1:111111111111:event-bus/commands
          role: arn:<partition>:iam::<account>:role/PutEvents

- name: A role for nodes, and its instance profile
  fleet.ssm.account_resources:
    region: eu-central-1
    resources:
      - kind: role
        name: FleetNode
        properties:
          trust:
            Version: "2012-10-17"
            Statement: {Effect: Allow, Principal: {Service: ec2.amazonaws.com}, Action: sts:AssumeRole}
          managed_policies: ["arn:<partition>:iam::aws:policy/AmazonSSMManagedInstanceCore"]
          policies: {}
      - kind: instance_profile
        name: FleetNode
        properties:
          role: FleetNode
"""

RETURN = r"""
resources:
  description: Each resource in each place.
  returned: always, unless nothing was changed since something refused
  type: list
  elements: dict
  contains:
    kind:
      description: What it is.
      type: str
    name:
      description: Its name.
      type: str
    action:
      description:
        - What was done, or would be in check mode. V(keep) is what was to go and is in use, such as a bucket that has objects. What was refused after a part of
          it was done is V(create) or V(change).
      type: str
      sample: create
    account_id:
      description: The account.
      type: str
    account_name:
      description: Your word for the account.
      type: str
    region:
      description: The region.
      type: str
    arn:
      description: The ARN of a key; null of other resources, and of a key that is yet to be made.
      type: str
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError, told
from ansible_collections.fleet.ssm.plugins.module_utils.resources.engine import KINDS, Resource, bring_about, check, resources_of
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, open_places, side_by_side


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "strict": {"type": "bool", "default": True},
            "resources": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "kind": {"type": "str", "choices": sorted(KINDS), "required": True},
                    "name": {"type": "str", "required": True},
                    "properties": {"type": "dict", "default": {}},
                },
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    absent, strict, workers = params["state"] == "absent", params["strict"], params["max_workers"]
    try:
        if not absent:
            check(params["resources"])
        opened = open_places(params, "account_resources")
        if opened.errors and (strict or not opened.places):
            fail(module, opened.errors, "Nothing was changed.")
        by_place = resources_of(params["resources"], opened.places)
    except OptionError as error:
        module.fail_json(msg=str(error))
    except CollectError as error:
        fail(module, [error], "Nothing was changed.")

    looked = [resource for of_place in by_place for resource in of_place]
    refusals = [error for error in side_by_side(lambda each: attempt(each, absent), looked, workers) if error is not None]
    left_out = {error.account for error in refusals}
    by_place = [of_place for place, of_place in zip(opened.places, by_place, strict=True) if of_place and place.account not in left_out]
    errors = [*opened.errors, *refusals]
    if refusals and (strict or not by_place):
        fail(module, errors, "Nothing was changed.")

    failed: list[CollectError] = []
    if not module.check_mode:
        failed = [error for error in bring_about(by_place, absent=absent, max_workers=workers) if error is not None]
    found = [resource for of_place in by_place for resource in of_place]
    changes = [resource for resource in found if resource.action not in ("none", "keep")]
    resources = [{"kind": each.kind, "name": each.name, "action": each.action, "arn": each.handle.arn, **each.place.describe()} for each in found]
    result: dict[str, Any] = {"changed": bool(changes), "resources": resources}
    if module._diff:
        result["diff"] = [resource.difference() for resource in changes]
    for resource in found:
        if resource.action == "keep":
            module.warn(f"{resource.label} was left: {resource.reason}.")
    errors += failed
    if failed and (strict or len(failed) == len(by_place)):
        fail(module, errors, "What comes before it was done, and so were other accounts and regions.", **result)
    problems = told(errors)
    for problem in problems:
        module.warn(f"{problem} It was left out.")
    module.exit_json(errors=problems, **result)


def attempt(resource: Resource, absent: bool) -> CollectError | None:
    """The error of a look, if it fails."""
    try:
        resource.plan(absent=absent)
    except CollectError as error:
        return resource.named(error)
    return None


def fail(module: AnsibleAWSModule, errors: list[CollectError], rest: str, **result: Any) -> NoReturn:
    """Say each place's error once."""
    problems = told(errors)
    module.fail_json(msg="\n".join([*problems, rest]), errors=problems, **result)


if __name__ == "__main__":
    main()
