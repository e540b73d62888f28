# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run on the controller, as a play on localhost runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.controller import Controller, Run
from tests.lab import Lab

OTHER_ACCOUNT = "222222222222"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/FleetOperator"

Module = Callable[..., dict[str, Any]]


class Local:
    """A controller whose only host is itself; calls one module at a time."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.lab = lab
        self.policy: dict[str, Any] = {}
        self.controller = Controller(folder, lab.env())
        self.controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})

    def run(self, module: str, *arguments: str, environment: dict[str, str] | None = None, keywords: dict[str, Any] | None = None, **options: Any) -> Run:
        task = {"name": "it", f"fleet.ssm.{module}": options, **(keywords or {})}
        return self.controller.tasks(task, arguments=arguments, nodes_environment=environment)

    def __call__(self, module: str, *arguments: str, **options: Any) -> dict[str, Any]:
        """The result of a module that succeeds."""
        result = self.run(module, *arguments, **options).result("it")
        assert not result.get("failed"), result
        return result

    def fail(self, module: str, *arguments: str, **options: Any) -> dict[str, Any]:
        """The result of one that fails, and of nothing worse."""
        run = self.run(module, *arguments, **options)
        result = run.result("it")
        assert result.get("failed"), result
        assert "Traceback" not in str(result.get("msg")), result
        return result
