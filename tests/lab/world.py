# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that one lab consists of, in one place: what the handlers of requests work on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import bucket_policy, event_bus, organizations
from .auth import Credential, Principal, Vault
from .documents import Documents
from .faults import Faults
from .functions import Functions
from .model import Endpoints
from .moto_bridge import Moto, create_instance_profile, create_role, users_key
from .permissions import Permissions, Rule
from .request_log import RequestLog
from .role_policies import rules_of_role
from .run_command.events import Publisher
from .run_command.service import RunCommand
from .sessions import Sessions
from .settings import Settings
from .spec import NODE_ROLE, OPERATOR_ROLE, OPERATOR_USER, PLATFORM_ROLE
from .state import ActivationRecord, Inventory


@dataclass
class World:
    """The state of a lab."""

    folder: Path
    settings: Settings
    log: RequestLog
    accounts: tuple[str, ...]
    regions: tuple[str, ...]
    moto: Moto = field(default_factory=Moto)
    faults: Faults = field(default_factory=Faults)
    vault: Vault = field(default_factory=lambda: Vault(users_key))
    nodes: Inventory = field(default_factory=Inventory)
    documents: Documents = field(default_factory=Documents)
    activations: dict[str, ActivationRecord] = field(default_factory=dict)
    service_settings: dict[tuple[str, str, str], str] = field(default_factory=dict)
    keys: dict[str, Credential] = field(default_factory=dict)  #: an operator's key for each account
    endpoints: Endpoints | None = None
    agent_came: asyncio.Event = field(default_factory=asyncio.Event)  #: set whenever a control channel or a poll begins
    permissions: Permissions = field(init=False)
    sessions: Sessions = field(init=False)
    run_command: RunCommand = field(init=False)
    events: Publisher = field(init=False)
    functions: Functions = field(init=False)

    def __post_init__(self) -> None:
        self.permissions = Permissions(self._own_rules)
        self.sessions = Sessions(self.faults, self.settings)
        self.run_command = RunCommand(self.settings, self.nodes)
        self.events = Publisher(self.faults, self.run_command.agenda)
        self.run_command.listener = self.events.changed
        self.functions = Functions(self.folder / "functions", self.role_environment, lambda: self.settings.function_minute)
        self.functions.install()
        bucket_policy.install()
        event_bus.install(self.functions.start)

    def role_environment(self, account: str, role_arn: str, seconds: float) -> dict[str, str]:
        """Variables that make a role's credentials and this lab known to an SDK."""
        assert self.endpoints is not None
        role = role_arn.rpartition("/")[2]
        arn = f"arn:aws:sts::{account}:assumed-role/{role}/function"
        credential = self.vault.issue(Principal(account, arn, "function", role=role), seconds)
        assert credential.token is not None
        return {
            "AWS_ENDPOINT_URL": self.endpoints.api_url,
            "AWS_ACCESS_KEY_ID": credential.access_key,
            "AWS_SECRET_ACCESS_KEY": credential.secret_key,
            "AWS_SESSION_TOKEN": credential.token,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _own_rules(self, principal: Principal) -> list[Rule] | None:
        """What a node's role allows it, if that is looked at."""
        if not self.settings.node_policies or principal.node_id is None or principal.role is None:
            return None
        return rules_of_role(principal.account, principal.role)

    def furnish(self) -> None:
        """Give each account a user with a key and its roles, and make the first one the head of an organization of them all."""
        for account in self.accounts:
            operator = Principal(account, f"arn:aws:iam::{account}:user/{OPERATOR_USER}", OPERATOR_USER)
            # Fixed keys: they open nothing but this lab, and a reader of a log can tell whose they are.
            key = Credential(f"AKIALAB{account}Q", f"lab-secret-of-{account}", operator)
            self.vault.add(key)
            self.keys[account] = key
            for role in (OPERATOR_ROLE, PLATFORM_ROLE):
                create_role(account, role, trust(*(f"arn:aws:iam::{each}:root" for each in self.accounts)))
            create_role(
                account,
                NODE_ROLE,
                {"Version": "2012-10-17", "Statement": [_allow({"Service": ["ec2.amazonaws.com", "ssm.amazonaws.com"]})]},
                ("arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",),
            )
            create_instance_profile(account, NODE_ROLE)
        organizations.create(self.accounts[0], self.accounts[1:])


def trust(*principals: str) -> dict[str, Any]:
    """A trust policy for AWS principals."""
    return {"Version": "2012-10-17", "Statement": [_allow({"AWS": list(principals)})]}


def _allow(principal: dict[str, Any]) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
