# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules run on the controller: most as Ansible runs the module's own process, which takes a third of a play's time; some by a play on localhost."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from tests.integration.controller import COLLECTIONS, Controller, Run
from tests.lab import Lab

OTHER_ACCOUNT = "222222222222"
ROLE = f"arn:aws:iam::{OTHER_ACCOUNT}:role/FleetOperator"
#: What ansible-playbook's arguments are to a module.
_MODES = {"--check": "_ansible_check_mode", "--diff": "_ansible_diff"}


class Local:
    """A controller whose only host is itself; calls one module at a time."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.lab = lab
        self.policy: dict[str, Any] = {}
        self.controller = Controller(folder, lab.env())
        self.controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})

    def play(self, module: str, *arguments: str, **options: Any) -> Run:
        """A play of one task, named ``it``."""
        return self.controller.tasks({"name": "it", f"fleet.ssm.{module}": options}, arguments=arguments)

    def result(self, module: str, *modes: str, **options: Any) -> dict[str, Any]:
        """What the module itself returns, however it ends; `modes` are ``--check`` and ``--diff``."""
        given = {"ANSIBLE_MODULE_ARGS": {**options, **{_MODES[mode]: True for mode in modes}}}
        done = subprocess.run(
            [sys.executable, "-m", f"ansible_collections.fleet.ssm.plugins.modules.{module}"],
            env={**self.controller.environment, "PYTHONPATH": str(COLLECTIONS)},
            cwd=self.controller.folder, input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def __call__(self, module: str, *modes: str, **options: Any) -> dict[str, Any]:
        """The result of a module that succeeds."""
        result = self.result(module, *modes, **options)
        assert not result.get("failed"), result
        return result

    def pause_while(self, running: Future[Any], seconds: float = 0.1) -> None:
        """A pause between looks, while a module runs in a thread; raises what it raises if it has ended."""
        if wait([running], timeout=seconds).done:
            raise AssertionError(f"it has ended: {running.result()}")

    def fail(self, module: str, *modes: str, **options: Any) -> dict[str, Any]:
        """The result of one that fails, and of nothing worse."""
        result = self.result(module, *modes, **options)
        assert result.get("failed"), result
        assert "Traceback" not in str(result.get("msg")), result
        return result
