# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads and commands as an ansible-core makes them, by its own code. Also a program for another ansible-core: see ``main``."""

from __future__ import annotations

import base64
import inspect
import json
import shlex
import sys
from pathlib import Path
from typing import Any

MODULES = Path(__file__).parent / "modules"
INTERPRETER = "/usr/bin/python3"

_ARGUMENTS = {
    "check_mode": False, "no_log": False, "debug": False, "diff": False, "verbosity": 0, "syslog_facility": "LOG_USER",
    "selinux_special_fs": ["fuse", "nfs", "vboxsf", "ramfs", "9p", "vfat"], "socket": None, "shell_executable": "/bin/sh", "keep_remote_files": False,
    "tmpdir": None, "remote_tmp": "~/.ansible/tmp", "ignore_unknown_opts": False, "target_log_info": None,
}  # fmt: skip


def payload(module: str, arguments: dict[str, Any] | None = None, interpreter: str = INTERPRETER) -> bytes:
    """What core sends for one of its own modules, or for a file of ours."""
    import ansible
    from ansible.executor import module_common
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader, module_loader
    from ansible.template import Templar

    if not getattr(init_plugin_loader, "was_called", False):
        init_plugin_loader([])
        init_plugin_loader.was_called = True
    file = MODULES / f"{module}.py"
    path = str(file) if file.exists() else module_loader.find_plugin(f"ansible.legacy.{module}", mod_type=".py")
    values = {f"_ansible_{name}": value for name, value in _ARGUMENTS.items()}
    values |= {"_ansible_version": ansible.__version__, "_ansible_module_name": f"ansible.legacy.{module}"}
    if ansible.__version__ >= "2.19":
        values["_ansible_tracebacks_for"] = []
    offered = {
        "module_name": f"ansible.legacy.{module}",
        "module_path": path,
        "module_args": {**(arguments or {}), **values},
        "templar": Templar(loader=DataLoader()),
        "task_vars": {"ansible_python_interpreter": interpreter},
        "module_compression": "ZIP_DEFLATED",
        "environment": {},
    }
    taken = inspect.signature(module_common.modify_module).parameters
    result = module_common.modify_module(**{name: value for name, value in offered.items() if name in taken})
    data = getattr(result, "b_module_data", None) or result[0]
    assert isinstance(data, bytes)
    return data


def command(become: str | None = None, *, environment: dict[str, str] | None = None, interpreter: str = INTERPRETER, **options: str) -> str:
    """The command line that core sends with it: ActionBase's own steps, with its shell and become plugins."""
    import ansible
    from ansible.plugins.loader import become_loader, init_plugin_loader, shell_loader

    if not getattr(init_plugin_loader, "was_called", False):
        init_plugin_loader([])
        init_plugin_loader.was_called = True
    shell = shell_loader.get("sh")
    shell.set_options()
    shell.executable = "/bin/sh"
    text = shell.build_module_command(shell.env_prefix(**(environment or {})), f"#!{interpreter}", "", arg_path=None).strip()
    if become:
        plugin = become_loader.get(become)
        plugin.set_options(direct=options)
        text = plugin.build_become_command(text, shell)
    if ansible.__version__ < "2.21":
        text = shell.append_command(text, "sleep 0")
    return f"/bin/sh -c {shlex.quote(text)}"


def main() -> None:
    """Requests as JSON on standard input, one a line: [module, arguments, become, options]; answers in the same way."""
    for line in sys.stdin:
        module, arguments, become, options = json.loads(line)
        print(json.dumps([command(become, **options), base64.b64encode(payload(module, arguments)).decode()]), flush=True)


if __name__ == "__main__":
    main()
