#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: completions
short_description: Takes the completion messages of commands from the output store's queue
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Waits for the messages by which P(fleet.ssm.output_store#role) tells that a command has ended on a node, and takes them from the queue.
  - Messages of other commands are left in the queue for whoever waits for them.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
  - fleet.ssm.attributes
attributes:
  check_mode:
    support: full
    details: Takes nothing and returns nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: What was taken is not in the queue any more.
options:
  queue:
    description: The name of the queue.
    type: str
    default: fleet-ssm-outputs-completions
  queue_account_id:
    description: The account of the queue, if it is another one.
    type: str
  command_ids:
    description: The commands, as RV(fleet.ssm.run_command#module:commands[].command_id) has them.
    type: list
    elements: str
    required: true
  count:
    description: For how many nodes these commands are, all together.
    type: int
    required: true
  timeout:
    description: Seconds to wait. What has not come then is in RV(missing), and M(fleet.ssm.run_command_info) says what became of it.
    type: int
    default: 600
notes:
  - Needs C(sqs:GetQueueUrl), C(sqs:ReceiveMessage), C(sqs:DeleteMessage) and C(sqs:ChangeMessageVisibility).
  - With many who wait at the same time, give each a queue of its own that subscribes to a topic, with a filter on the attribute C(command_id).
seealso:
  - module: fleet.ssm.run_command
  - module: fleet.ssm.account_resources
"""

EXAMPLES = r"""
- name: Start a command and do not wait
  fleet.ssm.run_command:
    regions: [eu-central-1]
    tags: {Role: web}
    commands: ["/opt/report"]
    s3_bucket: company-outputs
    s3_prefix: <account>/<region>
    wait: false
  register: started

- name: Hear of its end
  fleet.ssm.completions:
    region: eu-central-1
    command_ids: "{{ started.commands | map(attribute='command_id') }}"
    count: "{{ started.commands | sum(attribute='nodes') }}"
  register: ended
"""

RETURN = r"""
completions:
  description: The messages, as C(docs/output-store.md) describes them.
  returned: always
  type: list
  elements: dict
  contains:
    command_id:
      description: The command.
      type: str
    instance_id:
      description: The node.
      type: str
    status:
      description: What became of it, such as V(success), V(failed) or V(execution_timed_out).
      type: str
    rc:
      description: The exit status; null if there is none.
      type: int
    stdout_uri:
      description: Where the output is; null if it is empty.
      type: str
    stderr_uri:
      description: The same of stderr.
      type: str
missing:
  description: How many messages did not come in time.
  returned: always
  type: int
"""

import json
import time
from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

_POLL = 20  #: seconds; the longest that SQS has
_BATCH = 10


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            "queue": {"type": "str", "default": "fleet-ssm-outputs-completions"},
            "queue_account_id": {"type": "str"},
            "command_ids": {"type": "list", "elements": "str", "required": True},
            "count": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=module.params["count"] > 0, completions=[], missing=0)
    sqs = module.client("sqs", retry_decorator=AWSRetry.jittered_backoff())
    owner = {"QueueOwnerAWSAccountId": module.params["queue_account_id"]} if module.params["queue_account_id"] else {}
    try:
        url = sqs.get_queue_url(aws_retry=True, QueueName=module.params["queue"], **owner)["QueueUrl"]
        found = take(sqs, url, set(module.params["command_ids"]), module.params["count"], time.monotonic() + module.params["timeout"])
    except Exception as error:
        module.fail_json_aws(error, msg=f"Completions cannot be taken from the queue {module.params['queue']}")
    module.exit_json(changed=bool(found), completions=found, missing=max(0, module.params["count"] - len(found)))


def take(sqs: Any, url: str, command_ids: set[str], count: int, deadline: float) -> list[dict[str, Any]]:
    """The messages of some commands, each once. A queue may give one twice."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    while len(found) < count and (left := deadline - time.monotonic()) > 0:
        answer = sqs.receive_message(aws_retry=True, QueueUrl=url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=min(_POLL, max(1, int(left))))
        for entry in answer.get("Messages", ()):
            message, handle = json.loads(entry["Body"]), entry["ReceiptHandle"]
            if message.get("command_id") in command_ids:
                found[message["command_id"], message["instance_id"]] = message
                sqs.delete_message(aws_retry=True, QueueUrl=url, ReceiptHandle=handle)
            else:  # seen again by others at once, and by this one after them
                sqs.change_message_visibility(aws_retry=True, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=1)
    return list(found.values())


if __name__ == "__main__":
    main()
