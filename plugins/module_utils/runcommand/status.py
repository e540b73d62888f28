# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far an invocation has come, in our words, and what follows from it. No I/O.

The one place that knows which outcomes may be tried again: only what surely never reached its node. A terminal status never goes back,
since answers of the service (and events) overtake each other.
"""

from __future__ import annotations

import re
from enum import Enum


class Lifecycle(Enum):
    """What is known about the command on a node."""

    NEVER_DELIVERED = "never_delivered"
    MAY_HAVE_STARTED = "may_have_started"
    FINISHED = "finished"


#: StatusDetails of an invocation, as `snake` writes them, that are final: whether the command came to the node.
_FINAL = {
    "success": Lifecycle.FINISHED,
    "failed": Lifecycle.FINISHED,
    "execution_timed_out": Lifecycle.FINISHED,
    "timed_out": Lifecycle.FINISHED,
    "cancelled": Lifecycle.MAY_HAVE_STARTED,
    "incomplete": Lifecycle.MAY_HAVE_STARTED,
    "delivery_timed_out": Lifecycle.NEVER_DELIVERED,
    "undeliverable": Lifecycle.NEVER_DELIVERED,
    "terminated": Lifecycle.NEVER_DELIVERED,
    "invalid_platform": Lifecycle.NEVER_DELIVERED,
    "access_denied": Lifecycle.NEVER_DELIVERED,
    # Of this collection: SendCommand itself was refused, or not made since there were too many errors.
    "not_sent": Lifecycle.NEVER_DELIVERED,
    # SendCommand gave no answer, and the command was not found: it may have been accepted.
    "unknown": Lifecycle.MAY_HAVE_STARTED,
}
#: Not delivered for a reason that may pass. The others would be refused again, or were stopped on purpose.
_RETRYABLE = frozenset({"delivery_timed_out", "undeliverable", "not_sent"})
#: The command was run, and not well: what the service counts against MaxErrors.
_ERRORS = frozenset({"failed", "execution_timed_out", "timed_out"})
#: StatusDetails of a command that nothing follows.
_COMMAND_FINAL = frozenset(
    {"success", "failed", "cancelled", "timed_out", "execution_timed_out", "delivery_timed_out", "incomplete", "no_instances_in_tag", "limit_exceeded",
     "terminated", "undeliverable", "invalid_platform", "access_denied", "rate_exceeded"}
)  # fmt: skip


def snake(details: str) -> str:
    """``ExecutionTimedOut``, or ``Execution Timed Out``, as ``execution_timed_out``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", details.replace(" ", "")).lower()


def is_final(status: str) -> bool:
    """Whether an invocation's status is the last one. A status that is not known is not: the service may have new ones."""
    return status in _FINAL


def is_command_final(status: str) -> bool:
    """The same of a whole command."""
    return status in _COMMAND_FINAL


def is_error(status: str) -> bool:
    """Whether an invocation of this status counts against ``max_errors``."""
    return status in _ERRORS


def lifecycle(status: str) -> Lifecycle:
    """What is known of the command, by its status on a node. While it is open it may have started."""
    return _FINAL.get(status, Lifecycle.MAY_HAVE_STARTED)


def may_retry(status: str) -> bool:
    """Whether the command may be sent to the node again: it surely was not delivered, for a reason that may pass."""
    return status in _RETRYABLE and lifecycle(status) is Lifecycle.NEVER_DELIVERED


def later(old: str | None, new: str) -> str:
    """Which of two statuses holds, whichever was heard first."""
    return old if old is not None and is_final(old) else new
