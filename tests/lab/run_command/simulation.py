# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated nodes: they answer without doing anything, as their description says."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from ..state import ManagedNode
from .command import Command
from .reply import PluginResult, Reply
from .status import Details

_dice = random.Random(1)
_UPDATE = "aws:updateSsmAgent"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node will say, and after how many seconds."""

    seconds: float
    step: str
    code: int
    stdout: str
    stderr: str

    def reply(self) -> Reply:
        """The agent's final reply."""
        details = Details.SUCCESS if self.code == 0 else Details.FAILED
        now = time.time()
        result = PluginResult(details, self.code, now - self.seconds, now, self.stdout, self.stderr, self.stdout + self.stderr)
        return Reply(details, {self.step: result})


def answer(node: ManagedNode, command: Command, seconds: float) -> Answer | None:
    """The answer of a simulated node, None if it will not give one.

    Its options: `failing` and `silent`, ratios 0-1 of commands that fail or are never answered; `code` of those that fail;
    `available_version`, what aws:updateSsmAgent finds; `stdout` and `stderr`, in which `{node_id}` and `{name}` are replaced; `seconds`.
    """
    options = node.spec.options
    if options.get("silent") and _dice.random() < options["silent"]:
        return None
    fails = bool(options.get("failing")) and _dice.random() < options["failing"]
    names = {"{node_id}": node.node_id, "{name}": node.spec.name}
    stdout, stderr = str(options.get("stdout", "")), str(options.get("stderr", ""))
    for pattern, name in names.items():
        stdout, stderr = stdout.replace(pattern, name), stderr.replace(pattern, name)
    code = int(options.get("code", 1)) if fails else 0
    if not code and _UPDATE in command.content.get("runtimeConfig", {}):
        _update(node, command)
    return Answer(float(options.get("seconds", seconds)), next(iter(command.steps)), code, stdout, stderr)


def _update(node: ManagedNode, command: Command) -> None:
    """Another version of the agent: the one that is asked for, or that there is."""
    wanted = "".join(command.parameters.get("version", ())) or node.spec.options.get("available_version")
    if wanted:
        node.information["AgentVersion"] = wanted
