# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one invocation: which status may follow which. No I/O, no clock.

Replies of an agent come from parallel threads, so an InProgress can arrive after the final status: nothing leaves that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .reply import PluginResult, Reply
from .status import Details


@dataclass(slots=True, eq=False)
class Invocation:
    """A command on one node. Each method answers whether the status changed."""

    node_id: str
    details: Details = Details.PENDING
    released: bool = False  #: MaxConcurrency lets it go
    accepted: bool = False  #: the agent has it
    plugins: Mapping[str, PluginResult] = field(default_factory=dict)
    trace: str = ""

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.details.final

    def accept(self) -> bool:
        """The agent acknowledged the message."""
        self.accepted = True
        return self.details in (Details.PENDING, Details.DELAYED) and self._become(Details.IN_PROGRESS)

    def delay(self) -> bool:
        """The agent could not take it, or did not answer; it is tried again."""
        return self.details is Details.PENDING and not self.accepted and self._become(Details.DELAYED)

    def reply(self, reply: Reply) -> bool:
        """The agent tells, from several threads at once: the last step's result can come after the final status. What is final stays."""
        told = {name: result for name, result in reply.plugins.items() if not (name in self.plugins and self.plugins[name].details.final)}
        self.plugins = {**self.plugins, **told}
        if self.final:
            return False
        self.accepted = True
        self.trace = reply.trace or self.trace
        if not reply.details.final and self.details is Details.CANCELLING:
            return False
        return self._become(reply.details)

    def cancel(self) -> bool:
        """CancelCommand: over at once if no agent has it."""
        return self._become(Details.CANCELLING if self.accepted else Details.CANCELLED)

    def end(self, details: Details) -> bool:
        """The service decides that it is over."""
        return self._become(details)

    def _become(self, details: Details) -> bool:
        if self.final or self.details is details:
            return False
        self.details = details
        return True
