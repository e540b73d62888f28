# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in CloudWatch Logs. On AWS the agent streams them while a step runs; here they are there, as far as its reply has them, once it has ended."""

from __future__ import annotations

from ..moto_bridge import write_log
from .command import Command
from .invocation import Invocation


def write_outputs(command: Command, invocation: Invocation) -> None:
    """A stream for each step's stdout and stderr, unless it is empty: ``COMMAND/NODE/PLUGIN/stdout`` with dashes for colons (user guide, agent's source)."""
    group = command.output.log_group or f"/aws/ssm/{command.document_name}"
    for step, result in invocation.plugins.items():
        name = f"{command.command_id}/{invocation.node_id}/{step.replace(':', '-')}"
        for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
            if text:
                write_log(command.account, command.region, group, f"{name}/{stream}", text.splitlines())
