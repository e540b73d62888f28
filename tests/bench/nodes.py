# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of the bench: nodes of the lab, each with a real sshd in it, all reached through one network."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab import Lab, LabNode, NodeDefinition

from . import processes
from .relay import Network

USER = "ssm-user"
DOCUMENTS = Path(__file__).resolve().parents[2] / "plugins" / "plugin_utils" / "mux" / "session_documents"

_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey /etc/bench-host-key
AuthorizedKeysFile /etc/bench-authorized-keys
PidFile none
UsePAM yes
PrintMotd no
MaxSessions 100
MaxStartups 200
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class BenchNode:
    """A node by both its ways in."""

    node: LabNode
    first_pid: int  #: the node's pid 1 as the controller's machine sees it
    sshd_pid: int  #: the same for the sshd that listens
    ssh_port: int  #: of the network's relay before it
    before: frozenset[int]  #: what ran in it before anyone came

    def ssh_processes(self) -> set[int]:
        """What sshd has started and what that has started."""
        return processes.children(self.sshd_pid)

    def session_processes(self) -> set[int]:
        """What came with sessions, without the lab's agent itself: on AWS another program is in its place."""
        found = processes.inside(self.first_pid) - self.before - self.ssh_processes() - {self.sshd_pid}
        return {pid for pid in found if not processes.is_lab(pid)}


def make_key(folder: Path, name: str) -> Path:
    """A key pair in a folder; the private file's path."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(path)], check=True, stdin=subprocess.DEVNULL)
    return path


def definitions(count: int) -> list[NodeDefinition]:
    """Nodes of one account and region: one identity in the mux."""
    return [NodeDefinition(name=f"bench-{number}", tags={"Role": "bench"}) for number in range(1, count + 1)]


def create_documents(lab: Lab) -> None:
    """Give the account the collection's own session documents, as its platform team does."""
    client = lab.client("ssm")
    for path in sorted(DOCUMENTS.glob("*.json")):
        client.create_document(Name=path.stem, DocumentType="Session", DocumentFormat="JSON", Content=path.read_text(encoding="utf-8"))


def open_nodes(lab: Lab, network: Network, keys: Path, first_port: int) -> list[BenchNode]:
    """Start an sshd in each node of the lab and put the network before it."""
    host_key, user_key = make_key(keys, "host"), make_key(keys, "user")
    return [_open(node, network, host_key, user_key, first_port + number) for number, node in enumerate(lab.nodes())]


def _open(node: LabNode, network: Network, host_key: Path, user_key: Path, port: int) -> BenchNode:
    files = {
        "/etc/bench-host-key": host_key.read_bytes(),
        "/etc/bench-authorized-keys": user_key.with_suffix(".pub").read_bytes(),
        "/etc/bench-sshd.conf": _SSHD_CONFIG.format(port=port).encode(),
    }
    commands: list[str] = ["set -e", "umask 077", "mkdir -p -m 755 /run/sshd"]
    commands += [f"echo {base64.b64encode(content).decode()} | base64 -d > {path}" for path, content in files.items()]
    # An agent makes this user at the first session; ssh may come before that.
    commands += [f"id {USER} >/dev/null 2>&1 || useradd -m -s /bin/bash {USER}"]
    commands += [f"echo '{USER} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ssm-agent-users"]
    # The user must be able to read the list of keys, as sshd reads it under that user's id.
    commands += ["chmod 644 /etc/bench-authorized-keys", "setsid $(command -v sshd) -D -f /etc/bench-sshd.conf </dev/null >/dev/null 2>&1 &", "echo $!"]
    inner_pid = int(node.run("\n".join(commands)).stdout.split()[-1])
    command = node.enter_command()
    first_pid = int(command[command.index("--target") + 1])
    pids = processes.inside(first_pid)
    sshd_pid = next(pid for pid in pids if processes.inner_pid(pid) == inner_pid)
    return BenchNode(node, first_pid, sshd_pid, network.port_to(port), frozenset(pids))
