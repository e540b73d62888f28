# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules called in the tests' own process: what they say is the same, and a call costs no second for their imports.

Not for what is about the process itself (its environment, signals, what it prints), nor for several at once.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

from ansible.module_utils.testing import patch_module_args

from tests.integration.modules.local import Local


def run_module(name: str, options: Mapping[str, Any], environment: Mapping[str, str], *, check: bool = False, diff: bool = False) -> dict[str, Any]:
    """What a module of this collection returns, however it ends.

    :param environment: what the process has in place of all that is about AWS.
    """
    module = importlib.import_module(f"ansible_collections.fleet.ssm.plugins.modules.{name}")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "FLEET_SSM_"))}
    printed = io.StringIO()
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
    with (
        mock.patch.dict(os.environ, {**kept, **environment}, clear=True), patch_module_args(arguments), contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):  # fmt: skip
        module.main()
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


class Inside(Local):
    """Calls modules so."""

    def result(self, module: str, *modes: str, **options: Any) -> dict[str, Any]:
        return run_module(module, options, self.lab.env(), check="--check" in modes, diff="--diff" in modes)
