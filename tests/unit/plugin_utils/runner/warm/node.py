# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of which modules are asked in both ways."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm import payload
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm.requests import WarmRequests

from ..local_node import LocalNode, Result
from . import core


class WarmNode(LocalNode):
    def __init__(self, **options: Any) -> None:
        super().__init__(RunnerClient(), carrier=True, **options)
        self.requests = WarmRequests(self.client)
        self.recipes = payload.Recipes()

    def cold(self, command: str, stdin: bytes, **options: Any) -> Result:
        return self.run(command, stdin, **options)

    def submit(self, command: str, stdin: bytes, **options: Any) -> int:
        job = payload.split(command, stdin, self.recipes)
        assert job is not None
        return self.requests.submit(job, **options)

    def warm(self, command: str, stdin: bytes, **options: Any) -> Result:
        id_ = self.submit(command, stdin, **options)
        self.client.stdin_eof(id_)
        return self.wait(id_)

    def both(self, module: str, arguments: dict[str, Any] | None = None, become: str | None = None, **options: Any) -> tuple[Result, Result]:
        """The module run cold and warm, each with the command and the payload of a task of its own."""
        results = []
        for run in (self.cold, self.warm):
            results.append(run(core.command(become, **options), core.payload(module, arguments)))
        return results[0], results[1]
