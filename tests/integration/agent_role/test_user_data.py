# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script for new instances: EC2 takes it, and a machine that runs it becomes a node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent_role.conftest import NEW, REGION, Machine, Mirror, refusal
from tests.integration.controller import Controller, Run
from tests.lab import Lab

#: What shellcheck warns of: what is reported is found by name, an order is there at run time only, versions are told apart as words, and /run is there.
MEANT = "SC2034,SC2154,SC1091,SC2086,SC2174"


def write(folder: Path, **variables: Any) -> Run:
    """Let the role write it, without any node."""
    controller = Controller(folder, {})
    controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})
    given = {"agent_region": REGION, "agent_user_data_dest": str(folder / "script"), **variables}
    return controller.tasks({"name": "The role", "ansible.builtin.include_role": {"name": "fleet.ssm.agent", "tasks_from": "user_data"}, "vars": given})


def test_the_script_is_short_enough_and_knows_the_published_keys_and_the_regions_place(tmp_path: Path) -> None:
    write(tmp_path, agent_endpoints={"ssm": "vpce-0.ssm.eu-central-1.vpce.amazonaws.com"}).check()

    script = (tmp_path / "script").read_text()
    assert script.startswith("#!/bin/sh\n") and len(script) <= 16384
    subprocess.run([str(Path(sys.executable).parent / "shellcheck"), "--exclude", MEANT, str(tmp_path / "script")], check=True)
    assert script.count("<<'KEY'") == 2
    assert '"Endpoint": "vpce-0.ssm.eu-central-1.vpce.amazonaws.com"' in script


@pytest.mark.parametrize(
    ("region", "place"),
    [
        ("eu-central-1", "https://amazon-ssm-eu-central-1.s3.eu-central-1.amazonaws.com"),
        ("cn-north-1", "https://amazon-ssm-cn-north-1.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_packages_come_from_the_regions_bucket(tmp_path: Path, region: str, place: str) -> None:
    write(tmp_path, agent_region=region).check()

    functions = (tmp_path / "script").read_text().rpartition("main all")[0]
    done = subprocess.run(["sh"], input=f'{functions}\nkind=rpm\nlocate\necho "$base/latest/$folder/$file"', check=True, capture_output=True, text=True)

    assert done.stdout.startswith(f"{place}/latest/linux_") and done.stdout.endswith("/amazon-ssm-agent.rpm\n")


def test_an_activation_is_not_for_user_data(tmp_path: Path) -> None:
    assert "is not for it" in refusal(write(tmp_path, agent_activation_id="1", agent_activation_code="2"))
    assert not (tmp_path / "script").exists()


@pytest.fixture
def machine(lab: Lab, mirror: Mirror, tmp_path: Path) -> Iterator[Machine]:
    made = Machine(lab, "new", mirror, tmp_path / "new")
    yield made
    made.close()


@pytest.mark.slow
def test_a_machine_that_runs_it_becomes_a_node(machine: Machine, tmp_path: Path) -> None:
    lab = machine.lab
    write(
        tmp_path, agent_mirror=machine.mirror.url, agent_public_keys=machine.mirror.key, agent_command_workers=3,
        agent_endpoints={"ssm": lab.https_url, "ssmmessages": lab.https_url},
    ).check()  # fmt: skip

    # As cloud-init runs it: a unit's process, without a terminal.
    done = machine.node.run(f"cat > /root/script <<'SCRIPT'\n{(tmp_path / 'script').read_text()}\nSCRIPT\nsystemd-run -q --wait --pipe sh /root/script")

    assert json.loads(done.stdout.splitlines()[-1])["installed"] == NEW
    machine.node.wait_online()
    machine.ping().check()
    assert '"CommandWorkersLimit": 3' in machine.shell("cat /etc/amazon/ssm/amazon-ssm-agent.json")
