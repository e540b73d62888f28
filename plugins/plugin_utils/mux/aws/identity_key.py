# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells one identity from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..request import ConnectionOptions


@dataclass(frozen=True)
class IdentityKey:
    """All that decides about credentials, endpoints and the way to them; equal keys share an identity."""

    profile: str | None
    access_key: str | None
    secret_key: str | None = field(repr=False)
    session_token: str | None = field(repr=False)
    role_arn: str | None
    external_id: str | None = field(repr=False)
    role_session_name: str | None
    region: str | None
    endpoints: tuple[tuple[str, str | None], ...]
    s3_addressing_style: str
    use_fips: bool | None
    use_dualstack: bool | None
    ca_bundle: str | None
    proxy: str | None = field(repr=False)
    environment: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def of(cls, options: ConnectionOptions, environment: Mapping[str, str]) -> IdentityKey:
        """The key of a worker's options and of the part of its environment that it sent."""
        return cls(
            profile=options.profile,
            access_key=options.access_key,
            secret_key=options.secret_key,
            session_token=options.session_token,
            role_arn=options.role_arn,
            external_id=options.external_id,
            role_session_name=options.role_session_name,
            region=options.region,
            endpoints=(
                ("ssm", options.endpoint_url),
                ("sts", options.sts_endpoint_url),
                ("ec2", options.ec2_endpoint_url),
                ("kms", options.kms_endpoint_url),
                ("s3", options.bucket_endpoint_url),
            ),
            s3_addressing_style=options.s3_addressing_style,
            use_fips=options.use_fips,
            use_dualstack=options.use_dualstack,
            ca_bundle=options.ca_bundle,
            proxy=options.proxy,
            environment=tuple(sorted(environment.items())),
        )

    @property
    def label(self) -> str:
        """How a message names it; holds no secret."""
        if self.role_arn:
            return f"the role {self.role_arn}"
        if self.profile:
            return f"the profile {self.profile}"
        environment = dict(self.environment)
        if key := self.access_key:
            return f"the access key {key[:4]}…{key[-4:]} (from options)"
        if key := environment.get("AWS_ACCESS_KEY_ID"):
            return f"the access key {key[:4]}…{key[-4:]} (from the environment)"
        return f"the profile {environment['AWS_PROFILE']}" if environment.get("AWS_PROFILE") else "the default credentials"
