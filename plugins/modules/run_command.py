#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_command
short_description: Run a command on a fleet by Run Command of AWS Systems Manager
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Sends a document to nodes by id, tag or resource group, over a list of accounts and regions, waits for the results, and judges them.
  - Nothing is sent twice. Each command carries a mark in its comment; after an answer that was lost it is looked for by the mark, for half a
    minute. If it is not found, the task does not send it again, but says that it may run (status V(unknown)).
  - A task with the same O(run_id) takes over what an earlier one has sent.
  - While it runs on the controller itself, its progress is shown.
  - It needs no connection to the nodes. Run it once, on C(localhost).
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.attributes
attributes:
  check_mode:
    support: full
    details:
      - It finds out which nodes are meant, and returns what would be sent.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A command is run each time, unless O(run_id) is that of an earlier run.
options:
  state:
    description:
      - V(started) sends the commands, or takes over those of O(run_id).
      - V(cancelled) cancels the commands of O(run_id) or O(command_ids). What a node has finished stays so.
    type: str
    choices: [started, cancelled]
    default: started
  commands:
    description:
      - Lines of a script. Excludes a O(parameters) of the same name.
      - Anyone who may list commands can read them, so they must hold no secret.
    type: list
    elements: str
  document:
    description:
      - The name or ARN of a Command document.
      - The default is V(AWS-RunShellScript), or V(AWS-RunPowerShellScript) with O(platform=windows).
    type: str
  document_version:
    description: The version of the document, a number, V($DEFAULT) or V($LATEST).
    type: str
  parameters:
    description: Parameters of the document, each a string or a list of strings. They can be read like O(commands).
    type: dict
    default: {}
  platform:
    description: Which shell runs O(commands).
    type: str
    choices: [linux, windows]
    default: linux
  working_directory:
    description: The folder in which O(commands) run.
    type: str
  execution_timeout:
    description: Seconds that a command may run on a node, 5 to 172,800. The documents' own default is 3,600.
    type: int
  delivery_timeout:
    description: Seconds in which a command must come to a node, 30 to 2,592,000. The service's default is 3,600.
    type: int
  instance_ids:
    description:
      - Nodes by id. With several accounts or regions each node is looked for in all of them; O(nodes) saves that.
      - Exactly one of O(instance_ids), O(nodes), O(tags) and O(resource_group) is needed for O(state=started).
    type: list
    elements: str
  nodes:
    description:
      - Nodes with C(instance_id), and C(account_id) and C(region) where they are known; other keys are ignored.
      - It is what M(fleet.ssm.managed_node_info) returns.
    type: list
    elements: dict
  tags:
    description: Nodes that have all of these tags; a value or a list of values each. Up to five names.
    type: dict
  resource_group:
    description: Nodes that are in the resource group of this name.
    type: str
  resource_types:
    description: Types of resources to take from the group, such as V(AWS::EC2::Instance).
    type: list
    elements: str
  max_concurrency:
    description:
      - Nodes that run the command at once in each account and region, as a number or in percent.
      - Of more than 50 nodes by id a percentage is kept for each 50 of them, which a command takes at most. With a number, further commands
        are held back until others have ended.
    type: str
    default: "50"
  max_errors:
    description:
      - Nodes on which the command may fail in each account and region before it is sent to no further ones, as a number or in percent.
        Nodes to which it was not delivered do not count.
      - Of more than 50 nodes by id a percentage is kept for each 50 of them, too, which a command takes at most. With a number, one command follows the
        other, since each is told how many errors the earlier ones have left; so at most 50 nodes run at once.
    type: str
    default: 100%
  comment:
    description: Words for the history of commands. The mark of the run takes some of its 100 characters.
    type: str
    default: ""
  s3_bucket:
    description: The bucket to which nodes write their whole output.
    type: str
  s3_prefix:
    description:
      - The folder in it.
      - C(<account>) and C(<region>) in it are those where the command runs, so that one task serves a bucket with a folder for each account,
        as P(fleet.ssm.output_store#role) makes it.
    type: str
  s3_region:
    description: The region of the bucket, if it is another one.
    type: str
  cloudwatch_output:
    description: Whether output goes to CloudWatch Logs.
    type: bool
    default: false
  cloudwatch_log_group:
    description: The log group; the default is the service's, which has the document's name. Implies O(cloudwatch_output=true).
    type: str
  notification:
    description: Notifications by SNS. The topic must be in the region of the command.
    type: dict
    suboptions:
      topic_arn:
        description: The ARN of the topic.
        type: str
        required: true
      role_arn:
        description: The ARN of the service role that may publish to it.
        type: str
        required: true
      events:
        description: Of which events.
        type: list
        elements: str
        choices: [all, in_progress, success, timed_out, cancelled, failed]
        default: [all]
      type:
        description: Whether for the command or for each node.
        type: str
        choices: [command, invocation]
        default: command
  wait:
    description:
      - Whether to wait for the results. If not, RV(run_id) and RV(commands) are returned, by which M(fleet.ssm.run_command_info) or a task with
        the same O(run_id) finds the results later.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds to wait. After that the task fails and the commands go on; a task with the same O(run_id) takes them over.
      - By default it waits as long as the service gives the commands.
    type: int
  success:
    description:
      - V(all) fails the task if any node did not succeed. V(any) is content with one that did. V(ratio) allows O(max_error_ratio).
      - The default is V(ratio) if O(max_error_ratio) is set, else V(all).
    type: str
    choices: [all, any, ratio]
  max_error_ratio:
    description: The part of the nodes that may fail, 0 to 1.
    type: float
  retries:
    description:
      - How often to send again to nodes to which the command was surely not delivered. What may have started on a node is never sent again.
    type: int
    default: 0
  output:
    description:
      - V(brief) returns up to 2,500 characters of each node's output, which costs no further call. V(none) leaves output out.
      - V(full) gets outputs that are longer in full, up to three calls for each such node, from O(s3_bucket), or without one from the API, which gives
        24,000 characters of stdout and 8,000 of stderr.
    type: str
    choices: [none, brief, full]
    default: brief
  results_path:
    description:
      - A file on the machine that runs the module, to which each node's result is written as a line of JSON as soon as it is there; compressed if the
        name ends with V(.gz). A new one can be read by its owner alone, since it holds outputs. RV(nodes) then has failures only, with up to 2,500
        characters of each stream.
      - For large fleets, whose results would not fit into memory or a result of Ansible.
    type: path
  max_results:
    description: The most nodes that RV(nodes) returns. Failures come first.
    type: int
    default: 1000
  run_id:
    description:
      - A name for the run, of up to 32 letters, digits, C(_) and C(-). If commands were sent under this name before, they are taken over, and
        only nodes that have none yet get one. So a job that was killed can be started again.
      - Each task needs a name of its own. One under which another document, other parameters, or other tags or another group were sent within
        O(look_back) is an error, before anything is sent.
      - By default a new one is made for each run, and shown with the progress.
    type: str
  look_back:
    description: Seconds for which commands of O(run_id) are looked for in the past, up to 30 days.
    type: int
    default: 86400
  command_ids:
    description: Commands to cancel, with O(state=cancelled).
    type: list
    elements: str
  progress_path:
    description:
      - A file on the machine that runs the module, in which its progress stands as JSON, renewed each second. It is set by itself for a task that
        runs on the controller, so that the progress is shown.
    type: path
notes:
  - Needs C(ssm:SendCommand) on the document and the nodes, C(ssm:ListCommands) and C(ssm:ListCommandInvocations);
    C(ssm:GetCommandInvocation) for O(output=full), and with O(s3_bucket) C(s3:GetObject) and C(s3:ListBucket);
    C(ssm:DescribeInstanceInformation) in check mode, to find nodes among several places, and to tell nodes that are refused or unknown;
    C(resource-groups:ListGroupResources) in check mode for O(resource_group); C(ssm:CancelCommand) for O(state=cancelled); C(sts:AssumeRole) for roles;
    C(iam:PassRole) for O(notification).
  - An account that refuses takes no other one with it. Its nodes fail with the missing action if they are named by id; else RV(errors) says it.
  - Commands of a task that is interrupted go on. Start it again with the same O(run_id), or cancel them.
  - Windows nodes are run on with O(platform=windows).
seealso:
  - module: fleet.ssm.run_command_info
  - module: fleet.ssm.managed_node_info
  - module: fleet.ssm.document
"""

EXAMPLES = r"""
- name: Restart the web servers of two accounts, a tenth at a time
  fleet.ssm.run_command:
    commands: [systemctl restart nginx]
    tags:
      Role: web
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetOperator
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetOperator
    max_concurrency: 10%
    max_errors: 5%
    max_error_ratio: 0.01

- name: Patch level of Windows nodes, with the whole output
  fleet.ssm.run_command:
    platform: windows
    commands: [Get-HotFix | ConvertTo-Json]
    tags: {Os: windows}
    region: eu-central-1
    s3_bucket: fleet-outputs-111111111111
    output: full
  register: patches

- name: A large fleet, to a file
  fleet.ssm.run_command:
    commands: [uname -r]
    tags: {Env: prod}
    regions: all
    max_concurrency: 100%
    results_path: /var/tmp/kernels.jsonl.gz
    max_error_ratio: 0.05

- name: A job that may be killed and started again
  fleet.ssm.run_command:
    run_id: "{{ change }}-agent" # of the survey, say: a job that AWX launches again has another awx_job_id
    document: AWS-UpdateSSMAgent
    nodes: "{{ found.nodes }}"
    regions: [eu-central-1]
    retries: 2

- name: Start, and look later
  fleet.ssm.run_command:
    commands: [/usr/local/bin/backup]
    instance_ids: [i-0123456789abcdef0]
    region: eu-central-1
    wait: false
  register: backup

- name: No, do not
  fleet.ssm.run_command:
    state: cancelled
    run_id: "{{ backup.run_id }}"
    region: eu-central-1
"""

RETURN = r"""
run_id:
  description: The name of the run. With it, the run can be taken over, looked at, and cancelled.
  returned: always
  type: str
  sample: 261124172900-3f9a
commands:
  description: The commands that were sent or taken over.
  returned: not in check mode
  type: list
  elements: dict
  contains:
    command_id:
      description: The id of the command.
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
    nodes:
      description: For how many nodes it is.
      type: int
    attempt:
      description: 0, or the number of the retry.
      type: int
would_send:
  description: What would be sent in each account and region.
  returned: in check mode
  type: list
  elements: dict
summary:
  description: Numbers of nodes.
  returned: always
  type: dict
  contains:
    total:
      description: All nodes.
      type: int
    succeeded:
      description: Those that succeeded.
      type: int
    failed:
      description: All others.
      type: int
    error_ratio:
      description: RV(summary.failed) by RV(summary.total).
      type: float
    by_status:
      description: Numbers by RV(nodes[].status).
      type: dict
nodes:
  description: Results, failures first. See O(max_results) and O(results_path).
  returned: always
  type: list
  elements: dict
  contains:
    instance_id:
      description: The node.
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
    command_id:
      description: The command; null if none was sent.
      type: str
    status:
      description: The service's status, such as V(success), V(failed), V(execution_timed_out), V(delivery_timed_out), V(undeliverable), V(terminated),
        V(cancelled), V(invalid_platform), V(access_denied); V(not_sent) if this module has not sent it; V(unknown) if it may run
        and this module cannot tell;
        V(pending) or V(in_progress) if it was not waited for any longer.
      type: str
    rc:
      description: The exit status; null if there is none.
      type: int
    stdout:
      description: What the command wrote, as far as O(output) says.
      type: str
    stderr:
      description: The same of stderr.
      type: str
    output_truncated:
      description: Whether the output is cut.
      type: bool
    output_error:
      description: Why an output could not be had in full.
      type: str
      returned: if so
    stdout_uri:
      description: With O(s3_bucket), where the whole output is of the step that RV(nodes[].rc) is of. An empty stream has no object.
      type: str
    stderr_uri:
      description: The same of stderr.
      type: str
    steps:
      description: The steps of the document, in their order. What they wrote, one after another, is the whole output.
      type: list
      elements: dict
      contains:
        name:
          description: The name.
          type: str
        status:
          description: The status, in the same words.
          type: str
        rc:
          description: The exit status; null if there is none.
          type: int
        stdout_uri:
          description: With O(s3_bucket), where the whole output is. An empty stream has no object.
          type: str
        stderr_uri:
          description: The same of stderr.
          type: str
        stdout_empty:
          description: Whether nothing was written; null if that is not known.
          type: bool
        stderr_empty:
          description: The same of stderr.
          type: bool
    requested_at:
      description: When it was sent, ISO 8601 in UTC.
      type: str
    started_at:
      description: When it began on the node.
      type: str
    ended_at:
      description: When it ended.
      type: str
    attempt:
      description: 0, or the number of the retry.
      type: int
    msg:
      description: Why nothing was sent to the node, or what is not known of it, and what to do.
      type: str
      returned: if nothing was sent, or the status is V(unknown)
errors:
  description: Accounts and regions that refused, each in words that name the missing action and the remedy.
  returned: always
  type: list
  elements: str
results_path:
  description: The file with all results.
  returned: with O(results_path)
  type: str
calls:
  description: Calls of Systems Manager, and how many of them were throttled.
  returned: always
  type: dict
"""

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError, merge, told
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.caller import Caller
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.cancel import cancel
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.mark import RUN_ID_LIMIT, is_run_id
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.place_run import Options, PlaceRun
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.progress import Counts, Progress
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import refused_record
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.request import EVENTS, NODES_A_COMMAND, Request, read_request
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.resolve import resolve
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.run import Run, assign
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.sink import Sink
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.targets import Targets, read_targets
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.verdict import summary, verdict
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, open_places, side_by_side

_TARGETS = ("instance_ids", "nodes", "tags", "resource_group")
_NOTIFICATION = {
    "topic_arn": {"type": "str", "required": True},
    "role_arn": {"type": "str", "required": True},
    "events": {"type": "list", "elements": "str", "choices": list(EVENTS), "default": ["all"]},
    "type": {"type": "str", "choices": ["command", "invocation"], "default": "command"},
}


class ProgressFile:
    """Writes the progress for whoever shows it; a reader never sees a half of it."""

    def __init__(self, path: str | None, run_id: str) -> None:
        self._path = path
        self._run_id = run_id
        self._progress = Progress(time.monotonic())

    def __call__(self, counts: Counts) -> None:
        if self._path:
            shown = {"run_id": self._run_id, **self._progress.look(counts, time.monotonic())}
            temporary = f"{self._path}.new"
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(shown, file)
            os.replace(temporary, self._path)


class Task:
    """One call of the module: options read, places open, and what was found out so far."""

    def __init__(self, module: AnsibleAWSModule) -> None:
        self.module = module
        self.params = module.params
        self.run_id = read_run_id(self.params)
        self.stop = threading.Event()
        self.errors: list[CollectError] = []
        self.callers: list[Caller] = []

    def open(self) -> None:
        """:raises OptionError: if accounts cannot be meant as they are written."""
        opened = open_places(self.params, "run_command", retries=False)
        self.errors += opened.errors
        turn = threading.Semaphore(max(1, self.params["max_workers"]))
        self.callers = [Caller(place, turn, self.stop) for place in opened.places]
        if len({place.account for place in opened.places}) > 1:
            self._check_twice()

    def exit(self, problem: str | None, **result: Any) -> NoReturn:
        """The module's end."""
        calls = {"total": sum(caller.calls for caller in self.callers), "throttled": sum(caller.throttled for caller in self.callers)}
        result = {"run_id": self.run_id, "errors": told(self.errors), "calls": calls, **result}
        if problem:
            self.module.fail_json(msg=problem, **result)
        self.module.exit_json(**result)

    def _check_twice(self) -> None:
        """A place that is there twice would get commands by tag twice."""
        seen: dict[tuple[str, str], str] = {}
        for caller in list(self.callers):
            try:
                key = (caller.place.account_id, caller.place.region)
            except CollectError as error:
                self.errors.append(error)
                self.callers.remove(caller)
                continue
            if key in seen:
                raise OptionError(f"'accounts' has account {key[0]} twice: {seen[key]} and {caller.place.account.label}. Remove one of them.")
            seen[key] = caller.place.account.label


def read_run_id(params: dict[str, Any]) -> str:
    """The given name, or a new one that begins with the time. :raises OptionError: if it cannot be used."""
    given = params["run_id"]
    if given and not is_run_id(given):
        raise OptionError(f"'run_id' may have {RUN_ID_LIMIT} letters, digits, _ and -, not {given!r}.")
    return given or f"{time.strftime('%y%m%d%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def start(task: Task) -> NoReturn:
    """Send, wait and judge."""
    params = task.params
    request, targets = read_request(params, task.run_id), read_targets(params)
    ratio, success = params["max_error_ratio"], params["success"]
    if ratio is not None and not 0 <= ratio <= 1:
        raise OptionError(f"'max_error_ratio' must be 0 to 1, not {ratio}.")
    if ratio is not None and success not in (None, "ratio"):
        raise OptionError(f"'max_error_ratio' and 'success: {success}' exclude each other: remove one of them.")
    if success == "ratio" and ratio is None:
        raise OptionError("'success: ratio' needs 'max_error_ratio'.")
    for name in ("results_path", "progress_path"):
        folder = os.path.dirname(params[name] or "") or "."
        if not os.access(folder, os.W_OK):
            raise OptionError(f"'{name}': the folder {folder} does not exist, or cannot be written to.")
    task.open()
    assigned = assign(targets, task.callers)
    placed = assigned.nodes
    task.errors += assigned.errors
    status, text = "undeliverable", "it is in none of the accounts and regions that were asked, or Systems Manager does not know it there"
    if assigned.errors:
        status, text = "not_sent", f"it was not found, and may be where it could not be looked for: {' '.join(told(assigned.errors))}"
    nowhere = [
        refused_record(
            node.node_id, {"account_id": node.account_id, "account_name": None, "region": node.region}, status,
            f"{text}. Check the id, 'accounts' and 'regions'",
        )
        for node in assigned.lost
    ]  # fmt: skip
    if task.module.check_mode:
        check(task, request, targets, placed, nowhere)

    sink = Sink(params["results_path"], params["max_results"])
    since = time.time() - params["look_back"] if params["run_id"] else None
    options = Options(wait=params["wait"], retries=params["retries"], adopt_since=since, output=params["output"])
    parts = [
        PlaceRun(caller, request, targets, placed[number] if targets.named else None, options, sink)
        for number, caller in enumerate(task.callers)
        if not targets.named or placed[number]
    ]
    if not params["wait"] and any(part.needs_waiting for part in parts):
        raise OptionError(f"A number as 'max_concurrency' or 'max_errors' of more than {NODES_A_COMMAND} nodes needs 'wait: true'. Give it in percent.")
    for record in nowhere:
        sink.add(record)
    try:
        in_time = Run(parts, task.stop).go(ProgressFile(params["progress_path"], task.run_id), params["wait_timeout"])
    finally:
        sink.close()
    task.errors += [part.error for part in parts if part.error is not None]
    conclude(task, parts, sink, in_time=in_time, named=bool(targets.named))


def conclude(task: Task, parts: Sequence[PlaceRun], sink: Sink, *, in_time: bool, named: bool) -> NoReturn:
    """Judge what came of it."""
    params = task.params
    commands = [
        {"command_id": command.command_id, **part.place.describe(), "nodes": command.total, "attempt": command.attempt}
        for part in parts
        for command in part.commands
    ]
    found = summary(sink.counts)
    unknown = found["by_status"].get("unknown", 0)
    doubts = [f"What became of the command on {unknown} nodes is not known: see 'msg' of each of them in 'nodes'."] if unknown else []
    result: dict[str, Any] = {"changed": bool(commands or unknown), "commands": commands, "nodes": sink.kept(), "summary": found}
    if params["results_path"]:
        result["results_path"] = params["results_path"]
    if sink.left_out:
        task.module.warn(f"{sink.left_out} results are not returned, beyond 'max_results'. Set 'results_path' to have all of them in a file.")
    refusals = told(task.errors)
    if not params["wait"]:
        problems = [*doubts, *refusals]
        task.exit("\n".join(problems) or (None if commands else "No command was sent."), **result)
    if not in_time:
        rest = f"Commands go on: a task with 'run_id: {task.run_id}' takes them over, and 'state: cancelled' ends them."
        task.exit(f"Not all nodes had ended after {params['wait_timeout']} s. {rest}", **result)
    success = params["success"] or ("all" if params["max_error_ratio"] is None else "ratio")
    # What an error has cost in a place stands at its nodes, if they were named by their ids.
    explained = named and not any(error.region is None for error in task.errors)
    problem = verdict(found, success=success, max_error_ratio=params["max_error_ratio"] or 0.0, refusals=[] if explained else refusals)
    if problem:
        problem = "\n".join([problem, *doubts, *(refusals if explained else ())])
    for doubt in doubts if problem is None else ():
        task.module.warn(doubt)
    task.exit(problem, **result)


def check(task: Task, request: Request, targets: Targets, placed: Sequence[Sequence[str]], nowhere: Sequence[dict[str, Any]]) -> NoReturn:
    """What would be sent."""

    def look(number: int) -> list[str] | CollectError:
        try:
            return list(placed[number]) if targets.named else resolve(targets, task.callers[number])
        except CollectError as error:
            return error

    found = list(nowhere)
    would: list[dict[str, Any]] = []
    for caller, ids in zip(task.callers, side_by_side(look, range(len(task.callers)), task.params["max_workers"]), strict=True):
        if isinstance(ids, CollectError):
            task.errors.append(ids)
        elif ids:
            place = caller.place.describe()
            commands = -(-len(ids) // NODES_A_COMMAND) if targets.named else 1
            shown = {"document": request.document, "parameters": dict(request.parameters), "max_concurrency": request.max_concurrency}
            would.append({**place, "nodes": len(ids), "commands": commands, **shown})
            found += [{"instance_id": node_id, **place, "status": "would_run"} for node_id in ids]
    result: dict[str, Any] = {"would_send": would, "changed": bool(would), "nodes": found[: task.params["max_results"]]}
    counts: dict[str, int] = {}
    for record in found:
        counts[record["status"]] = counts.get(record["status"], 0) + 1
    numbers = {"total": len(found), "succeeded": 0, "failed": len(nowhere), "error_ratio": 0.0, "by_status": counts}
    if task.module._diff:
        result["diff"] = {"before": {}, "after": {"would_send": would}}
    problem = None if found or task.errors else verdict(summary({}), success="all", max_error_ratio=0.0, refusals=())
    task.exit(problem or ("\n".join(str(one) for one in merge(task.errors)) or None), summary=numbers, **result)


def cancelled(task: Task) -> NoReturn:
    """Cancel what was sent under a run id, or commands by id."""
    params = task.params
    if bool(params["run_id"]) == bool(params["command_ids"]):
        raise OptionError("'state: cancelled' needs either 'run_id' or 'command_ids'.")
    task.open()
    since = time.time() - params["look_back"]

    def at(caller: Caller) -> list[dict[str, Any]] | CollectError:
        try:
            run_id = task.run_id if params["run_id"] else None
            return cancel(caller, run_id, params["command_ids"] or (), since, wait=params["wait"], dry=task.module.check_mode)
        except CollectError as error:
            return error

    commands: list[dict[str, Any]] = []
    for found in side_by_side(at, task.callers, len(task.callers)):
        if isinstance(found, CollectError):
            task.errors.append(found)
        else:
            commands += found
    missing = sorted(set(params["command_ids"] or ()) - {command["command_id"] for command in commands})
    problem = "\n".join(str(one) for one in merge(task.errors)) or None
    if missing and not problem:
        problem = f"These commands are in none of the accounts and regions that were asked: {', '.join(missing)}. Check 'accounts' and 'regions'."
    if not commands and not problem:
        problem = f"No command of the run {task.run_id} was found: check 'run_id', 'accounts', 'regions' and 'look_back'."
    changed = [command for command in commands if command.pop("changed")]
    result: dict[str, Any] = {"changed": bool(changed), "commands": commands, "nodes": [], "summary": summary({})}
    if task.module._diff:
        shown = [{"command_id": command["command_id"], "status": command["was"]} for command in changed]
        result["diff"] = {"before": {"commands": shown}, "after": {"commands": [{**one, "status": "cancelled"} for one in shown]}}
    task.exit(problem, **result)


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "choices": ["started", "cancelled"], "default": "started"},
            "commands": {"type": "list", "elements": "str"},
            "document": {"type": "str"},
            "document_version": {"type": "str"},
            "parameters": {"type": "dict", "default": {}},
            "platform": {"type": "str", "choices": ["linux", "windows"], "default": "linux"},
            "working_directory": {"type": "str"},
            "execution_timeout": {"type": "int"},
            "delivery_timeout": {"type": "int"},
            "instance_ids": {"type": "list", "elements": "str"},
            "nodes": {"type": "list", "elements": "dict"},
            "tags": {"type": "dict"},
            "resource_group": {"type": "str"},
            "resource_types": {"type": "list", "elements": "str"},
            "max_concurrency": {"type": "str", "default": "50"},
            "max_errors": {"type": "str", "default": "100%"},
            "comment": {"type": "str", "default": ""},
            "s3_bucket": {"type": "str"},
            "s3_prefix": {"type": "str"},
            "s3_region": {"type": "str"},
            "cloudwatch_output": {"type": "bool", "default": False},
            "cloudwatch_log_group": {"type": "str"},
            "notification": {"type": "dict", "options": _NOTIFICATION},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int"},
            "success": {"type": "str", "choices": ["all", "any", "ratio"]},
            "max_error_ratio": {"type": "float"},
            "retries": {"type": "int", "default": 0},
            "output": {"type": "str", "choices": ["none", "brief", "full"], "default": "brief"},
            "results_path": {"type": "path"},
            "max_results": {"type": "int", "default": 1000},
            "run_id": {"type": "str"},
            "look_back": {"type": "int", "default": 86400},
            "command_ids": {"type": "list", "elements": "str"},
            "progress_path": {"type": "path"},
        },
        mutually_exclusive=[_TARGETS],
        supports_check_mode=True,
    )
    try:
        task = Task(module)
        if module.params["state"] == "cancelled":
            cancelled(task)
        start(task)
    except OptionError as error:
        module.fail_json(msg=f"{error} Nothing was sent.")
    finally:
        with contextlib.suppress(TypeError, OSError):
            os.unlink(f"{module.params['progress_path']}.new")


if __name__ == "__main__":
    main()
