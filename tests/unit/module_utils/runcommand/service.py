# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems Manager of one place, for what the lab does not do: each look shows a little more of a command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.caller import Caller
from tests.unit.module_utils.api import REGION, Api


class Service:
    """Answers in time: `speed` more nodes of a command have ended at each look at it.

    :param status: of a node that has ended, by its id.
    :param tagged: the nodes that targets mean.
    """

    def __init__(self, status: Callable[[str], str] = lambda _node: "Success", *, speed: int = 50, tagged: Sequence[str] = ()) -> None:
        self.tagged = list(tagged)
        self.sent: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.open_nodes: list[int] = []  #: nodes of open commands, as each was sent
        self._status, self._speed = status, speed
        self._ended: dict[str, int] = {}

    def send_command(self, **parameters: Any) -> dict[str, Any]:
        self.refuse(parameters)
        self.sent.append(parameters)
        command_id = f"{len(self.sent):036}"
        self._ended[command_id] = 0
        limit = int(parameters["MaxConcurrency"].rstrip("%"))
        self.open_nodes.append(sum(min(limit, len(self._nodes(one))) for one in self._ended if not self._is_over(one)))
        return {"Command": self.entry(command_id)}

    def refuse(self, parameters: dict[str, Any]) -> None:
        """Raises what SendCommand is refused with."""

    def list_commands(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append("ListCommands")
        wanted = [parameters["CommandId"]] if "CommandId" in parameters else list(self._ended)
        for command_id in wanted:
            self._ended[command_id] += self._speed
        return {"Commands": [self.entry(command_id) for command_id in wanted]}

    def list_command_invocations(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append("ListCommandInvocations")
        command_id = parameters["CommandId"]
        self._ended[command_id] += self._speed
        return {"CommandInvocations": self.listed([self._invocation(command_id, number, node) for number, node in enumerate(self._nodes(command_id))])}

    def listed(self, invocations: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Which of a command's invocations are shown."""
        return invocations

    def entry(self, command_id: str) -> dict[str, Any]:
        """A command as listings have it."""
        sent, nodes = self.sent[int(command_id) - 1], self._nodes(command_id)
        ended = [self._status(node) for node in nodes[: self._ended[command_id]]]
        counts = {"TargetCount": len(nodes), "CompletedCount": len(ended), "ErrorCount": ended.count("Failed")}
        status = "Success" if self._is_over(command_id) else "InProgress"
        shown = {"DocumentName": sent["DocumentName"], "Comment": sent["Comment"], "InstanceIds": sent.get("InstanceIds", [])}
        return {"CommandId": command_id, "RequestedDateTime": 1.0, "Status": status, **shown, **counts}

    def _nodes(self, command_id: str) -> list[str]:
        found: list[str] = self.sent[int(command_id) - 1].get("InstanceIds", self.tagged)
        return found

    def _is_over(self, command_id: str) -> bool:
        return self._ended[command_id] >= len(self._nodes(command_id))

    def _invocation(self, command_id: str, number: int, node: str) -> dict[str, Any]:
        status = self._status(node) if number < self._ended[command_id] else "InProgress"
        step = {"Name": "aws:runShellScript", "StatusDetails": status, "Output": ""}
        return {"InstanceId": node, "CommandId": command_id, "Status": status, "StatusDetails": status, "RequestedDateTime": 1.0, "CommandPlugins": [step]}


class Hurry(threading.Event):
    """Nothing is waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def caller(api: Api, service: Any, region: str = REGION, stop: threading.Event | None = None) -> Caller:
    """Of this service."""
    return Caller(api.place(region, service), threading.Semaphore(), stop or Hurry())


def nodes(count: int) -> list[str]:
    """So many ids."""
    return [f"i-{number:017x}" for number in range(count)]


def every(number: int) -> Callable[[str], str]:
    """Every node fails whose number this divides."""
    return lambda node: "Success" if int(node[2:], 16) % number else "Failed"
