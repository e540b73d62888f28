# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient, RunnerSettings

from .local_node import LocalNode


@cache
def interpreters() -> dict[str, str]:
    """Path of each Python of this machine, by its minor version; python3 always."""
    candidates = [*Path.home().glob(".pyenv/versions/3.*/bin/python"), *Path("/usr/bin").glob("python3.[0-9]*[0-9]"), Path(sys.executable)]
    found = {}
    for path in candidates:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = subprocess.run([path, "-ISc", code], capture_output=True, text=True, check=False).stdout.strip()
        if version:
            found[version] = str(path)
    return found


@pytest.fixture(params=["python3", "3.6", "3.8", "3.11", "3.13"])
def interpreter(request: pytest.FixtureRequest) -> str | None:
    if request.param == "python3":
        return None
    if request.param not in interpreters():
        pytest.skip(f"no Python {request.param} here")
    return interpreters()[request.param]


@pytest.fixture
def node() -> Iterator[LocalNode]:
    """A runner of the default interpreter, output over the PTY."""
    with LocalNode(RunnerClient()) as node:
        yield node


@pytest.fixture
def fast_node() -> Iterator[LocalNode]:
    """The same with a FIFO as carrier, in use."""
    with LocalNode(RunnerClient(), carrier=True) as node:
        node.until(lambda: node.ready is not None)
        yield node


@pytest.fixture(params=["dash", "busybox", "bash"])
def sh_node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalNode]:
    """A node with no Python that the session's command could find; with busybox, nothing but its applets."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")
    path = tmp_path / "bin"
    path.mkdir()
    if request.param == "busybox":
        subprocess.run([shell, "--install", "-s", path], check=True)
    else:
        for folder in ("/usr/bin", "/bin"):
            for program in os.scandir(folder):
                if "python" not in program.name and not (path / program.name).is_symlink():
                    (path / program.name).symlink_to(program.path)
        (path / "sh").unlink()
        (path / "sh").symlink_to(shell)
    monkeypatch.setattr("ansible_collections.fleet.ssm.plugins.plugin_utils.runner.bootstrap.INTERPRETERS", ("python3", "python"))
    with LocalNode(RunnerClient(RunnerSettings(dead_man=30)), env={"PATH": str(path)}, shell=[str(path / "sh")]) as node:
        node.until(lambda: node.ready is not None)
        yield node
