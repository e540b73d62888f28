# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract with each supported ansible-core: its own code makes commands and payloads, and all of them run warm as they do cold."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm.payload import Recipes, split
from tests.tools.core_wheel import core_wheel

from . import core
from .node import WarmNode
from .test_ends import ENDS, plain
from .test_payload import BECOME, ENVIRONMENT, rebuilt
from .test_probe import compare

pytestmark = pytest.mark.slow

Make = Callable[..., tuple[str, bytes]]

COLLECTIONS = next(folder for folder in Path(core.__file__).parents if (folder / "galaxy.yml").exists()) / "collections"


@pytest.fixture(scope="module", params=["2.18", "2.19", "2.20", "2.21"])
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """What that version of ansible-core makes of a module, its arguments and become."""
    folder = core_wheel(request.param)
    with subprocess.Popen(
        [sys.executable, core.__file__],
        env={**os.environ, "PYTHONPATH": str(folder), "HOME": str(tmp_path_factory.mktemp("home")), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout

        def ask(module: str, arguments: dict[str, Any] | None = None, become: str | None = None, **options: Any) -> tuple[str, bytes]:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps([module, arguments, become, options]).encode() + b"\n")
            process.stdin.flush()
            command, payload = json.loads(process.stdout.readline())
            return command, base64.b64decode(payload)

        assert b'"_ansible_version": "%s.' % request.param.encode() in ask("ping")[1]
        yield ask
        process.stdin.close()


@pytest.mark.parametrize("module", ["command", "stat", "file", "copy", "setup", "apt", "dnf", "package_facts", "service_facts", "user", "probe"])
def test_recognised(make: Make, module: str) -> None:
    for become, many in [(None, [{}]), *BECOME.items()]:
        for options in many:
            command, data = make(module, {"text": "ä'\"\n"}, become, environment=ENVIRONMENT, **options)
            job = split(command, data, Recipes())
            assert job is not None
            assert rebuilt(job) == data
            assert (job.command, job.special) == (command, True)


def test_probe(make: Make, node: WarmNode) -> None:
    for _task in range(2):
        compare(*(run(*make("probe", {"text": "ä'\"\n"})) for run in (node.cold, node.warm)))


@pytest.mark.parametrize(("how", "argument"), [(how, argument) for how, arguments in ENDS.items() for argument in arguments])
def test_end(make: Make, node: WarmNode, how: str, argument: str | None) -> None:
    cold, warm = (run(*make("ends", {"how": how, "argument": argument})) for run in (node.cold, node.warm))
    assert plain(warm) == plain(cold)


def test_respawn(make: Make, node: WarmNode) -> None:
    cold, warm = (run(*make("respawns", {"interpreter": sys.executable})) for run in (node.cold, node.warm))
    assert plain(warm) == plain(cold)
    assert sys.executable.encode() in warm.stdout
