# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command on one node, as the service tells of it. A status that is final stays, whatever is heard later: answers overtake each other.

No I/O. What the words of the service mean stands in ``module_utils/runcommand/status.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...module_utils.runcommand import status
from ...module_utils.runcommand.status import Lifecycle

REASONS = {
    "delivery_timed_out": "the node did not fetch the command within the option delivery_timeout: it is offline, or busy with five others",
    "undeliverable": "AWS could not deliver the command: the node is gone, or does not answer",
    "terminated": "AWS did not deliver the command",
    "invalid_platform": "the document is not for the platform of the node",
    "access_denied": "the credentials may not ssm:SendCommand to the node",
    "cancelled": "the command was cancelled",
    "execution_timed_out": "the command was ended by the agent after the option execution_timeout",
    "timed_out": "the command was ended by the agent, for its time or for the end of the agent itself",
    "failed": "the agent could not run the command to its end",
}


@dataclass
class Invocation:
    """What is known of it."""

    node_id: str
    details: str = "pending"
    """StatusDetails in our spelling."""
    outputs: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By the step's name, the first 2,500 characters of what it wrote, once it has ended."""

    def hear(self, entry: Mapping[str, Any]) -> bool:
        """An entry of ListCommandInvocations; whether it is the first with a final status."""
        if self.is_final:
            return False
        self.details = status.later(self.details, status.snake(str(entry.get("StatusDetails") or entry.get("Status") or "")))
        if self.is_final:
            self.outputs = {str(step["Name"]): str(step.get("Output") or "") for step in entry.get("CommandPlugins") or ()}
        return self.is_final

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return status.is_final(self.details)

    @property
    def was_delivered(self) -> bool:
        """Whether the node may have seen it."""
        return status.lifecycle(self.details) is not Lifecycle.NEVER_DELIVERED

    @property
    def reason(self) -> str:
        """Why there is no result, for a person."""
        return REASONS.get(self.details, f"AWS says of the command: {self.details}")
