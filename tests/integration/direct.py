# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin as a worker uses it, without a playbook around it: commands in, bytes out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import become_loader, connection_loader


def _decides_about_aws(name: str) -> bool:
    return name.startswith(("AWS_", "FLEET_SSM_")) or name.lower().endswith(("_proxy", "_ca_bundle")) or name in ("SSL_CERT_FILE", "SSL_CERT_DIR")


class DirectConnection:
    """A connection plugin with its options set from host variables. Within the ``with`` block its environment is the process's."""

    def __init__(self, home: Path, environment: Mapping[str, str], variables: Mapping[str, Any]) -> None:
        self._environment = {**environment, "HOME": str(home), "USER": os.environ.get("USER", "root")}
        self.variables = {"inventory_hostname": "node", "ansible_host": "node", **variables}

    def __enter__(self) -> DirectConnection:
        self._saved = dict(os.environ)
        for name in [name for name in os.environ if _decides_about_aws(name)]:
            del os.environ[name]  # whoever runs the tests may have settings of their own
        os.environ.update(self._environment)
        context = PlayContext()
        self.plugin = connection_loader.get("fleet.ssm.ssm", context)
        self.plugin.set_options(task_keys={}, var_options=self.variables)
        method = self.variables.get("ansible_become_method")
        if method:
            become = become_loader.get(method)
            become.set_options(task_keys={}, var_options=self.variables)
            self.plugin.set_become_plugin(become)
            context.become = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.plugin.close()
        os.environ.clear()
        os.environ.update(self._saved)

    def execute(self, command: str, stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run a command; ``(exit status, stdout, stderr)``, the bytes as the node wrote them."""
        status, stdout, stderr = self.plugin.exec_command(command, in_data=stdin, sudoable=False)
        return status, stdout, stderr

    def become(self, command: str) -> tuple[int, bytes, bytes]:
        """Run a command through the become plugin, as an action plugin does."""
        wrapped = self.plugin.become.build_become_command(command, self.plugin._shell)
        status, stdout, stderr = self.plugin.exec_command(wrapped, in_data=None, sudoable=True)
        return status, stdout, stderr
