# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker of each task need not do: parse the plugin's documentation, and compile the plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.controller import COLLECTIONS
from tests.tools.connection_options import FILE, documented

LOAD = """
import json, sys
import yaml
from ansible import constants
from ansible.plugins.loader import connection_loader, init_plugin_loader

init_plugin_loader()
parsed, load = [], yaml.load
yaml.load = lambda text, *args, **kwargs: (parsed.append(str(text)), load(text, *args, **kwargs))[1]
found = connection_loader.get_with_context("fleet.ssm.ssm", class_only=True)
assert found.object is not None
((name, options),) = constants.config._plugins["connection"].items()
mine = [module for name, module in sorted(sys.modules.items()) if name.startswith("ansible_collections.fleet.ssm.plugins.plugin_utils.")]
print(json.dumps({
    "options": options, "parsed": [text for text in parsed if "short_description" in text],
    "cached": {module.__name__.rpartition("plugin_utils.")[2]: getattr(module, "__cached__", None) for module in mine},
}))
"""


def load(tmp_path: Path) -> dict[str, Any]:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_file_of_options_is_the_documentation() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == documented(), "make options writes it anew"


def test_core_takes_the_options_without_parsing_the_documentation(tmp_path: Path) -> None:
    found = load(tmp_path)
    assert found["options"] == documented()
    assert found["parsed"] == []


def test_python_keeps_the_bytecode_of_what_a_worker_loads(tmp_path: Path) -> None:
    cached = load(tmp_path)["cached"]
    for name in ("connection", "mux.client", "mux.protocol", "mux.request", "mux.start"):
        assert Path(cached[name]).is_file(), name
        assert Path(cached[name]).is_relative_to(tmp_path)
