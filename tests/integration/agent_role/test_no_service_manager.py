# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where no service manager is, as in a container, the package is installed, and the role says that nothing is started. The tests go on from one another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent_role.conftest import NEW, OLD, Machine, Mirror, changed
from tests.lab import Lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Pid 1 of it starts an agent that no package has brought, so that the role comes over that."""
    made = Machine(lab, "container", mirror, tmp_path_factory.mktemp("container"), kind="process", options={})
    made.node.wait_online()
    yield made
    made.close()


def test_it_installs_and_says_that_the_agent_is_not_started(machine: Machine) -> None:
    run = machine.role(by="session", agent_version=OLD)

    assert changed(run) > 0
    assert machine.version() == f"ii {OLD}-1"
    assert "neither systemd nor Upstart" in run.result("fleet.ssm.agent : Say that the agent is not started")["msg"]
    assert machine.shell("ls -d /run/fleet-ssm-agent 2>/dev/null || true") == ""
    assert changed(machine.role(by="session", agent_version=OLD)) == 0


def test_it_updates(machine: Machine) -> None:
    assert changed(machine.role(by="session")) > 0
    assert machine.version() == f"ii {NEW}-1"


def test_it_removes(machine: Machine) -> None:
    assert changed(machine.role(by="session", agent_state="absent")) > 0
    assert machine.version() == ""
