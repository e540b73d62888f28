# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The credentials and settings that an identity starts from: found as botocore finds them, before any role is assumed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from .. import errors
from ..errors import ServiceFault
from . import helper
from .identity_key import IdentityKey

SERVICES = ("ssm", "sts", "ec2", "kms", "s3", "sqs", "sns")
"""Those whose endpoints can be set."""


def base_credentials(key: IdentityKey) -> dict[str, Any]:
    """What the helper answers to ``credentials``; without it where nothing but plain keys and settings in variables is concerned.

    :raises CredentialsError: if there are none.
    :raises ServiceFault: if whoever gives them out cannot just now.
    """
    environment = dict(key.environment)
    configured = environment.get("AWS_CONFIG_FILE") or os.path.join(environment.get("HOME", "/nonexistent"), ".aws", "config")
    access_key, secret_key, token = key.access_key, key.secret_key, key.session_token
    if not access_key and not key.profile:
        access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        token = environment.get("AWS_SESSION_TOKEN")
    if access_key and secret_key and not os.path.exists(os.path.expanduser(configured)):
        helper.dismiss()
        return {
            "AccessKeyId": access_key, "SecretAccessKey": secret_key, "SessionToken": token, "Expiration": None,
            "Settings": _settings_of_variables(environment),
        }  # fmt: skip
    if key.access_key:
        # The profile still says region and endpoints; the keys of the options win over those that it finds.
        environment = {**environment, "AWS_ACCESS_KEY_ID": key.access_key, "AWS_SECRET_ACCESS_KEY": key.secret_key or ""}
        environment.pop("AWS_SESSION_TOKEN", None)
        if key.session_token:
            environment["AWS_SESSION_TOKEN"] = key.session_token
    nobody = f"no credentials for {dataclasses.replace(key, role_arn=None).label}"
    try:
        return helper.ask({"action": "credentials", "profile": key.profile}, environment, nobody)
    except helper.AwsHelperError as error:
        if errors.is_throttling(error) or errors.is_transient(error):
            raise ServiceFault(f"{nobody}: {error}", error) from error
        raise helper.CredentialsError(f"{nobody}: {error}") from error


def _settings_of_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    def flag(name: str) -> bool:
        return environment.get(name, "").lower() == "true"

    ignore = flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    everywhere = environment.get("AWS_ENDPOINT_URL")
    return {
        "region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        "ca_bundle": environment.get("AWS_CA_BUNDLE") or environment.get("REQUESTS_CA_BUNDLE"),
        "use_fips": flag("AWS_USE_FIPS_ENDPOINT"),
        "use_dualstack": flag("AWS_USE_DUALSTACK_ENDPOINT"),
        "endpoints": {name: None if ignore else environment.get(f"AWS_ENDPOINT_URL_{name.upper()}") or everywhere for name in SERVICES},
    }
