# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command, as SendCommand made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .invocation import Invocation
from .schedule import Schedule
from .status import Details
from .summary import Summary


@dataclass(frozen=True, slots=True)
class Output:
    """Where agents put outputs beside their replies."""

    bucket: str = ""
    prefix: str = ""
    region: str = ""
    log_group: str = ""
    log_enabled: bool = False


@dataclass(frozen=True, slots=True)
class Notification:
    """NotificationConfig, and the role that publishes."""

    topic: str
    events: frozenset[str]  #: All, or Status words
    per_invocation: bool
    role: str


@dataclass(eq=False, slots=True)
class Command:
    """A command with its invocations. Times are seconds since the epoch."""

    command_id: str
    account: str
    region: str
    document_name: str
    document_version: str
    content: Mapping[str, Any]
    parameters: Mapping[str, Sequence[str]]  #: as given
    message_parameters: Mapping[str, Any]  #: as agents get them
    comment: str
    node_ids: Sequence[str]
    targets: Sequence[Mapping[str, Any]]
    requested: float
    delivery_ends: float
    expires: float
    timeout_seconds: int
    max_concurrency: str
    max_errors: str
    output: Output
    service_role: str
    notification: Notification | None
    invocations: dict[str, Invocation]
    cancelled: bool = False
    releasing: bool = False  #: invocations are being sent now
    told: Details = Details.PENDING  #: the status that events told last
    schedule: Schedule[Invocation] = field(init=False)
    summary: Summary = field(init=False)

    def __post_init__(self) -> None:
        open_ones = [invocation for invocation in self.invocations.values() if not invocation.final]
        self.schedule = Schedule(open_ones, self.max_concurrency, self.max_errors)
        self.summary = Summary(len(self.invocations))
        for invocation in self.invocations.values():
            if invocation.final:
                self.summary.change(Details.PENDING, invocation.details)

    @property
    def details(self) -> Details:
        """StatusDetails."""
        return self.summary.details(max_errors=self.schedule.max_errors, cancelled=self.cancelled)

    @property
    def steps(self) -> dict[str, str]:
        """Names of the steps and their plugins, in order. Schema 1.2 has none: the plugins' own names stand for them."""
        if "mainSteps" in self.content:
            return {step["name"]: step["action"] for step in self.content["mainSteps"]}
        return {name: name for name in self.content.get("runtimeConfig", {})}
