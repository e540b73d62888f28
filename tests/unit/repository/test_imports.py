# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import what: the rules that keep the worker light, the mux apart from Ansible, and protocol cores free of I/O."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGIN_UTILS = REPOSITORY / "plugins" / "plugin_utils"

# What does I/O or reads a clock in Python's library, and the libraries that do so for us.
IMPURE = {"asyncio", "select", "selectors", "socket", "ssl", "subprocess", "threading", "time", "urllib", "websockets", "boto3", "botocore"}

# The parts of protocol cores that are allowed to: one file of I/O stands beside each core.
WITH_IO = {
    "datachannel": {"client.py"},
    "runcommand": {"transfer.py"},  # runs on nodes
    "outputs": {"client.py", "disk.py", "gatherer.py", "recorder.py", "s3.py"},
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Each import of a file as ``(level, module)``; level 0 is an absolute import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute_roots(path: Path) -> set[str]:
    """The top-level packages that a file imports absolutely, but for `urllib.parse`, which is about text alone."""
    return {module.partition(".")[0] for level, module in imports(path) if level == 0 and module != "urllib.parse"}


def files(*folders: str) -> list[Path]:
    """The Python files of folders below plugin_utils; never none."""
    found = [path for folder in folders for path in sorted((PLUGIN_UTILS / folder).rglob("*.py"))]
    assert found, folders
    return found


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh Python has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "collections")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("package", ["boto3", "botocore", "asyncio", "websockets"])
def test_a_worker_does_not_load(package):
    assert package not in loaded_by("import ansible_collections.fleet.ssm.plugins.connection.ssm")


@pytest.mark.parametrize("package", ["boto3", "botocore", "asyncio", "websockets"])
def test_a_playbook_with_the_callback_does_not_load(package):
    assert package not in loaded_by("import ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.recorder")


def test_the_mux_does_not_load_ansible():
    assert "ansible" not in loaded_by("import ansible_collections.fleet.ssm.plugins.plugin_utils.mux.server")


@pytest.mark.parametrize("path", files("."), ids=lambda path: str(path.relative_to(PLUGIN_UTILS)))
def test_plugin_utils_import_each_other_relatively(path):
    assert "ansible_collections" not in absolute_roots(path)


@pytest.mark.parametrize("path", files("mux", "datachannel", "outputs", "runner"), ids=lambda path: str(path.relative_to(PLUGIN_UTILS)))
def test_nothing_of_the_mux_or_of_outputs_imports_ansible(path):
    assert "ansible" not in absolute_roots(path)


@pytest.mark.parametrize("folder", WITH_IO)
def test_a_protocol_core_has_no_io_and_no_clock(folder):
    for path in files(folder):
        if path.name not in WITH_IO[folder]:
            assert not IMPURE & absolute_roots(path), path


def test_the_client_of_the_runner_has_no_io_and_no_clock():
    for name in ("frames.py", "client.py"):
        assert not IMPURE & absolute_roots(PLUGIN_UTILS / "runner" / name), name


@pytest.mark.parametrize("name", ["node.py"])
def test_what_runs_on_a_node_needs_the_standard_library_only_and_is_python_3_6(name):
    path = PLUGIN_UTILS / "runner" / name
    roots = absolute_roots(path)
    assert roots <= set(sys.stdlib_module_names) | {"__future__", "_sha2", "_sha256"}  # one name since Python 3.12, the other before
    assert all(level == 0 for level, _module in imports(path))
    # "from __future__ import annotations" is 3.7: a file for 3.6 cannot have it.
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" and any(alias.name == "annotations" for alias in node.names)
                   for node in ast.parse(path.read_text(encoding="utf-8")).body)
