#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: instance_profile_association
short_description: Instance profiles of running and stopped instances, in every account and region
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Attaches an instance profile to instances that exist, replaces it or takes it away, for many instances at once. Nothing is created anew.
  - Looks at all instances before it changes any. What an instance that has another profile gets is your choice, and by default the task
    stops with a plan and has changed nothing, since roles may belong to other tools.
  - An account or region that refuses does not stop the others. The task fails at its end, and names the missing action.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.instances
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
      - V(present) attaches O(instance_profile). V(absent) detaches it, or whichever profile an instance has if O(instance_profile) is not set.
    type: str
    choices: [present, absent]
    default: present
  instance_profile:
    description: The name of the instance profile, the same in all accounts, without its path. Needed with O(state=present).
    type: str
  other_profile:
    description:
      - What to do with instances that have another profile, if O(state=present).
      - V(fail) changes no instance, if there is such a one, and returns the plan for all of them.
      - V(augment) leaves the profile, and adds O(policies) to its role.
      - V(replace) puts O(instance_profile) in its place. The instance loses what the other role allows. EC2 replaces profiles of running
        instances only, so for a stopped one the other profile is detached first.
      - V(skip) leaves them.
    type: str
    choices: [fail, augment, replace, skip]
    default: fail
  policies:
    description:
      - What O(other_profile=augment) adds to roles. The ARN of a managed policy, or the name of one of AWS's own.
    type: list
    elements: str
    default: [AmazonSSMManagedInstanceCore]
  widen_shared_roles:
    description:
      - Whether O(other_profile=augment) may add policies to a role that instances use which the task is not about.
      - If not, the task changes nothing, and RV(roles) names these instances. It looks for them in every region of the account.
      - What else uses the role (a function, a person) is not looked for.
    type: bool
    default: false
  wait:
    description:
      - Whether to wait until EC2 is done with each instance.
      - One to which EC2 attaches nothing right now, since it starts, stops or is losing another profile, is waited for in any case.
    type: bool
    default: true
  wait_timeout:
    description: Seconds in which EC2 must be done with an instance.
    type: int
    default: 300
  consistency_timeout:
    description: Seconds to wait for a profile that IAM or EC2 does not know. One that was just made takes some seconds, seldom minutes.
    type: int
    default: 120
notes:
  - Needs C(ec2:DescribeInstances), C(ec2:DescribeIamInstanceProfileAssociations) and C(iam:GetInstanceProfile) to look, and for changes
    C(ec2:AssociateIamInstanceProfile), C(ec2:ReplaceIamInstanceProfileAssociation), C(ec2:DisassociateIamInstanceProfile) and, for the role of
    O(instance_profile), C(iam:PassRole). O(other_profile=augment) needs C(iam:ListAttachedRolePolicies), C(iam:AttachRolePolicy), and unless
    O(widen_shared_roles=true) C(iam:ListInstanceProfilesForRole) and C(ec2:DescribeRegions).
  - An agent that started without a role looks for one again only after some time, up to an hour. Restart it to shorten that.
seealso:
  - module: fleet.ssm.managed_node_info
"""

EXAMPLES = r"""
- name: What would happen to all instances of an environment?
  fleet.ssm.instance_profile_association:
    instance_profile: FleetNode
    filters:
      tag:Env: prod
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetPlatform
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetPlatform
  check_mode: true
  diff: true

- name: Give a profile to those that have none, and the policy to the roles of the others
  fleet.ssm.instance_profile_association:
    instance_profile: FleetNode
    region: eu-central-1
    filters:
      tag:Env: prod
    other_profile: augment

- name: Put it in the place of whichever profile one instance has
  fleet.ssm.instance_profile_association:
    instance_profile: FleetNode
    region: eu-central-1
    instance_ids: ["i-0123456789abcdef0"]
    other_profile: replace

- name: Take it away
  fleet.ssm.instance_profile_association:
    instance_profile: FleetNode
    region: eu-central-1
    filters:
      tag:Env: retired
    state: absent
