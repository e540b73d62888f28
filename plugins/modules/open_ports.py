#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: open_ports
short_description: Instances that let everyone in by SSH or RDP, in every account and region
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Finds rules of security groups that open ports to all addresses (C(0.0.0.0/0), C(::/0)), and the instances that are behind them. Ranges of ports
    and rules for all protocols count.
  - Closes them, if O(close=true), once every instance behind a rule answers over Systems Manager, and never before. Whoever would be locked out is named.
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
  ports:
    description: The ports. The defaults are those of SSH and RDP; for the latter UDP counts too.
    type: list
    elements: int
    default: [22, 3389]
  close:
    description:
      - Whether to take away the rules that may go. If not, the task only tells.
      - A rule stays, with its reason, as long as its security group is used by an instance that is not online right then or takes no sessions, whether the
        task is about it or not, or by something that is no instance, such as a load balancer.
    type: bool
    default: false
  wide_rules:
    description:
      - What to do with a rule that opens other ports as well, such as all of them. It can only be taken away as a whole.
      - V(keep) leaves it, and RV(rules[].reason) says so. V(close) takes it away with all that it opens.
    type: str
    choices: [keep, close]
    default: keep
notes:
  - Needs C(ec2:DescribeInstances), C(ec2:DescribeNetworkInterfaces), C(ec2:DescribeSecurityGroupRules), C(ssm:DescribeInstanceInformation), and to close
    C(ssm:GetConnectionStatus), once for each instance behind a rule that may go, and C(ec2:RevokeSecurityGroupIngress).
  - Only rules for all addresses are looked at. Launch templates and groups for scaling that use a security group are not known here.
  - Systems Manager calls an agent online that it has heard of within the last minutes by its endpoint C(ssm). Sessions come by C(ssmmessages), so an agent
    that does not reach that is online and lets nobody in. With O(close=true) each instance is asked about that too.
seealso:
  - module: fleet.ssm.reachability_info
  - module: fleet.ssm.managed_node_info
"""

EXAMPLES = r"""
- name: Who is still open to everyone?
  fleet.ssm.open_ports:
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetPlatform
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetPlatform
    filters:
      tag:Env: prod
  register: open

- name: Close SSH where every node answers without it
  fleet.ssm.open_ports:
    region: eu-central-1
    filters:
      tag:Env: prod
    ports: [22]
    close: true
"""

RETURN = r"""
instances:
  description: The instances that have open ports, ordered by account, region and id.
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
      description: Its state.
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
    public_ip_address:
      description: Its public address, or null.
      type: str
    answers:
      description: Whether its agent is online; with O(close=true), where a rule could go, whether it is connected to take sessions too.
      type: bool
    ports:
      description: The ports that were open when the task began.
      type: list
      elements: int
    security_group_ids:
      description: The security groups that open them.
      type: list
      elements: str
rules:
  description: The rules that let everyone in.
  returned: always, unless the options are wrong
  type: list
  elements: dict
  contains:
    group_id:
      description: The security group.
      type: str
    rule_id:
      description: The id of the rule.
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
    protocol:
      description: Its protocol; V(-1) is all.
      type: str
    from_port:
      description: The first port.
      type: int
    to_port:
      description: The last port.
      type: int
    source:
      description: V(0.0.0.0/0) or V(::/0).
      type: str
    ports:
      description: Those of O(ports) that it opens.
      type: list
      elements: int
    instance_ids:
      description: All instances that use the security group, those that the task is not about too.
      type: list
      elements: str
    closable:
      description: Whether it may be closed.
      type: bool
    reason:
      description: Why not.
      type: str
    changed:
      description: Whether it was closed, or would be in check mode.
      type: bool
still_open:
  description: Each of RV(rules) that stays, in words.
  returned: always, unless the options are wrong
  type: list
  elements: str
  sample:
    - "sg-0a1b2c3d (production, eu-central-1) lets 0.0.0.0/0 in by 22 to i-0123456789abcdef0: used by instances that do not answer over Systems Manager:
      i-0123456789abcdef0"
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
from ansible_collections.fleet.ssm.plugins.module_utils.port_plan import RDP, SSH
from ansible_collections.fleet.ssm.plugins.module_utils.port_state import PortPlace
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError, told
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, open_places, side_by_side


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            **instances.argument_spec(),
            "ports": {"type": "list", "elements": "int", "default": [SSH, RDP]},
            "close": {"type": "bool", "default": False},
            "wide_rules": {"type": "str", "choices": ["keep", "close"], "default": "keep"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        selection = instances.read_selection(params)
        opened = open_places(params, "open_ports")
    except OptionError as error:
        module.fail_json(msg=str(error))

    def look(place: PortPlace) -> None:
        try:
            place.look(selection)
        except CollectError as error:
            place.errors.append(error)

    places = [PortPlace(place, params["ports"], params["wide_rules"] == "close") for place in opened.places]
    side_by_side(look, places, params["max_workers"])
    if params["close"]:
        side_by_side(PortPlace.confirm if module.check_mode else PortPlace.close, places, params["max_workers"])

    rules: list[dict[str, Any]] = []
    for place in places:
        would = {verdict.rule.rule_id for verdict in place.verdicts if verdict.close and params["close"]}
        rules += place.rules(would if module.check_mode else place.closed)
    problems = told([*opened.errors, *(error for place in places for error in place.errors)])
    result: dict[str, Any] = {
        "changed": any(rule["changed"] for rule in rules),
        "instances": [instance for place in places for instance in place.instances()],
        "rules": rules,
        "still_open": [in_words(rule) for rule in rules if not rule["changed"]],
        "errors": problems,
    }
    if module._diff:
        result["diff"] = [difference(rule) for rule in rules if rule["changed"]]
    if problems:
        module.fail_json(msg="\n".join([*problems, "The others were done."]), **result)
    module.exit_json(**result)


def in_words(rule: dict[str, Any]) -> str:
    """One of the rules for a person."""
    where = f"{rule['account_name'] or rule['account_id']}, {rule['region']}"
    text = f"{rule['group_id']} ({where}) lets {rule['source']} in by {', '.join(map(str, rule['ports']))} to {', '.join(rule['instance_ids'])}"
    return f"{text}: {rule['reason']}" if rule["reason"] else text


def difference(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule that goes, as Ansible shows it."""
    header = f"{rule['group_id']} {rule['rule_id']} ({rule['account_name'] or rule['account_id']}, {rule['region']})"
    before = {key: rule[key] for key in ("protocol", "from_port", "to_port", "source")}
    return {"before_header": header, "after_header": header, "before": before, "after": {}}


if __name__ == "__main__":
    main()
