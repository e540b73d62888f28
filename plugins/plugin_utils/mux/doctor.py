# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`doctor HOST`: goes the way to a node layer by layer, and says which one fails and what to do about it.

It runs in a process of its own with sessions of its own, so what it sees does not depend on a mux that is running.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from .aws import targets
from .aws.helper import CredentialsError
from .aws.identity import Identity
from .aws.identity_key import IdentityKey
from .command.examination import examine as examine_commands
from .examination import LIMIT, Failed, output_of, say, step
from .request import FIELD_NAMES, ConnectionOptions, OptionError, credential_environment, make_reason
from .session.known_nodes import KnownNodes
from .session.route import SessionRoute
from .session.warm import Warmth

_PLUGIN = "fleet.ssm.ssm"
_LIBRARIES = ("botocore", "websockets", "cryptography")


def run(parsed: argparse.Namespace) -> int:
    """Examine a host; 0 if everything works."""
    try:
        options = _options(parsed)
        asyncio.run(_examine(options))
    except (Failed, OptionError) as error:
        say("FAILED", str(error))
        return 1
    return 0


def _options(parsed: argparse.Namespace) -> ConnectionOptions:
    values: dict[str, Any] = {"host": parsed.host}
    values.update({name: os.environ[f"FLEET_SSM_{name.upper()}"] for name in FIELD_NAMES if f"FLEET_SSM_{name.upper()}" in os.environ and name != "host"})
    if parsed.inventory:
        values.update(_from_inventory(parsed.inventory, parsed.host))
    values.update({name: value for name in FIELD_NAMES if (value := getattr(parsed, f"option_{name}", None)) is not None})
    return ConnectionOptions.from_mapping({name: _converted(name, value) for name, value in values.items()})


def _from_inventory(inventories: list[str], host: str) -> dict[str, Any]:
    """The options of a host by its variables as Ansible gives them, under the names that Ansible knows; templates in them are not resolved."""
    arguments = [part for inventory in inventories for part in ("-i", inventory)]
    variables: Mapping[str, Any] = json.loads(_ansible("ansible-inventory", *arguments, "--host", host))
    options = json.loads(_ansible("ansible-doc", "--type", "connection", "--json", _PLUGIN))[_PLUGIN]["doc"]["options"]
    found: dict[str, Any] = {}
    for name in FIELD_NAMES:
        for variable in options[name]["vars"]:  # of several the last one wins, as in Ansible
            if variable["name"] in variables:
                found[name] = variables[variable["name"]]
    return found


def _ansible(name: str, *arguments: str) -> str:
    """What one of Ansible's programs says."""
    program = shutil.which(name, path=os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", ""))))
    if program is None:
        raise Failed(f"{name} is not found, so --inventory cannot be read")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise Failed(f"{name}: {done.stderr.strip()}")
    return done.stdout


def _converted(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    if isinstance(value, str) and "int" in kind:
        try:
            return int(value)
        except ValueError:
            raise OptionError(f"the option '{name}' must be a number, not {value!r}") from None
    if isinstance(value, str) and "bool" in kind:
        return value.lower() in ("1", "true", "yes", "on")
    return value


_KINDS = {field.name: str(field.type) for field in dataclasses.fields(ConnectionOptions)}


async def _examine(options: ConnectionOptions) -> None:
    versions = []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            raise Failed(f"the Python library {name} is missing for {sys.executable}: pip install {name}") from None
    say("libraries", f"Python {sys.version.split()[0]}, {', '.join(versions)}")
    loop = asyncio.get_running_loop()
    identity = Identity(IdentityKey.of(options, credential_environment()), {})
    await _credentials(identity)
    node_id = await step("target", targets.resolve(identity, options.host, loop.time() + LIMIT))
    say("target", f"{options.host} is {node_id}")
    await _registration(identity, node_id)
    examine = examine_commands if options.route == "run_command" else _session
    await examine(identity, dataclasses.replace(options, host=node_id))


async def _credentials(identity: Identity) -> None:
    try:
        settings = await identity.settings()
    except (CredentialsError, ValueError) as error:
        raise Failed(f"credentials: {error}") from error
    if not settings.region:
        raise Failed("region: none is known; give --region, or set AWS_REGION or a region in the profile")
    try:
        who = await identity.call("sts", "get_caller_identity", deadline=asyncio.get_running_loop().time() + 20, resource="*")
    except Exception as error:
        raise Failed(f"credentials: {identity.explain(error, 'sts:GetCallerIdentity', '*')}") from error
    say("credentials", f"{identity.label}: {who['Arn']} in account {who['Account']}, region {settings.region}")


async def _registration(identity: Identity, node_id: str) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    try:
        page = await identity.call(
            "ssm", "describe_instance_information", deadline=deadline, resource="*", Filters=[{"Key": "InstanceIds", "Values": [node_id]}]
        )
    except Exception as error:
        say("registration", f"unknown: {identity.explain(error, 'ssm:DescribeInstanceInformation', '*')}")
        return
    if not page["InstanceInformationList"]:
        raise Failed(f"registration: {await targets.why_not_connected(identity, node_id, deadline)}")
    entry = page["InstanceInformationList"][0]
    platform = " ".join(str(entry.get(name, "")) for name in ("PlatformType", "PlatformName", "PlatformVersion"))
    say("registration", f"{entry.get('PingStatus')}, agent {entry.get('AgentVersion')}, {platform}")
    if entry.get("PingStatus") != "Online":
        raise Failed(f"agent: {await targets.why_not_connected(identity, node_id, deadline)}")


async def _session(identity: Identity, options: ConnectionOptions) -> None:
    host = _Host()
    route = SessionRoute(host, identity, options)
    try:
        began = time.monotonic()
        facts = await step("session", route.open(options, make_reason(None, playbook="the doctor of fleet.ssm")))
        say("session", f"{facts['document']}, ready in {time.monotonic() - began:.2f} s as {facts['user']}")
        if facts["kind"] == "python":
            say("python", f"{facts['python']} ({facts['executable']}) on {facts['platform']}")
        else:
            say("python", "none from 3.6 on was found on the node: only raw and script work; install one, or set the option python")
        began = time.monotonic()
        output = await output_of("command", route, options, "echo fleet")
        if output != b"fleet\n":
            raise Failed(f"command: 'echo fleet' gave {output!r}")
        say("command", f"answered in {(time.monotonic() - began) * 1000:.1f} ms")
    finally:
        await route.close()


class _Host:
    """What a route needs of the process around it."""

    def __init__(self) -> None:
        self.log = logging.getLogger("fleet.ssm.doctor")
        self.log.setLevel(logging.CRITICAL)
        self.known_nodes = KnownNodes(None)
        self.warmth = Warmth()
        self.node_locks: dict[tuple[str | None, str], asyncio.Lock] = {}

    def make_room(self) -> None:
        """There is one session only."""
