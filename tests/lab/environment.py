# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller needs to use the lab as if it were AWS: environment, AWS config file, an inventory."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .spec import OPERATOR_ROLE

if TYPE_CHECKING:
    from .world import World

REPOSITORY = Path(__file__).resolve().parents[2]


def describe(world: World, pid: int) -> dict[str, Any]:
    """All that a client has to know; written to lab.json. Also writes the AWS config file."""
    assert world.endpoints is not None
    config = world.folder / "aws-config"
    config.write_text(_aws_config(world), encoding="utf-8")
    config.chmod(0o600)
    return {
        "pid": pid,
        "folder": str(world.folder),
        "api_url": world.endpoints.api_url,
        "https_url": world.endpoints.agent_https_url,
        "ca_path": str(world.endpoints.ca_path),
        "control": str(world.folder / "control.sock"),
        "accounts": list(world.accounts),
        "regions": list(world.regions),
        "keys": {account: [key.access_key, key.secret_key] for account, key in world.keys.items()},
        "aws_config": str(config),
    }


def environment(
    known: Mapping[str, Any], *, account: str | None = None, region: str | None = None, tls: bool = False
) -> dict[str, str]:
    """Variables to export; the first account and region unless others are named."""
    access_key, secret_key = known["keys"][account or known["accounts"][0]]
    chosen = region or known["regions"][0]
    return {
        "AWS_ENDPOINT_URL": known["https_url" if tls else "api_url"],
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": chosen,
        "AWS_DEFAULT_REGION": chosen,
        "AWS_CA_BUNDLE": known["ca_path"],
        "AWS_CONFIG_FILE": known["aws_config"],
        "AWS_SHARED_CREDENTIALS_FILE": known["aws_config"] + ".none",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def exports(known: Mapping[str, Any]) -> str:
    """A file for shells that know nothing yet: the lab as AWS, and the programs and collections of this checkout."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment(known).items()]
    programs, collections = Path(sys.executable).parent, REPOSITORY / "collections"
    lines += [
        f"export PATH={shlex.quote(str(programs))}:${{PATH:-/usr/bin:/bin}}",
        f"export ANSIBLE_COLLECTIONS_PATH={shlex.quote(str(collections))}${{ANSIBLE_COLLECTIONS_PATH:+:$ANSIBLE_COLLECTIONS_PATH}}",
        f"export FLEET_SSM_LAB={shlex.quote(known['folder'])}",
    ]
    return "".join(f"{line}\n" for line in lines)


def write_inventory(path: Path, nodes: list[dict[str, Any]], first_account: str) -> None:
    """A plain Ansible inventory of the nodes, grouped by their tag Role, for those who want no inventory plugin."""
    hosts: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for node in nodes:
        variables = {
            "ansible_connection": "fleet.ssm.ssm",
            "ansible_ssm_instance_id": node["node_id"],
            "ansible_ssm_region": node["region"],
        }
        if node["account"] != first_account:
            variables["ansible_ssm_role_arn"] = f"arn:aws:iam::{node['account']}:role/{OPERATOR_ROLE}"
        hosts[node["name"]] = variables
        role = node["tags"].get("Role")
        if role:
            groups.setdefault(f"role_{role}", {"hosts": {}})["hosts"][node["name"]] = {}
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "children": groups}}, sort_keys=False), encoding="utf-8")


def _aws_config(world: World) -> str:
    """A profile for each account's key, and one for each assumable role."""
    assert world.endpoints is not None
    region = world.regions[0]
    lines = []
    for account, key in world.keys.items():
        lines += [
            f"[profile lab-{account}]",
            f"aws_access_key_id = {key.access_key}",
            f"aws_secret_access_key = {key.secret_key}",
            f"region = {region}",
            "",
            f"[profile lab-{account}-role]",
            f"role_arn = arn:aws:iam::{account}:role/{OPERATOR_ROLE}",
            f"source_profile = lab-{world.accounts[0]}",
            f"region = {region}",
            "",
        ]
    return "\n".join(lines)
