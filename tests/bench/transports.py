# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to a node that are compared: for each the inventory, the environment, and what of it stays between plays."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.lab import Lab

from . import processes
from .nodes import USER, BenchNode
from .relay import Network

PERSIST = 900
"""Seconds that masters and muxes stay: longer than the slowest play between two uses."""

PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Transport:
    """One of the compared ways."""

    name: str
    home: Path  #: its own, so that its sockets can be told from others'
    environment: dict[str, str] = field(default_factory=dict)
    on_session: bool = False
    counts_wire: bool = True

    def variables(self, node: BenchNode) -> dict[str, Any]:
        """Inventory variables of a node."""
        raise NotImplementedError

    def node_processes(self, node: BenchNode) -> set[int] | None:
        """What it has running on a node now; None if it leaves nothing there between plays."""
        return None

    def background(self) -> list[psutil.Process]:
        """What it has running on the controller between plays."""
        return processes.background(f"{self.home}/")

    def forget(self) -> None:
        """End what stays between plays."""
        left = self.background()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(left, timeout=20)


class Local(Transport):
    """No way at all: what Ansible and Python take by themselves."""

    def variables(self, node: BenchNode) -> dict[str, Any]:
        return {"ansible_connection": "local", "ansible_python_interpreter": PYTHON, "folder": f"{self.home}/{node.node.name}"}


class Ssh(Transport):
    """ansible.builtin.ssh with ControlPersist and pipelining."""

    def variables(self, node: BenchNode) -> dict[str, Any]:
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": node.ssh_port,
            # Fifty key exchanges at once take two cores longer than the usual ten seconds.
            "ansible_ssh_timeout": 60,
            "ansible_ssh_retries": 3,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.home.parent / "user"),
            "ansible_ssh_args": f"-F none -o ControlMaster=auto -o ControlPersist={PERSIST}s",
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ansible_python_interpreter": PYTHON,
            "folder": "/var/tmp/fleet-bench",
        }

    def node_processes(self, node: BenchNode) -> set[int] | None:
        return node.ssh_processes()


class Mitogen(Ssh):
    """mitogen_linear over ssh. It opens its connection anew in each play and leaves nothing behind."""

    def node_processes(self, node: BenchNode) -> set[int] | None:
        return None

    def variables(self, node: BenchNode) -> dict[str, Any]:
        return {**super().variables(node), "ansible_ssh_args": "-F none -o ControlMaster=no"}


class Session(Transport):
    """fleet.ssm.ssm."""

    document: str | None = None

    def variables(self, node: BenchNode) -> dict[str, Any]:
        return {
            "ansible_connection": "fleet.ssm.ssm",
            "ansible_ssm_instance_id": node.node.node_id,
            "ansible_ssm_region": node.node.region,
            "ansible_ssm_control_persist": PERSIST,
            "ansible_python_interpreter": PYTHON,
            "folder": "/var/tmp/fleet-bench",
            **({"ansible_ssm_document": self.document} if self.document else {}),
        }

    def node_processes(self, node: BenchNode) -> set[int] | None:
        return node.session_processes()


class SessionPublic(Session):
    """fleet.ssm.ssm in an account without the collection's own documents."""

    document = "AWS-StartInteractiveCommand"


def mitogen_strategies() -> Path:
    """The folder of Mitogen's strategy plugins."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or found.origin is None:
        raise RuntimeError("Mitogen is not installed: make venv")
    return Path(found.origin).parent / "plugins" / "strategy"


def make_transports(wanted: Sequence[str], folder: Path, lab: Lab, network: Network) -> list[Transport]:
    """The transports of these names."""
    https = int(lab.https_url.rpartition(":")[2])
    aws = {**lab.env(tls=True), "AWS_ENDPOINT_URL": f"https://127.0.0.1:{network.port_to(https)}"}
    kinds: dict[str, tuple[type[Transport], dict[str, Any]]] = {
        "local": (Local, {"counts_wire": False}),
        "ssh": (Ssh, {}),
        "mitogen": (Mitogen, {"environment": {"ANSIBLE_STRATEGY_PLUGINS": str(mitogen_strategies()), "ANSIBLE_STRATEGY": "mitogen_linear"}}),
        "session": (Session, {"environment": aws, "on_session": True}),
        "session_public": (SessionPublic, {"environment": aws, "on_session": True}),
    }
    made = []
    for name in wanted:
        kind, values = kinds[name]
        home = folder / name
        home.mkdir()
        made.append(kind(name, home, **values))
    return made
