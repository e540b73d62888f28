# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows nodes: our agent says that it runs on Windows, and answers PowerShell scripts from a table.

The table is `options["scripts"]` of the spec: a list of `{pattern, stdout, stderr, rc, seconds, again}`, see
`agent.commands.scripted`. There are no sessions worth having: a shell would be that of this machine.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..model import Endpoints, NodeSpec
from .agent.commands.scripted import check_table
from .init import InitConfig
from .process import ProcessNode
from .supervisor import NodeError


class WindowsNode(ProcessNode):
    """A process node with another agent."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        try:
            check_table(spec.options.get("scripts", ()))
        except ValueError as error:
            raise NodeError(f"{spec.name}: {error}") from error
        super().__init__(spec, lab_dir, endpoints)

    def init_config(self) -> InitConfig:
        config = super().init_config()
        assert config.agent is not None
        return dataclasses.replace(config, agent=dataclasses.replace(config.agent, platform="Windows"))
