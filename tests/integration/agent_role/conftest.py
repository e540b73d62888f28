# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines without an agent, a download location with packages of the lab's own, and the role applied to them by SSH or Systems Manager."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import Controller, Run, stop_mux
from tests.lab import Lab, LabNode
from tests.lab.agent_package import Signer, build_deb, publish

REGION = "eu-central-1"
BUCKET = f"amazon-ssm-{REGION}"
OLD, NEW = "3.3.1.0", "3.3.2.0"
BROKEN = "3.3.3.0"
"""Its installation stops half-way: a script of the package fails."""


@dataclass(frozen=True)
class Mirror:
    """Where packages are, and by whom they are signed."""

    url: str
    key: str


@pytest.fixture(scope="package")
def lab() -> Iterator[Lab]:
    """A lab of its own, without nodes."""
    with Lab([]) as running:
        yield running


@pytest.fixture(scope="package")
def packages() -> dict[str, bytes]:
    """By version."""
    return {BROKEN: build_deb(BROKEN, first="exit 1"), OLD: build_deb(OLD), NEW: build_deb(NEW)}


@pytest.fixture(scope="package")
def mirror(lab: Lab, packages: dict[str, bytes]) -> Mirror:
    """The region's bucket, which anyone may read."""
    with Signer() as signer:
        publish(lab.client("s3", region=REGION), BUCKET, REGION, packages, signer)
        return Mirror(f"{lab.api_url}/{BUCKET}", signer.public_key())


@pytest.fixture(scope="package")
def like_aws(lab: Lab, packages: dict[str, bytes]) -> Mirror:
    """The same packages, signed by a key that is made like those of AWS."""
    with Signer("SHA1") as signer:
        publish(lab.client("s3", region=REGION), "like-aws", REGION, packages, signer)
        return Mirror(f"{lab.api_url}/like-aws", signer.public_key())


@pytest.fixture(scope="package")
def forged(lab: Lab, packages: dict[str, bytes]) -> Mirror:
    """The same packages, signed by someone else."""
    with Signer() as signer:
        publish(lab.client("s3", region=REGION), "forged", REGION, packages, signer)
        return Mirror(f"{lab.api_url}/forged", signer.public_key())


class Machine:
    """A machine that had no agent, and a controller that applies the role to it.

    :param identity: the variables by which an inventory says who calls AWS for the node.
    """

    def __init__(self, lab: Lab, name: str, mirror: Mirror, folder: Path, identity: Mapping[str, str] | None = None, **values: Any) -> None:
        self.lab = lab
        self._identity = identity or {}
        self.node: LabNode = lab.add({"name": name, "kind": "machine", "region": REGION, "options": {"bare": True}, **values})[0]
        self.mirror = mirror
        self.controller = Controller(folder, lab.env())
        self._ssh = self._open_ssh(folder / "key")

    def close(self) -> None:
        stop_mux(self.controller.home, self.lab.env())
        self.node.terminate()

    def role(self, *arguments: str, by: str = "ssh", tasks_from: str = "main", node_id: str | None = None, **variables: Any) -> Run:
        """Apply it, by `ssh` or a route of the connection plugin (`session`, `run_command`)."""
        self._reach_by(by, node_id or self.node.node_id)
        given = {
            "agent_region": REGION, "agent_mirror": self.mirror.url, "agent_public_keys": self.mirror.key,
            "agent_endpoints": {"ssm": self.lab.https_url, "ssmmessages": self.lab.https_url}, **variables,
        }  # fmt: skip
        include = {"name": "The role", "ansible.builtin.include_role": {"name": "fleet.ssm.agent", "tasks_from": tasks_from}, "vars": given}
        return self.controller.tasks(include, arguments=arguments)

    def ping(self, by: str = "session") -> Run:
        """Whether the node answers."""
        self._reach_by(by, self.node.node_id)
        return self.controller.tasks({"name": "Ping", "ansible.builtin.ping": {}})

    def version(self) -> str:
        """What dpkg says, with the state of the package: `ii 3.3.1.0-1`."""
        return self.shell("dpkg-query -W -f='${db:Status-Abbrev}${Version}' amazon-ssm-agent 2>/dev/null || true")

    def shell(self, script: str) -> str:
        """Past SSH and SSM."""
        return self.node.run(script).stdout.strip()

    def _reach_by(self, way: str, node_id: str) -> None:
        ssm = {"ansible_connection": "fleet.ssm.ssm", "ansible_ssm_instance_id": node_id, "ansible_ssm_region": REGION}
        by_way = {"ssh": self._ssh, "session": ssm, "run_command": {**ssm, "ansible_ssm_route": "run_command"}}
        self.controller.hosts({self.node.name: {**by_way[way], **self._identity}}, ansible_python_interpreter="/usr/bin/python3")

    def _open_ssh(self, key: Path) -> dict[str, Any]:
        """SSH without a port, since the machine's network is the host's: an sshd for each connection, on its stdin."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text()
        self.shell(f"ssh-keygen -A; mkdir -p /run/sshd /root/.ssh; echo {shlex.quote(public)} > /root/.ssh/authorized_keys")
        server = shlex.join(self.node.enter_command("/usr/sbin/sshd", "-i"))
        options = ["UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", f"ProxyCommand={server}"]
        return {
            "ansible_connection": "ansible.builtin.ssh", "ansible_user": "root", "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=20s",
            "ansible_ssh_common_args": " ".join(f"-o {shlex.quote(option)}" for option in options),
        }  # fmt: skip


def changed(run: Run) -> int:
    """How many tasks of a run that succeeded changed something."""
    (stats,) = run.check().stats.values()
    return stats["changed"]


def refusal(run: Run) -> str:
    """The message of a run that failed."""
    assert run.returncode != 0
    return " ".join(str(result["msg"]) for _task, _host, result in run.tasks() if result.get("failed") and "msg" in result)
