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
    clock_offset: float = 0.0  #: seconds by which the node's clock is wrong, as far as signatures go
    health_interval: float = 300.0  #: seconds between two UpdateInstanceInformation
    credentials_retry: float = 300.0  #: seconds until the next look for credentials; doubles up to the next value
    credentials_retry_max: float = 3600.0
    platform: str = "Linux"  #: or Windows: commands are answered from `scripts`
    scripts: tuple[dict[str, Any], ...] = ()  #: see `commands.scripted`
    message_channel: str = "auto"  #: or ec2messages: no control channel is opened, so there are no sessions
    data_dir: str = "/var/lib/amazon/ssm"  #: scripts and outputs of commands
    s3_url: str = ""  #: none: that of the channels
    s3_late: float = 0.0  #: seconds by which outputs come to S3 after the command's result
    available_version: str = ""  #: what aws:updateSsmAgent finds; none: the agent's own
    reply_retry: float = 300.0  #: seconds between two rounds of replies that were not acknowledged
    replies_reversed: bool = False  #: a command's last reply comes before those of its steps
    zombie_timeout: float = 60.0  #: seconds until a command whose worker is gone has failed

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
        given["scripts"] = tuple(given.get("scripts") or ())
        return cls(**{name: value for name, value in given.items() if name in known})
