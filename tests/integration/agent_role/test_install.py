# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on a machine with real systemd and dpkg: from no agent to an updated one, and back to none.

The tests of this file go on from one another, in their order. They need an image of machine nodes, which takes a minute
and the network when it is not there yet.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent_role.conftest import BROKEN, NEW, OLD, Machine, Mirror, changed, refusal
from tests.lab import Lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(lab, "first", mirror, tmp_path_factory.mktemp("first"))
    yield made
    made.close()


def test_check_mode_says_what_would_be_done_and_does_nothing(machine: Machine) -> None:
    run = machine.role("--check", "--diff", agent_version=OLD)

    assert f"install: no agent → {OLD} (deb)" in run.result("fleet.ssm.agent : Say what would be done to the package")["msg"]
    assert changed(run) > 0
    assert machine.version() == ""
    assert machine.shell("ls -d /etc/amazon /run/fleet-ssm-agent 2>/dev/null || true") == ""


def test_it_installs_a_pinned_version_over_ssh_and_the_node_comes_online(machine: Machine) -> None:
    assert changed(machine.role(agent_version=OLD)) > 0

    assert machine.version() == f"ii {OLD}-1"
    machine.node.wait_online()
    machine.ping().check()
    assert changed(machine.role(agent_version=OLD)) == 0
    assert changed(machine.role("--check", agent_version=OLD)) == 0


@pytest.mark.parametrize("route", ["session", "run_command"])
def test_an_update_under_its_own_feet_is_survived(machine: Machine, route: str) -> None:
    machine.role(agent_version=OLD, agent_downgrade=True).check()
    machine.node.wait_online()
    first = machine.shell("systemctl show -p MainPID --value amazon-ssm-agent")

    run = machine.role(by=route)

    assert changed(run) > 0
    assert machine.version() == f"ii {NEW}-1"
    assert machine.shell("systemctl show -p MainPID --value amazon-ssm-agent") != first
    assert machine.shell("ls -d /run/fleet-ssm-agent 2>/dev/null || true") == ""
    machine.ping(by=route).check()
    assert changed(machine.role(by=route)) == 0


def test_an_older_version_is_refused_unless_asked_for(machine: Machine) -> None:
    assert "set agent_downgrade to go back" in refusal(machine.role(agent_version=OLD))
    assert "set agent_downgrade to go back" in refusal(machine.role("--check", agent_version=OLD))
    assert machine.version() == f"ii {NEW}-1"

    assert changed(machine.role(agent_version=OLD, agent_downgrade=True)) > 0
    assert machine.version() == f"ii {OLD}-1"


def test_a_package_with_a_signature_of_someone_else_is_not_installed(machine: Machine, forged: Mirror) -> None:
    before = machine.shell("cat /etc/amazon/ssm/amazon-ssm-agent.json")

    said = refusal(machine.role(agent_mirror=forged.url, agent_command_workers=7))

    assert "has no valid signature" in said and f"{NEW}/debian_amd64/amazon-ssm-agent.deb" in said
    assert machine.version() == f"ii {OLD}-1"
    assert machine.shell("cat /etc/amazon/ssm/amazon-ssm-agent.json") == before


def test_without_a_network_nothing_is_changed(machine: Machine) -> None:
    assert "cannot be read" in refusal(machine.role(agent_mirror="http://127.0.0.1:9", agent_command_workers=7))
    assert "3.3.9.9/debian_amd64/amazon-ssm-agent.deb cannot be read" in refusal(machine.role(agent_version="3.3.9.9"))
    assert machine.version() == f"ii {OLD}-1"


def test_a_half_finished_installation_is_told_and_repaired_also_under_its_own_feet(machine: Machine) -> None:
    assert "could not be installed" in refusal(machine.role(by="session", agent_version=BROKEN))
    assert machine.version() == f"iF {BROKEN}-1"
    machine.node.wait_online()

    assert changed(machine.role(by="session", agent_version=NEW)) > 0
    assert machine.version() == f"ii {NEW}-1"
    machine.node.wait_online()


def test_settings_are_written_and_the_agent_reads_them_and_what_others_set_stays(machine: Machine) -> None:
    machine.role(agent_version=NEW).check()
    machine.node.wait_online()
    machine.shell("sed -i '1a \"Os\": {\"Lang\": \"de-DE\"},' /etc/amazon/ssm/amazon-ssm-agent.json")
    settings = {"agent_command_workers": 7, "agent_identity_order": ["EC2"], "agent_proxy": "http://proxy.invalid:3128", "agent_version": NEW}
    settings["agent_no_proxy"] = ["169.254.169.254", "127.0.0.1"]
    planned = changed(machine.role("--check", by="session", **settings))
    first = machine.shell("systemctl show -p MainPID --value amazon-ssm-agent")

    assert changed(machine.role(by="session", **settings)) >= planned > 0

    written = machine.shell("cat /etc/amazon/ssm/amazon-ssm-agent.json")
    assert all(text in written for text in ('"CommandWorkersLimit": 7', '"EC2"', '"de-DE"'))
    assert "https_proxy=http://proxy.invalid:3128" in machine.shell("systemctl show -p Environment amazon-ssm-agent")
    assert machine.shell("systemctl show -p MainPID --value amazon-ssm-agent") != first
    assert changed(machine.role(by="session", **settings)) == 0
    assert changed(machine.role(by="session", **{**settings, "agent_proxy": ""})) > 0
    assert "proxy" not in machine.shell("systemctl show -p Environment amazon-ssm-agent")


def test_a_stopped_agent_is_started(machine: Machine) -> None:
    machine.shell("systemctl stop amazon-ssm-agent")

    assert changed(machine.role("--check", agent_version=NEW)) == 1
    assert changed(machine.role(agent_version=NEW)) > 0
    machine.node.wait_online()


def test_absent_removes_it_also_under_its_own_feet(machine: Machine) -> None:
    assert changed(machine.role("--check", by="session", agent_state="absent")) == 1
    assert machine.version() == f"ii {NEW}-1"

    assert changed(machine.role(by="session", agent_state="absent")) > 0

    assert machine.version() == ""
    assert machine.shell("ls -d /etc/amazon/ssm /var/lib/amazon/ssm 2>/dev/null || true") == ""
    assert changed(machine.role(agent_state="absent")) == 0
