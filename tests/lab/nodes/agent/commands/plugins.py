# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which plugins a node has: those of the agent on its platform."""

from __future__ import annotations

from ..config import AgentConfig
from .agent_update import update_plugin
from .conditions import KNOWN
from .download import download_content
from .runner import Plugin
from .script import run_power_shell_script, run_shell_script
from .scripted import scripted_plugin
from .subdocument import document_plugin

#: The agent leaves these to the other platform; on Linux it turns down none by its platform.
_NOT_ON_WINDOWS = frozenset({"aws:runShellScript"})


class Plugins:
    """The registry of one node."""

    def __init__(self, config: AgentConfig) -> None:
        self._windows = config.platform == "Windows"
        self._plugins: dict[str, Plugin] = {
            "aws:downloadContent": download_content,
            "aws:runDocument": document_plugin(self),
            "aws:updateSsmAgent": update_plugin(config.available_version),
        }
        if self._windows:
            self._plugins["aws:runPowerShellScript"] = scripted_plugin(config.scripts)
        else:
            self._plugins["aws:runShellScript"] = run_shell_script
            self._plugins["aws:runPowerShellScript"] = run_power_shell_script

    def find(self, name: str) -> Plugin | None:
        return self._plugins.get(name)

    def supported(self, name: str) -> bool:
        return name in KNOWN and not (self._windows and name in _NOT_ON_WINDOWS)
