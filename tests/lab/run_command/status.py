# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for how far a command, or one invocation of it, has come.

`StatusDetails` says it exactly; `Status` is one of fewer words, and follows from it.
"""

from __future__ import annotations

from enum import StrEnum


class Details(StrEnum):
    """StatusDetails."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    DELAYED = "Delayed"
    SUCCESS = "Success"
    FAILED = "Failed"
    EXECUTION_TIMED_OUT = "ExecutionTimedOut"
    DELIVERY_TIMED_OUT = "DeliveryTimedOut"
    CANCELLING = "Cancelling"
    CANCELLED = "Cancelled"
    UNDELIVERABLE = "Undeliverable"
    TERMINATED = "Terminated"
    INVALID_PLATFORM = "InvalidPlatform"
    ACCESS_DENIED = "AccessDenied"
    # Of commands only.
    INCOMPLETE = "Incomplete"
    NO_INSTANCES = "NoInstancesInTag"

    @property
    def status(self) -> str:
        """Status."""
        return _STATUS.get(self, str(self))

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self not in _OPEN

    @property
    def is_error(self) -> bool:
        """Whether it counts for ErrorCount and MaxErrors: the command was run, and not well."""
        return self in (Details.FAILED, Details.EXECUTION_TIMED_OUT)


_OPEN = frozenset({Details.PENDING, Details.IN_PROGRESS, Details.DELAYED, Details.CANCELLING})
_STATUS = {
    Details.EXECUTION_TIMED_OUT: "TimedOut",
    Details.DELIVERY_TIMED_OUT: "TimedOut",
    Details.UNDELIVERABLE: "Failed",
    Details.TERMINATED: "Failed",
    Details.INVALID_PLATFORM: "Failed",
    Details.ACCESS_DENIED: "Failed",
    Details.INCOMPLETE: "Failed",
    Details.NO_INSTANCES: "Success",
}
