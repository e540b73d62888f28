# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`amazon-ssm-agent` as a package installs it: started without arguments by its unit, or with those that register a machine.

Options, places and the configuration file are the real agent's, in what the lab needs of them (its source and
amazon-ssm-agent.json.template). Who it is comes from a registration, or from the metadata service that
`AWS_EC2_METADATA_SERVICE_ENDPOINT` names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config import AgentConfig
from .identity import Identity
from .program import new_context, preload, run_agent
from .service import Service, ServiceError

CONFIGURATION = Path("/etc/amazon/ssm/amazon-ssm-agent.json")
DATA = Path("/var/lib/amazon/ssm")
REGISTRATION = DATA / "registration"
_KEYS = DATA / "Vault"
_METADATA = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
_ORDER = ("OnPrem", "EC2")
_RETRY = 5.0  #: seconds between two looks for an identity


def main(version: str, arguments: Sequence[str]) -> int:
    """The program; its exit status."""
    options = _parser().parse_args(arguments)
    if options.version:
        print(f"SSM Agent version: {version}")
        return 0
    if options.register:
        return _clear() if options.clear else _register(version, options)
    configuration = identify(version, read_configuration())
    while configuration is None:
        time.sleep(_RETRY)  # a metadata service has no way to say that it has come up
        configuration = identify(version, read_configuration())
    preload()
    run_agent(configuration, new_context(configuration.ca_path))
    return 0


def read_configuration() -> dict[str, Any]:
    """amazon-ssm-agent.json; empty if there is none. As the real agent: one that cannot be read counts as none."""
    try:
        found = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            print(f"{CONFIGURATION} is not used: {error}", file=sys.stderr)
        return {}
    return found if isinstance(found, dict) else {}


def identify(version: str, configuration: Mapping[str, Any]) -> AgentConfig | None:
    """The agent's settings under the first identity of the order that there is; None if there is none (yet)."""
    for kind in _member(configuration, "Identity", "ConsumptionOrder") or _ORDER:
        if kind == "OnPrem" and REGISTRATION.exists():
            known = json.loads(REGISTRATION.read_text(encoding="utf-8"))
            return _settings(version, configuration, known["ManagedInstanceID"], known["Region"], activation_id="registered")
        base = os.environ.get(_METADATA, "")
        if kind == "EC2" and base:
            try:
                node_id, region = (_metadata(base, name) for name in ("instance-id", "placement/region"))
            except (OSError, urllib.error.URLError):
                continue
            return _settings(version, configuration, node_id, region, metadata_url=base)
    return None


def _settings(version: str, configuration: Mapping[str, Any], node_id: str, region: str, **identity: Any) -> AgentConfig:
    region = _member(configuration, "Agent", "Region") or region
    return AgentConfig(
        node_id=node_id,
        name=os.uname().nodename,
        region=region,
        api_url=_url(_member(configuration, "Ssm", "Endpoint") or f"ssm.{region}.amazonaws.com"),
        agent_url=_url(_member(configuration, "Mgs", "Endpoint") or f"ssmmessages.{region}.amazonaws.com"),
        agent_version=version,
        state_dir=str(_KEYS),
        work_dir="/usr/bin",
        health_interval=60.0 * float(_member(configuration, "Ssm", "HealthFrequencyMinutes") or 5),
        **identity,
    )


def _register(version: str, options: argparse.Namespace) -> int:
    if not (options.id and options.code and options.region):
        print("-register needs -id, -code and -region", file=sys.stderr)
        return 1
    if REGISTRATION.exists() and not options.y:
        print("the machine is registered already, and -y is not given", file=sys.stderr)
        return 1
    _clear()
    settings = _settings(version, read_configuration(), "", options.region, activation_id=options.id, activation_code=options.code)
    try:
        node_id = Identity(Service(settings, new_context(""))).register()
    except ServiceError as error:
        print(f"Registration failed due to {error}", file=sys.stderr)
        return 1
    REGISTRATION.write_text(json.dumps({"ManagedInstanceID": node_id, "Region": options.region}), encoding="utf-8")
    print(f"Successfully registered the instance with AWS SSM using Managed instance-id: {node_id}")
    return 0


def _clear() -> int:
    for path in (REGISTRATION, _KEYS / "registration.json", _KEYS / "credentials.json"):
        path.unlink(missing_ok=True)
    return 0


def _metadata(base: str, name: str) -> str:
    with urllib.request.urlopen(f"{base.rstrip('/')}/latest/meta-data/{name}", timeout=2) as answer:
        return str(answer.read().decode())


def _url(endpoint: str) -> str:
    return endpoint if "://" in endpoint else f"https://{endpoint}"


def _member(configuration: Mapping[str, Any], section: str, name: str) -> Any:
    return (configuration.get(section) or {}).get(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="amazon-ssm-agent", allow_abbrev=False)
    for name in ("register", "clear", "version", "y"):
        parser.add_argument(f"-{name}", action="store_true")
    for name in ("id", "code", "region"):
        parser.add_argument(f"-{name}", default="")
    return parser
