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
  resources:
    description: The resources, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: What it is. Those of IAM are made once for each account.
        type: str
        choices: [bucket, bucket_notifications, event_bus, event_rule, function, key, queue, role]
        required: true
      name:
        description: Its name; that of the bucket for V(bucket_notifications).
        type: str
        required: true
      properties:
        description:
          - What it is like. C(<account>), C(<region>), C(<partition>) and C(<domain>) in text are those of the place.
          - B(bucket) has C(ownership), C(policy), C(expire) (days by prefix), and if need be C(key) (of KMS, an ARN or alias) and C(purge).
          - B(bucket_notifications) has C(function) and C(suffixes).
          - B(event_bus) has C(policy).
          - B(event_rule) has C(pattern), C(target), and if need be C(bus) and C(role).
          - B(function) has C(code) (a folder on the controller), C(role), C(handler), C(runtime), C(timeout), C(memory), C(environment),
            C(callers) and C(failures).
          - B(key) has C(policy); the name is that of its alias. It stays with V(absent), since what it has encrypted would be lost.
          - B(queue) has, if need be, C(retention), C(visibility) and C(policy).
          - B(role) has C(trust) and C(policy).
        type: dict
        default: {}
notes:
  - Needs the actions by which each kind is looked at and made; its errors name the one that is missing. In accounts that have rules and roles alone
    these are C(iam:GetRole), C(iam:GetRolePolicy), C(iam:CreateRole), C(iam:PutRolePolicy), C(iam:UpdateAssumeRolePolicy), C(iam:DeleteRolePolicy),
    C(iam:DeleteRole), C(iam:PassRole), C(events:DescribeRule), C(events:ListTargetsByRule), C(events:PutRule), C(events:PutTargets),
    C(events:RemoveTargets) and C(events:DeleteRule).
seealso:
  - module: fleet.ssm.completions
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
"""

RETURN = r"""
resources:
  description: Each resource in each place.
  returned: always
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
      description: What was done, or would be in check mode. V(keep) is a bucket that was to go and has objects.
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
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError, merge
from ansible_collections.fleet.ssm.plugins.module_utils.resources.engine import KINDS, Resource, check, resources_of
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, make_pool, open_places, read_accounts, side_by_side


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
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
    absent = params["state"] == "absent"
    try:
        if not absent:
            check(params["resources"])
        opened = open_places(read_accounts(params), make_pool(params, "account_resources"), params["max_workers"])
        if opened.errors:
            fail(module, opened.errors, "Nothing was changed.")
        by_place = resources_of(params["resources"], opened.places)
    except OptionError as error:
        module.fail_json(msg=str(error))
    except CollectError as error:
        fail(module, [error], "Nothing was changed.")

    found = [resource for of_place in by_place for resource in of_place]
    if errors := [each for each in side_by_side(lambda each: attempt(each, absent), found, params["max_workers"]) if each is not None]:
        fail(module, errors, "Nothing was changed.")
    todo = [resource for resource in found if resource.action not in ("none", "keep")]
    result: dict[str, Any] = {"changed": bool(todo)}
    if module._diff:
        result["diff"] = [resource.difference() for resource in todo]
    for resource in found:
        if resource.action == "keep":
            module.warn(f"{resource.label} was left: {resource.reason}.")

    def bring_about(of_place: list[Resource]) -> CollectError | None:
        for resource in reversed(of_place) if absent else of_place:
            try:
                resource.apply()
            except CollectError as error:
                return named(resource, error)
        return None

    if not module.check_mode:
        errors = [each for each in side_by_side(bring_about, by_place, params["max_workers"]) if each is not None]
        if errors:
            fail(module, errors, "What comes before it was done, and so were other accounts and regions.", **result)
    resources = [{"kind": each.kind, "name": each.name, "action": each.action, **each.place.describe()} for each in found]
    module.exit_json(resources=resources, **result)


def attempt(resource: Resource, absent: bool) -> CollectError | None:
    """The error of a look, if it fails."""
    try:
        resource.plan(absent=absent)
    except CollectError as error:
        return named(resource, error)
    return None


def named(resource: Resource, error: CollectError) -> CollectError:
    """An error that says what it is about."""
    return CollectError(error.account, error.region, error.action, f"{resource.kind} {resource.name}: {error.text}", error.remedy, error.cause)


def fail(module: AnsibleAWSModule, errors: list[CollectError], rest: str, **result: Any) -> NoReturn:
    """Say each place's error once."""
    module.fail_json(msg="\n".join([*(str(problem) for problem in merge(errors)), rest]), **result)


if __name__ == "__main__":
    main()
