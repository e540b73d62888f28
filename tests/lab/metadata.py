# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The instance metadata service of EC2 nodes, at a base of its own for each: /imds/{instance id}/latest/…"""

from __future__ import annotations

import datetime
import json

from aiohttp import web

from . import moto_bridge
from .ssm_api.activations import node_principal
from .state import ManagedNode
from .world import World

_TOKEN_SECONDS = "x-aws-ec2-metadata-token-ttl-seconds"


def add_routes(application: web.Application, world: World) -> None:
    """Serve the metadata of all nodes."""

    async def handle(request: web.Request) -> web.Response:
        node = world.nodes.get(request.match_info["node"])
        if node is None or node.spec.hybrid or node.gone:
            return web.Response(status=404)
        path = request.match_info["path"].strip("/")
        if request.method == "PUT" and path == "api/token":
            seconds = request.headers.get(_TOKEN_SECONDS, "21600")
            return web.Response(text=f"lab-{node.node_id}", headers={_TOKEN_SECONDS: seconds})
        text = _answer(world, node, path)
        return web.Response(text=text) if text is not None else web.Response(status=404)

    application.router.add_route("*", "/imds/{node}/latest/{path:.*}", handle)


def _answer(world: World, node: ManagedNode, path: str) -> str | None:
    spec = node.spec
    zone = f"{spec.region}a"
    role = moto_bridge.profile_role(spec.account, spec.region, node.node_id)
    simple = {
        "meta-data/instance-id": node.node_id,
        "meta-data/placement/region": spec.region,
        "meta-data/placement/availability-zone": zone,
        "meta-data/placement/availability-zone-id": f"{spec.region}-az1",
        "meta-data/local-ipv4": spec.address,
        "meta-data/hostname": spec.name,
        "meta-data/local-hostname": spec.name,
        "meta-data/instance-type": "t3.micro",
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/mac": "02:00:00:00:00:01",
    }
    if path in simple:
        return simple[path]
    if path in ("meta-data/iam/security-credentials", "meta-data/iam/info"):
        if role is None:
            return None
        profile = f"arn:aws:iam::{spec.account}:instance-profile/{role}"
        return role if path.endswith("credentials") else json.dumps({"Code": "Success", "InstanceProfileArn": profile})
    if role is not None and path == f"meta-data/iam/security-credentials/{role}":
        return _credentials(world, node, role)
    if path == "dynamic/instance-identity/document":
        return json.dumps(
            {
                "accountId": spec.account,
                "architecture": "x86_64",
                "availabilityZone": zone,
                "imageId": "ami-03cf127a",
                "instanceId": node.node_id,
                "instanceType": "t3.micro",
                "pendingTime": _utc(datetime.datetime.now(datetime.UTC)),
                "privateIp": spec.address,
                "region": spec.region,
                "version": "2017-09-30",
            }
        )
    return None


def _credentials(world: World, node: ManagedNode, role: str) -> str:
    credential = world.vault.issue(node_principal(node, role), world.settings.node_credentials_seconds)
    assert credential.expires is not None
    return json.dumps(
        {
            "Code": "Success",
            "LastUpdated": _utc(datetime.datetime.now(datetime.UTC)),
            "Type": "AWS-HMAC",
            "AccessKeyId": credential.access_key,
            "SecretAccessKey": credential.secret_key,
            "Token": credential.token,
            "Expiration": _utc(datetime.datetime.fromtimestamp(credential.expires, datetime.UTC)),
        }
    )


def _utc(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
