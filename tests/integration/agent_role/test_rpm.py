# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on a machine with real systemd and rpm. The tests go on from one another, in their order.

The machine is a Debian on which rpm holds what there is: its dpkg has forgotten all, as on a Fedora where somebody builds
for Debian, and rpm knows of one package, which stands for the system.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent_role.conftest import NEW, OLD, REGION, Machine, Mirror, changed, refusal
from tests.lab import Lab
from tests.lab.agent_package import RPM, Signer, build_rpm, publish

pytestmark = pytest.mark.slow

REFUSED, LAME, CUT = "3.3.3.0", "3.3.4.0", "3.3.5.0"
"""One whose %pre fails, one whose %post does, and one whose update is cut off when its files are there and the old ones too."""

_SYSTEM = """
mv /var/lib/dpkg/status /var/lib/dpkg/status-of-debian
touch /var/lib/dpkg/status
cd /root
cat > system.spec <<'SPEC'
Name: system
Version: 1
Release: 1
Summary: What the agent's scripts need
License: GPLv3+
BuildArch: noarch
Provides: /bin/sh
%description
What the agent's scripts need.
%files
SPEC
rpmbuild -bb --quiet system.spec
rpm --install rpmbuild/RPMS/noarch/system-1-1.noarch.rpm
"""


@pytest.fixture(scope="module")
def packages(lab: Lab) -> dict[str, bytes]:
    """By version. A machine has rpmbuild."""
    node = lab.add({"name": "builder", "kind": "machine", "region": REGION, "options": {"bare": True}})[0]
    shell = node.enter_command("sh", "-ec")
    try:
        return {
            REFUSED: build_rpm(REFUSED, shell, before="exit 1"),
            LAME: build_rpm(LAME, shell, after="exit 1"),
            CUT: build_rpm(CUT, shell, after="kill -9 $PPID"),
            OLD: build_rpm(OLD, shell),
            NEW: build_rpm(NEW, shell),
        }
    finally:
        node.terminate()


@pytest.fixture(scope="module")
def mirror(lab: Lab, packages: dict[str, bytes]) -> Mirror:
    with Signer() as signer:
        publish(lab.client("s3", region=REGION), "rpms", REGION, packages, signer, RPM)
        return Mirror(f"{lab.api_url}/rpms", signer.public_key())


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(lab, "rpms", mirror, tmp_path_factory.mktemp("rpms"))
    made.shell(_SYSTEM)
    yield made
    made.close()


def versions(machine: Machine) -> list[str]:
    """Those that rpm has in its database."""
    return machine.shell("rpm --query --queryformat '%{VERSION} ' amazon-ssm-agent | grep -v 'not installed' || true").split()


def pid(machine: Machine) -> str:
    """Of the agent that runs."""
    return machine.shell("systemctl show --property MainPID --value amazon-ssm-agent")


def test_a_pinned_version_is_installed_and_the_node_comes_online(machine: Machine) -> None:
    run = machine.role("--check", agent_version=OLD)
    assert f"install: no agent → {OLD} (rpm)" in run.result("fleet.ssm.agent : Say what would be done to the package")["msg"]
    assert versions(machine) == []

    assert changed(machine.role(agent_version=OLD)) > 0

    assert versions(machine) == [OLD]
    assert machine.shell("systemctl is-enabled amazon-ssm-agent") == "enabled"
    machine.node.wait_online()
    machine.ping().check()
    assert changed(machine.role(agent_version=OLD)) == 0


def test_an_update_under_its_own_feet_is_survived(machine: Machine) -> None:
    first = pid(machine)

    assert changed(machine.role(by="session")) > 0

    assert versions(machine) == [NEW]
    assert pid(machine) != first
    machine.ping().check()
    assert changed(machine.role(by="session")) == 0


def test_an_older_version_is_refused_unless_asked_for(machine: Machine) -> None:
    assert "set agent_downgrade to go back" in refusal(machine.role(agent_version=OLD))
    assert versions(machine) == [NEW]

    assert changed(machine.role(agent_version=OLD, agent_downgrade=True)) > 0
    assert versions(machine) == [OLD]


def test_a_package_with_a_signature_of_someone_else_is_not_installed(machine: Machine) -> None:
    with Signer() as other:
        said = refusal(machine.role(agent_public_keys=other.public_key()))

    assert "has no valid signature" in said and f"{NEW}/linux_amd64/amazon-ssm-agent.rpm" in said
    assert versions(machine) == [OLD]


def test_one_that_refuses_to_be_installed_leaves_the_old_one_running(machine: Machine) -> None:
    first = pid(machine)

    assert "could not be installed" in refusal(machine.role(by="session", agent_version=REFUSED))

    assert versions(machine) == [OLD]
    assert pid(machine) == first
    machine.ping().check()


def test_one_that_fails_once_it_is_installed_runs(machine: Machine) -> None:
    first = pid(machine)

    assert changed(machine.role(agent_version=LAME)) > 0

    assert versions(machine) == [LAME]
    assert pid(machine) not in ("0", first)
    machine.role(agent_version=OLD, agent_downgrade=True).check()


def test_an_update_that_was_cut_off_is_told_and_repaired(machine: Machine) -> None:
    assert "could not be installed" in refusal(machine.role(by="session", agent_version=CUT))
    assert sorted(versions(machine)) == [OLD, CUT]

    run = machine.role("--check", by="session", agent_version=NEW)
    assert "repair: " in run.result("fleet.ssm.agent : Say what would be done to the package")["msg"]
    assert changed(machine.role(by="session", agent_version=NEW)) > 0

    assert versions(machine) == [NEW]
    machine.ping().check()
    assert changed(machine.role(agent_version=NEW)) == 0


def test_absent_removes_it_also_after_an_update_that_was_cut_off(machine: Machine) -> None:
    assert "could not be installed" in refusal(machine.role(agent_version=CUT))
    assert len(versions(machine)) == 2

    assert changed(machine.role(by="session", agent_state="absent")) > 0

    assert versions(machine) == []
    assert machine.shell("ls -d /etc/amazon/ssm /var/lib/amazon/ssm /usr/bin/amazon-ssm-agent 2>/dev/null || true") == ""
    assert changed(machine.role(agent_state="absent")) == 0
