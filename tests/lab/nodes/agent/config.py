# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent is told at its start: one JSON object."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class AgentConfig:
    node_id: str  #: for hybrid nodes what registration will answer
    name: str
    region: str
    api_url: str
    agent_url: str  #: https: control and data channels
    metadata_url: str = ""  #: EC2 nodes
    role: str = ""  #: EC2 nodes: name of the role of the instance profile; none: no credentials
    activation_id: str = ""  #: hybrid nodes
    activation_code: str = ""
    agent_version: str = "3.3.0.0"
    address: str = "192.0.2.1"
    state_dir: str = "/var/lib/fleet-lab-agent"
    run_dir: str = "/run/fleet-lab-agent"  #: what a reboot forgets
    ca_path: str = ""
    work_dir: str = "/"  #: where sessions begin
    health_interval: float = 300.0  #: seconds between two UpdateInstanceInformation
    credentials_retry: float = 300.0  #: seconds until the next look for credentials; doubles up to an hour

    @property
    def hybrid(self) -> bool:
        return bool(self.activation_id)

    @property
    def state(self) -> Path:
        return Path(self.state_dir)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> AgentConfig:
        given: dict[str, Any] = json.loads(text)
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known})
