# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short-lived process for what must not stay in the mux's memory, or must see a worker's own environment.

It takes one JSON object on stdin, in whose ``environment``, that of the worker that asked, it works from then on (and with nothing else
of the mux's), and prints one on stdout. Without a question it ends after a minute. The actions:

- ``credentials``: resolves a profile, SSO, credential_process, web identity, container or instance role as botocore does. The answer
  is that of a credential_process (`Version`, `AccessKeyId`, …, `Expiration`) and a `Settings` object beside it.
- ``instances``: EC2's DescribeInstances; its model alone would cost the mux some 40 MB.

A failure is `{"error": …}`. Started by its path, so it imports nothing of its neighbours.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_PATIENCE = 60
"""Seconds."""


def credentials(wanted: dict[str, Any]) -> dict[str, Any]:
    """Credentials and settings of the profile ``wanted["profile"]``, or of the environment."""
    import botocore.session
    from botocore.configprovider import ConfiguredEndpointProvider

    session = botocore.session.Session(profile=wanted.get("profile"))
    found = session.get_credentials()
    if found is None:
        named = f"the profile {wanted['profile']!r}" if wanted.get("profile") else "the environment, ~/.aws or an instance role"
        return {"error": f"no credentials in {named}"}
    frozen = found.get_frozen_credentials()
    expiry = getattr(found, "_expiry_time", None)
    try:
        scoped = session.get_scoped_config()
    except Exception:  # a profile that is named by the environment only
        scoped = {}

    def endpoint(service: str) -> str | None:
        url = ConfiguredEndpointProvider(full_config=session.full_config, scoped_config=scoped, client_name=service).provide()
        return str(url) if url else None

    return {
        "Version": 1,
        "AccessKeyId": frozen.access_key,
        "SecretAccessKey": frozen.secret_key,
        "SessionToken": frozen.token,
        "Expiration": expiry.isoformat() if expiry else None,
        "Settings": {
            "region": os.environ.get("AWS_REGION") or session.get_config_variable("region"),
            "ca_bundle": session.get_config_variable("ca_bundle"),
            "use_fips": session.get_config_variable("use_fips_endpoint"),
            "use_dualstack": session.get_config_variable("use_dualstack_endpoint"),
            "endpoints": {service: endpoint(service) for service in ("ssm", "sts", "ec2", "kms", "s3", "sqs", "sns")},
        },
    }


def instances(wanted: dict[str, Any]) -> dict[str, Any]:
    """Instances by ids or by filters: id, state, state reason, instance profile, Name, launch time, private address."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    client = session.create_client("ec2", config=Config(**wanted.get("config", {})), **wanted["client"])
    found = []
    for page in client.get_paginator("describe_instances").paginate(**wanted["parameters"]):
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                found.append(
                    {
                        "id": instance["InstanceId"],
                        "state": instance["State"]["Name"],
                        "reason": instance.get("StateTransitionReason") or "",
                        "profile": (instance.get("IamInstanceProfile") or {}).get("Arn"),
                        "name": next((tag["Value"] for tag in instance.get("Tags", []) if tag["Key"] == "Name"), ""),
                        "address": instance.get("PrivateIpAddress") or "",
                    }
                )
    return {"instances": found}


def main() -> None:
    """Answer the one question on stdin."""
    import botocore.session  # noqa: F401 - while the question is yet to come

    signal.alarm(_PATIENCE)
    question = json.load(sys.stdin)
    signal.alarm(0)
    os.environ.clear()
    os.environ.update(question["environment"])
    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"credentials": credentials, "instances": instances}
    try:
        answer = actions[question["action"]](question)
    except Exception as error:  # whatever it is, the mux gets it as text
        response = getattr(error, "response", None)
        answer = {"error": str(error) or type(error).__name__, "type": type(error).__name__}
        if isinstance(response, dict):
            answer["response"] = {key: response[key] for key in ("Error", "ResponseMetadata") if key in response}
    json.dump(answer, sys.stdout, default=str)


if __name__ == "__main__":
    main()
