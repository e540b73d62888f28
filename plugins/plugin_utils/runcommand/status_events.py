# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What EventBridge tells of invocations, as it comes out of a queue. No I/O.

The event is "EC2 Command Invocation Status-change Notification" of aws.ssm. It is best effort: one may be missing, late, or told twice.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from ...module_utils.runcommand import status

KIND = "EC2 Command Invocation Status-change Notification"
PREFIX = "fleet-ssm-mux-"
"""Of the names of all queues of ours. The time at which one was made follows, so that one which is left over is known without a call."""

STALE = 36 * 3600.0
"""Seconds after which a queue counts as left over."""


class End(NamedTuple):
    """A command has ended on a node."""

    command_id: str
    node_id: str


def read(body: str) -> End | None:
    """A message of the queue, as EventBridge or SNS (raw or not) delivers it; `None`: it tells of nothing that has ended."""
    try:
        event = json.loads(body)
        if event.get("Type") == "Notification":
            event = json.loads(event["Message"])
        detail = event["detail"]
        if event["detail-type"] != KIND or not status.is_final(status.snake(detail["status"])):
            return None
        return End(str(detail["command-id"]), str(detail["instance-id"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def queue_name(now: float, mark: str) -> str:
    """Of a new queue. :param now: seconds since the epoch."""
    return f"{PREFIX}{int(now)}-{mark}"


def is_stale(name: str, now: float) -> bool:
    """Whether a queue of ours is left over from a mux that was killed."""
    made = name.removeprefix(PREFIX).partition("-")[0]
    return name.startswith(PREFIX) and made.isdigit() and now - int(made) > STALE


def queue_policy(queue_arn: str, topic_arn: str) -> str:
    """That lets one topic deliver to the queue, and nobody else."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass
class Early:
    """Ends that were told before the answer to SendCommand named the command; the oldest are forgotten."""

    limit: int = 5000
    _ends: OrderedDict[End, None] = field(default_factory=OrderedDict)

    def add(self, end: End) -> None:
        """An end of a command that is not known."""
        self._ends[end] = None
        while len(self._ends) > self.limit:
            self._ends.popitem(last=False)

    def take(self, command_id: str, node_ids: list[str]) -> set[str]:
        """The nodes on which a command has ended already."""
        found = {node_id for node_id in node_ids if End(command_id, node_id) in self._ends}
        for node_id in found:
            del self._ends[End(command_id, node_id)]
        return found
