# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that run an unmodified amazon-ssm-agent from a folder of the user's, in place of our own program.

The agent is told by its own configuration file where the service is, trusts the lab's CA through the node's trust
store, and finds nothing else: no names but S3's are resolved on such a node.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from ..model import Endpoints, NodeSpec
from .init import InitConfig
from .metadata_address import MetadataAddress
from .names import NameServer
from .process import ProcessNode
from .provision import write_file
from .supervisor import NodeError

PROGRAMS = ("amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "ssm-document-worker")
_OPTIONAL = ("ssm-session-logger", "ssm-cli")
_NAMES = "nameserver {address}\noptions timeout:1 attempts:1"
_CERTIFICATE = "/usr/local/share/ca-certificates/fleet-lab.crt"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class RealAgent:
    """What a node needs to run the agent of `options["agent"]`, a folder that holds its programs."""

    def __init__(self, spec: NodeSpec, endpoints: Endpoints) -> None:
        self._spec, self._endpoints = spec, endpoints
        self._folder = Path(str(spec.options["agent"])).resolve()
        missing = [name for name in PROGRAMS if not (self._folder / name).is_file()]
        if missing:
            raise NodeError(
                f"{spec.name}: no {', '.join(missing)} in {self._folder}: name the folder of an agent's programs"
            )
        self._names = NameServer()
        self._metadata = None if spec.hybrid else MetadataAddress(endpoints.metadata_url(spec.node_id))

    async def start(self) -> None:
        """Serve what the agent asks its surroundings for."""
        await self._names.start()
        if self._metadata is not None:
            await self._metadata.start()

    async def stop(self) -> None:
        await self._names.stop()
        if self._metadata is not None:
            await self._metadata.stop()

    def binds(self) -> list[tuple[Path, str]]:
        """Files of the host, and where they belong on the node."""
        programs = [name for name in (*PROGRAMS, *_OPTIONAL) if (self._folder / name).is_file()]
        return [(self._folder / name, f"/usr/bin/{name}") for name in programs]

    def setup(self) -> list[str]:
        """Shell commands that run once, before the agent."""
        return [
            *trust(self._endpoints),
            "rm -f /etc/resolv.conf",  # it may be a link into /run
            *write_file("/etc/resolv.conf", _NAMES.format(address=self._names.address)),
            *write_file("/etc/amazon/ssm/amazon-ssm-agent.json", self._configuration()),
        ]

    def registration(self) -> list[str]:
        """Shell commands by which a hybrid node registers, as an administrator does; needs the programs in place."""
        activation = self._spec.activation
        if activation is None:
            return []
        return [
            shlex.join(
                (
                    *("/usr/bin/amazon-ssm-agent", "-register", "-y"),
                    *("-code", activation.activation_code),
                    *("-id", activation.activation_id),
                    *("-region", self._spec.region),
                )
            )
        ]

    def environment(self) -> list[tuple[str, str]]:
        """Names and values for the agent's processes. Sessions inherit it, so it is as little as possible."""
        return [("AWS_EC2_METADATA_SERVICE_ENDPOINT", self._metadata.url)] if self._metadata else []

    def _configuration(self) -> str:
        """`amazon-ssm-agent.json`: every service at the lab."""
        url, region = self._endpoints.agent_https_url, self._spec.region
        s3 = f"s3.{region}.amazonaws.com:{url.rpartition(':')[2]}"  # bucket or scheme are put in front of it
        return json.dumps(
            {
                "Profile": {"ShareCreds": True},
                "Mds": {"Endpoint": url, "CommandWorkersLimit": 5, "StopTimeoutMillis": 20000},
                "Ssm": {"Endpoint": url, "HealthFrequencyMinutes": 5},
                "Mgs": {"Region": region, "Endpoint": url, "StopTimeoutMillis": 20000, "SessionWorkersLimit": 1000},
                "Agent": {"Region": region, "TelemetryMetricsToSSM": False},
                "Kms": {"Endpoint": url},
                "S3": {"Endpoint": s3, "Region": region},
                "Identity": {"ConsumptionOrder": ["OnPrem" if self._spec.hybrid else "EC2"]},
            },
            indent=1,
        )


def trust(endpoints: Endpoints) -> list[str]:
    """Shell commands that put the lab's CA into a node's trust store."""
    return [*write_file(_CERTIFICATE, endpoints.ca_path.read_text()), f"cat {_CERTIFICATE} >> {_BUNDLE}"]


class RealAgentNode(ProcessNode):
    """A process node with a real agent."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        super().__init__(spec, lab_dir, endpoints)
        if not spec.options.get("agent"):
            raise NodeError(f"{spec.name}: the option agent must name the folder of an agent's programs")
        self._real = RealAgent(spec, endpoints)

    async def start(self) -> None:
        await self._real.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._real.stop()

    def init_config(self) -> InitConfig:
        config = super().init_config()
        return dataclasses.replace(
            config,
            root=self.root_spec(*self._real.binds()),
            agent=None,
            agent_command=("/usr/bin/amazon-ssm-agent",),
            setup=(*config.setup, *self._real.setup(), *self._real.registration()),
            environment=tuple(self._real.environment()),
        )
