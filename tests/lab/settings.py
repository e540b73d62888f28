# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is not known about the real service, or what a test wants quicker than AWS has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Settings:
    """Values of the lab that may be changed while it runs; times are in seconds."""

    #: How long the token of StartSession or ResumeSession opens a data channel.
    token_seconds: float = 60.0
    #: How long an idle minute (idleSessionTimeout, maxSessionDuration) lasts.
    minute_seconds: float = 60.0
    #: How long after the loss of the control channel and of the last ping a node becomes ConnectionLost.
    connection_lost_after: float = 5.0
    #: Entries on a page of DescribeInstanceInformation when the caller names no number (at most 50).
    default_page: int = 10
    #: Frames kept for a side that has not yet come for the first time; later absences lose frames.
    early_frames: int = 256
    #: The largest payload of a data channel frame that is relayed, in bytes; a larger one closes the websocket.
    max_payload: int = 65_536
    #: Whether the account's session preferences (KMS, RunAs, idle time-out) hold for documents without inputs of their own.
    preferences_for_all: bool = True
    #: Whether signatures are verified, not only the access key.
    verify_signatures: bool = True
    #: By how many seconds S3's clock is ahead of this machine's: URLs expire sooner, and beyond five minutes other requests are refused.
    s3_clock_ahead: float = 0.0
    #: The longest lifetime of credentials from AssumeRole, 0 for the one asked for: lets credentials expire in a test.
    credentials_seconds: float = 0.0
    #: Lifetime of the credentials that nodes get from metadata or role tokens.
    node_credentials_seconds: float = 3600.0
    #: How long GetMessages of ec2messages waits for a message.
    poll_seconds: float = 20.0
    #: How long after SendCommand its invocations are not to be seen (InvocationDoesNotExist).
    invocation_delay: float = 0.1
    #: How long after SendCommand a command is not in ListCommands.
    listing_delay: float = 0.0
    #: How long a second of SendCommand's TimeoutSeconds lasts.
    delivery_second: float = 1.0
    #: After how long an agent gets a message of Run Command again that it did not acknowledge, or was too busy for.
    redelivery_seconds: float = 3.0
    #: How long a message of ec2messages is hidden from the next GetMessages.
    visibility_seconds: float = 10.0
    #: The largest parameters of SendCommand, in characters of JSON.
    largest_parameters: int = 65_536
    #: When a simulated node answers, after the command reached it.
    simulated_seconds: float = 0.05
    #: How long an instance profile is associating or disassociating.
    association_seconds: float = 0.0
    #: How long after its creation an instance profile is known to nobody (IAM's eventual consistency).
    iam_seconds: float = 0.0
    #: Whether nodes may do only what the policies of their roles in IAM allow.
    node_policies: bool = False
    #: The newest version of the agent (IsLatestVersion); empty: every agent is the latest.
    latest_agent: str = ""
    #: How long a minute lasts until a function gets an event again that it failed on.
    function_minute: float = 1.0
    #: "auto": ws for StartSession over http, wss over https; or "ws", "wss".
    stream_scheme: str = "auto"

    def update(self, values: Mapping[str, Any]) -> None:
        """Change some values; raises `ValueError` naming an unknown one."""
        known = {entry.name: type(getattr(self, entry.name)) for entry in dataclasses.fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"the lab has no setting {name!r}; it has {', '.join(known)}")
            setattr(self, name, known[name](value))
