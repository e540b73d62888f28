# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-core's own integration target `connection`, from its source distribution of the version that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import BUCKET, connection_variables
from tests.integration.controller import Controller
from tests.lab import Lab
from tests.tools.core_source import core_source


@pytest.fixture(scope="session")
def target() -> Path:
    """The folder of the target's playbooks."""
    return core_source() / "test" / "integration" / "targets" / "connection"


@pytest.fixture
def as_root(own_documents: None, own_controller: Controller) -> Controller:
    """A controller whose mux has not seen yet that there were no documents of the collection."""
    return own_controller


USERS: dict[str, tuple[str, dict[str, Any]]] = {
    "run-command": ("controller", {"ansible_ssm_route": "run_command", "ansible_ssm_bucket": BUCKET}),
    "as-ssm-user": ("controller", {}),
    "become": ("controller", {"ansible_become": True}),
    "as-root": ("as_root", {"ansible_ssm_run_as": "root"}),
}
SOON = {("as-ssm-user", True)}
"""In the first run; all users and both ways in the long one."""


@pytest.mark.parametrize(
    ("user", "pipelining"),
    [
        pytest.param(user, way, id=f"{user}-{'' if way else 'no-'}pipelining", marks=() if (user, way) in SOON else pytest.mark.slow)
        for user in USERS
        for way in (True, False)
    ],
)
def test_connection_target(
    lab: Lab, bucket: str, request: pytest.FixtureRequest, target: Path, tmp_path: Path, user: str, pipelining: bool
) -> None:
    fixture, variables = USERS[user]
    controller: Controller = request.getfixturevalue(fixture)
    group = {
        "hosts": {f"ssm-{state}": {"ansible_pipelining": state == "pipelining"} for state in ["pipelining" if pipelining else "no-pipelining"]},
        "vars": {**connection_variables(lab, "web-1"), "ansible_python_interpreter": "/usr/bin/python3", **variables},
    }
    controller.inventory.write_text(yaml.safe_dump({"all": {"children": {"ssm": group}}}), encoding="utf-8")
    work = tmp_path / "target"
    work.mkdir()
    for source in target.iterdir():
        (work / source.name).symlink_to(source)
    done = subprocess.run(
        ["bash", str(target / "test.sh"), "-e", "target_hosts=ssm", "-e", "action_prefix=", "-e", f"local_tmp={tmp_path}/local",
         "-e", "remote_tmp=/tmp/ansible-remote"],
        cwd=work, env={**controller.environment, "INVENTORY": str(controller.inventory), "ANSIBLE_STDOUT_CALLBACK": "default"},
        text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
