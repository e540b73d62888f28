# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that run an unmodified amazon-ssm-agent from a folder of the user's, in place of our own program.

The agent is told by its own configuration file where the service is, trusts the lab's CA through the node's trust
store, and finds nothing else: no name is resolved on such a node.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from ..model import Endpoints, NodeSpec
from .init import InitConfig
from .metadata_address import MetadataAddress
from .process import ProcessNode
from .supervisor import NodeError

PROGRAMS = ("amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "ssm-document-worker")
_OPTIONAL = ("ssm-session-logger", "ssm-cli")
_NO_NAMES = "nameserver 127.0.0.254\\noptions timeout:1 attempts:1\\n"  # an address where nobody answers
_CERTIFICATES = "/usr/local/share/ca-certificates/fleet-lab.crt"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class RealAgentNode(ProcessNode):
    """A process node with the agent of `options["agent"]`, a folder that holds its programs."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        super().__init__(spec, lab_dir, endpoints)
        self.folder = Path(str(spec.options.get("agent", ""))).resolve()
        missing = [name for name in PROGRAMS if not (self.folder / name).is_file()]
        if missing:
            raise NodeError(
                f"{spec.name}: no {', '.join(missing)} in {self.folder}; name the folder of an agent's programs"
            )

        self._metadata = None if spec.hybrid else MetadataAddress(endpoints.metadata_url(spec.node_id))

    async def start(self) -> None:
        if self._metadata is not None and not self._metadata.url:
            await self._metadata.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._metadata is not None:
            await self._metadata.stop()

    def init_config(self) -> InitConfig:
        programs = [name for name in (*PROGRAMS, *_OPTIONAL) if (self.folder / name).is_file()]
        binds = [(self.folder / name, f"/usr/bin/{name}") for name in programs]
        root = self.root_spec(*binds, (self._endpoints.ca_path.resolve(), _CERTIFICATES))
        setup = (
            *super().init_config().setup,
            f"cat {_CERTIFICATES} >> {_BUNDLE}",
            f"rm -f /etc/resolv.conf; printf '{_NO_NAMES}' > /etc/resolv.conf",
            *write_file_commands(
                "/etc/amazon/ssm/amazon-ssm-agent.json", agent_configuration(self.spec, self._endpoints)
            ),
            *registration_commands(self.spec),
        )
        return dataclasses.replace(
            super().init_config(),
            root=root,
            agent=None,
            agent_command=("/usr/bin/amazon-ssm-agent",),
            setup=setup,
            environment=tuple(agent_environment(self._metadata.url if self._metadata else "").items()),
        )


def agent_configuration(spec: NodeSpec, endpoints: Endpoints) -> str:
    """`amazon-ssm-agent.json`: every service at the lab."""
    return json.dumps(
        {
            "Profile": {"ShareCreds": True},
            "Mds": {"Endpoint": endpoints.agent_https_url, "CommandWorkersLimit": 5, "StopTimeoutMillis": 20000},
            "Ssm": {"Endpoint": endpoints.agent_https_url, "HealthFrequencyMinutes": 5},
            "Mgs": {
                "Region": spec.region,
                "Endpoint": endpoints.agent_https_url,
                "StopTimeoutMillis": 20000,
                "SessionWorkersLimit": 1000,
            },
            "Agent": {"Region": spec.region, "TelemetryMetricsToSSM": False},
            "Kms": {"Endpoint": endpoints.agent_https_url},
            "S3": {"Endpoint": endpoints.agent_https_url, "Region": spec.region},
            "Identity": {"ConsumptionOrder": ["OnPrem" if spec.hybrid else "EC2"]},
        },
        indent=1,
    )


def agent_environment(metadata_url: str) -> dict[str, str]:
    """Environment of the agent's processes; its sessions inherit it, so it is as little as possible."""
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata_url} if metadata_url else {}


def registration_commands(spec: NodeSpec) -> tuple[str, ...]:
    """Hybrid nodes register before the agent starts, as an administrator does."""
    if spec.activation is None:
        return ()
    return (
        shlex.join(
            (
                "/usr/bin/amazon-ssm-agent",
                "-register",
                "-y",
                *("-code", spec.activation.activation_code),
                *("-id", spec.activation.activation_id),
                *("-region", spec.region),
            )
        ),
    )


def write_file_commands(path: str, text: str) -> tuple[str, ...]:
    """Shell commands that write a file."""
    return (
        f"mkdir -p {shlex.quote(str(Path(path).parent))}",
        f"printf '%s\\n' {shlex.quote(text)} > {shlex.quote(path)}",
    )
