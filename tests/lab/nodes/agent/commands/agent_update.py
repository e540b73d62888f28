# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""aws:updateSsmAgent: says what the real agent's updater says, and changes the version that the agent gives."""

from __future__ import annotations

from typing import Any

from .order import Step
from .runner import Plugin, Surroundings
from .streams import StepOutput

VERSION_FILE = "agent-version"  #: in the agent's state folder: the version after an update


def update_plugin(available: str) -> Plugin:
    """The plugin. `available` is the newest version that there is, empty for the agent's own; older ones are there too."""

    def run(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
        config = around.config
        known = installed_version(config.state_dir, config.agent_version)
        newest = available or known
        target = properties.get("targetVersion") or newest
        output.info("Successfully downloaded manifest\n")
        if is_older(target, known) and properties.get("allowDowngrade") != "true":
            output.fail("updating amazon-ssm-agent to an older version, please enable allow downgrade to proceed\n")
            return
        if is_older(newest, target):
            output.fail(f"amazon-ssm-agent version {target} is unsupported\n")
            return
        output.info(f"Successfully downloaded updater version {target}\n")
        if target == known:
            output.info(f"amazon-ssm-agent {known} has already been installed, update skipped\n")
        else:
            output.info(f"Updating amazon-ssm-agent from {known} to {target}\n")
            (config.state / VERSION_FILE).write_text(target)
            output.info(f"amazon-ssm-agent updated successfully to {target}\n")
        output.succeed()

    return run


def is_older(version: str, other: str) -> bool:
    """Whether one version comes before another."""
    return [int(part) for part in version.split(".")] < [int(part) for part in other.split(".")]


def installed_version(state_dir: str, original: str) -> str:
    """The version of the agent, after updates."""
    try:
        with open(f"{state_dir}/{VERSION_FILE}", encoding="ascii") as file:
            return file.read().strip() or original
    except OSError:
        return original