"""

RETURN = r"""
instances:
  description: Each instance, ordered by account, region and id.
  returned: always, unless the options are wrong
  type: list
  elements: dict
  contains:
    instance_id:
      description: Its id.
      type: str
    name:
      description: Its tag C(Name).
      type: str
    state:
      description: Its state when the task began.
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
    action:
      description:
        - What was done, would be in check mode, or would have been if the task had not stopped. V(attach), V(replace), V(detach), V(augment), V(none),
          V(skip), V(refuse) for an instance that is in the way, or V(gone) for one that was terminated meanwhile. V(detach) with O(other_profile=replace)
          is a stopped one that lost its profile and got no other, as C(error) says.
      type: str
    changed:
      description: Whether it was changed, or would be in check mode.
      type: bool
    reason:
      description: Why nothing is done, or why it cannot be done.
      type: str
    before:
      description: Its C(instance_profile), as a name or null; with V(augment) also C(role) and the C(policies) that it lacked.
      type: dict
    after:
      description: The same as it is now, or would be in check mode.
      type: dict
    error:
      description: What went wrong with this instance.
      type: str
      returned: if something did
counts:
  description: How many instances there are of each action, and how many C(failed).
  returned: always, unless the options are wrong
  type: dict
  sample: {attach: 12, none: 3, failed: 0}
roles:
  description: Roles that get policies.
  returned: always, unless the options are wrong
  type: list
  elements: dict
  contains:
    account_id:
      description: The account.
      type: str
    role:
      description: Its name.
      type: str
    policies:
      description: ARNs of the policies that are added.
      type: list
      elements: str
    outsiders:
      description: Ids of instances that use it and are not among those of the task. Empty with O(widen_shared_roles=true), where nobody looks.
      type: list
      elements: str
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always, unless the options are wrong
  type: list
  elements: str
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils import instances
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.profile_plan import OTHER_PROFILE, Wanted
from ansible_collections.fleet.ssm.plugins.module_utils.profile_run import ProfileRun, Settings
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, open_places


def read_wanted(params: dict[str, Any]) -> Wanted:
    """What the options ask for. :raises OptionError: if they cannot be meant so."""
    profile = params["instance_profile"]
    if profile is not None and (not profile or ":" in profile or "/" in profile):
        raise OptionError(f"'instance_profile' must be the name of a profile, without its path and not as an ARN, not {profile!r}.")
    return Wanted(params["state"] == "present", profile, params["other_profile"], tuple(dict.fromkeys(params["policies"])))


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            **instances.argument_spec(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "instance_profile": {"type": "str"},
            "other_profile": {"type": "str", "choices": list(OTHER_PROFILE), "default": "fail"},
            "policies": {"type": "list", "elements": "str", "default": ["AmazonSSMManagedInstanceCore"]},
            "widen_shared_roles": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 300},
            "consistency_timeout": {"type": "int", "default": 120},
        },
        required_if=[("state", "present", ["instance_profile"])],
        supports_check_mode=True,
    )
    params = module.params
    try:
        wanted, selection = read_wanted(params), instances.read_selection(params)
        opened = open_places(params, "instance_profile_association", retries=False)
    except OptionError as error:
        module.fail_json(msg=str(error))

    settings = Settings(
        ids=tuple(dict.fromkeys(params["instance_ids"])),
        widen_shared_roles=params["widen_shared_roles"],
        check_mode=module.check_mode,
        wait=params["wait"],
        wait_timeout=params["wait_timeout"],
        consistency_timeout=params["consistency_timeout"],
        max_workers=max(1, params["max_workers"]),
    )
    run = ProfileRun(opened.places, wanted, selection, settings)
    run.errors += opened.errors
    run.look()
    stopped = run.obstacles()
    if not stopped:
        run.apply()

    result: dict[str, Any] = {**run.result(), "errors": told(run.errors)}
    if module._diff and not stopped:
        result["diff"] = run.diff()
    for warning in run.warnings:
        module.warn(warning)
    if stopped:
        module.fail_json(msg="\n".join([*result["errors"], *stopped, "Nothing was changed."]), **{**result, "changed": False})
    failures = [*result["errors"], *run.failures()]
    if failures:
        module.fail_json(msg="\n".join([*failures, "The others were done."]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
