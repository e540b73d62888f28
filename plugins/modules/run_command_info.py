#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_command_info
short_description: Commands of AWS Systems Manager and their results
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Returns commands by id, by run, by time, document, status or node, from whoever sent them, and the results of their nodes.
  - Outputs come in full if asked for, from S3 or from the API.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.attributes
  - fleet.ssm.attributes.info
options:
  command_ids:
    description: Only these commands.
    type: list
    elements: str
    default: []
  run_id:
    description: Only commands that M(fleet.ssm.run_command) has sent under this name.
    type: str
  since:
    description:
      - Only commands that were sent at this time or later, ISO 8601, such as V(2026-11-24T00:00:00Z).
      - The default is a day ago, unless O(command_ids) is set.
    type: str
  before:
    description: Only commands that were sent before this time.
    type: str
  document:
    description: Only commands of this document.
    type: str
  status:
    description: Only commands of this status.
    type: str
    choices: [pending, in_progress, success, cancelled, failed, timed_out, cancelling]
  instance_id:
    description: Only commands for this node, and only its results.
    type: str
  results:
    description:
      - Whether RV(nodes) is returned, which costs a call for each 50 nodes of a command.
      - The default is V(true) with O(command_ids), O(run_id) or O(instance_id).
    type: bool
  output:
    description: How much of outputs to return, as in M(fleet.ssm.run_command).
    type: str
    choices: [none, brief, full]
    default: brief
  max_commands:
    description: The most commands to return of each account and region, the newest first.
    type: int
    default: 1000
notes:
  - Needs C(ssm:ListCommands), C(ssm:ListCommandInvocations) for O(results), C(ssm:GetCommandInvocation) for O(output=full), C(s3:GetObject) and
    C(s3:ListBucket) if the outputs are in a bucket, and C(sts:AssumeRole) for roles.
  - The service forgets commands after 30 days.
seealso:
  - module: fleet.ssm.run_command
"""

EXAMPLES = r"""
- name: What came of a run
  fleet.ssm.run_command_info:
    run_id: "{{ backup.run_id }}"
    region: eu-central-1
    output: full
  register: found

- name: Commands that failed since midnight, in all regions
  fleet.ssm.run_command_info:
    since: "{{ now(utc=true).strftime('%Y-%m-%dT00:00:00Z') }}"
    status: failed
    regions: all

- name: What was run on a node
  fleet.ssm.run_command_info:
    instance_id: i-0123456789abcdef0
    region: eu-central-1
    output: none
"""

RETURN = r"""
commands:
  description: The commands, of each account and region the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    command_id:
      description: The id.
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
    run_id:
      description: The name of the run; null if M(fleet.ssm.run_command) has not sent it.
      type: str
    attempt:
      description: 0, or the number of the retry.
      type: int
    comment:
      description: The comment, without the mark of a run.
      type: str
    document:
      description: The document. Also returned are C(document_version), C(parameters), C(instance_ids), C(targets), C(max_concurrency), C(max_errors),
        C(s3_bucket), C(s3_prefix) and C(expires_at).
      type: str
    status:
      description: The status, such as V(success), V(in_progress), V(failed), V(incomplete), V(cancelled).
      type: str
    requested_at:
      description: When it was sent, ISO 8601 in UTC.
      type: str
    total:
      description: Nodes.
      type: int
    done:
      description: Nodes that have ended.
      type: int
    failed:
      description: Nodes on which it failed, or to which it was not delivered in time.
      type: int
nodes:
  description: Results, as RV(fleet.ssm.run_command#module:nodes).
  returned: with O(results)
  type: list
  elements: dict
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
"""

import datetime
import threading
from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import told
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.caller import Caller
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.history import Question, commands, results, view
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, attempt_all, open_places

_STATUS = {
    "pending": "Pending", "in_progress": "InProgress", "success": "Success", "cancelled": "Cancelled", "failed": "Failed", "timed_out": "TimedOut",
    "cancelling": "Cancelling",
}  # fmt: skip


def moment(params: dict[str, Any], name: str) -> str | None:
    """A time as the service takes it. :raises OptionError: if it is none."""
    text = params[name]
    if not text:
        return None
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionError(f"'{name}' must be a time in ISO 8601, such as 2026-11-24T00:00:00Z, not {text!r}.") from error
    return found.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "command_ids": {"type": "list", "elements": "str", "default": []},
            "run_id": {"type": "str"},
            "since": {"type": "str"},
            "before": {"type": "str"},
            "document": {"type": "str"},
            "status": {"type": "str", "choices": list(_STATUS)},
            "instance_id": {"type": "str"},
            "results": {"type": "bool"},
            "output": {"type": "str", "choices": ["none", "brief", "full"], "default": "brief"},
            "max_commands": {"type": "int", "default": 1000},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        since = moment(params, "since")
        if since is None and not params["command_ids"]:
            since = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        question = Question(
            command_ids=tuple(dict.fromkeys(params["command_ids"])),
            run_id=params["run_id"],
            since=since,
            before=moment(params, "before"),
            document=params["document"],
            status=_STATUS.get(params["status"]),
            instance_id=params["instance_id"],
            limit=params["max_commands"],
        )
        opened = open_places(params, "run_command_info", retries=False)
    except OptionError as error:
        module.fail_json(msg=str(error))
    with_results = params["results"]
    if with_results is None:
        with_results = bool(params["command_ids"] or params["run_id"] or params["instance_id"])
    turn = threading.Semaphore(max(1, params["max_workers"]))

    def look(caller: Caller) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        place = caller.place.describe()
        found = list(commands(caller, question))
        nodes = [record for entry in found for record in results(caller, entry, question, place, params["output"])] if with_results else []
        return [view(entry, place) for entry in found], nodes

    looked, refused = attempt_all(look, [Caller(place, turn, threading.Event()) for place in opened.places], params["max_workers"])
    shown, nodes = [each for found, _nodes in looked for each in found], [each for _found, nodes in looked for each in nodes]
    problems = told([*opened.errors, *refused])
    result: dict[str, Any] = {"commands": shown, "errors": problems}
    if with_results:
        result["nodes"] = nodes
    if problems and not shown:
        module.fail_json(msg="\n".join(problems), **result)
    for problem in problems:
        module.warn(f"{problem} Commands from there are missing.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
