# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker says about the node it wants: the options of the connection plugin, as one value that crosses the socket.

The fields are the options of the doc fragment `connection` by the same names; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REASON_LIMIT = 256
"""Characters of StartSession's `Reason`."""

DELIVERY = (30, 2_592_000)
"""The least and the most seconds of SendCommand's `TimeoutSeconds`."""

EXECUTION = (5, 172_800)
"""The same of `executionTimeout`; the agent takes any other value for 3,600."""

_ENVIRONMENT_PREFIXES = ("AWS_",)
_ENVIRONMENT_NAMES = frozenset(
    (
        "HOME", "LANG", "LC_ALL", "LOGNAME", "NO_PROXY", "PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "USER",
        "HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "no_proxy", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    )
)  # fmt: skip

_OTHER_NAMES = {"AWS_ACCESS_KEY": "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY"}
"""Names that amazon.aws takes as well, and the SDK does not know."""

SECRET_FIELDS = frozenset(("secret_key", "session_token", "proxy", "external_id"))
"""Options that no log, status or message may show. A proxy's URL can hold a password."""

_MAY_BE_EMPTY = frozenset({"host", "bucket_prefix"})
"""Of `host` it is a mistake, and not the default."""


class OptionError(Exception):
    """An option has a value that cannot be used; the text names it."""


@dataclass(frozen=True, eq=False, repr=False)  # what is not made here is not paid for by every task's worker
class ConnectionOptions:
    """The options of `fleet.ssm.ssm` that the mux needs. Times are in seconds, sizes in bytes."""

    host: str
    region: str | None = None
    profile: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    role_session_name: str | None = None
    endpoint_url: str | None = None
    sts_endpoint_url: str | None = None
    ec2_endpoint_url: str | None = None
    kms_endpoint_url: str | None = None
    use_fips: bool | None = None
    use_dualstack: bool | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    document: str = "auto"
    output_document: str | None = None
    run_as: str | None = None
    route: str = "auto"
    python: str | None = None
    warm: bool = True
    silence_timeout: int = 60
    connection_timeout: int = 30
    control_persist: int = 60
    max_sessions: int = 0
    reconnection_retries: int = 3
    payload_size: int = 1024
    send_window: int = 2048
    mux_log: str | None = None
    command_document: str = "AWS-RunShellScript"
    bucket: str | None = None
    bucket_prefix: str = "fleet-ssm"
    bucket_region: str | None = None
    bucket_endpoint_url: str | None = None
    bucket_sse_mode: str | None = None
    bucket_sse_kms_key_id: str | None = None
    s3_addressing_style: str = "auto"
    expose_secrets: bool = False
    delivery_timeout: int = 120
    execution_timeout: int = 172_800
    events_topic: str | None = None

    def __post_init__(self) -> None:
        if not self.host:
            raise OptionError("the option 'host' is empty: give an instance id, a Name tag or tag:Key=Value")
        if bool(self.access_key) != bool(self.secret_key):
            raise OptionError("of the options 'access_key' and 'secret_key' only one is set: set both or none")
        if self.access_key and self.profile:
            raise OptionError("the options 'access_key' and 'profile' exclude each other")
        if self.external_id and not self.role_arn:
            raise OptionError("the option 'external_id' has no meaning without 'role_arn'")
        for name in ("silence_timeout", "connection_timeout", "payload_size", "send_window"):
            if getattr(self, name) <= 0:
                raise OptionError(f"the option '{name}' must be above 0")
        for name, (least, most) in (("delivery_timeout", DELIVERY), ("execution_timeout", EXECUTION)):
            if not least <= getattr(self, name) <= most:
                raise OptionError(f"the option '{name}' must be from {least} to {most} seconds")
        for name in ("control_persist", "max_sessions", "reconnection_retries"):
            if getattr(self, name) < 0:
                raise OptionError(f"the option '{name}' must not be below 0")

    def __repr__(self) -> str:
        shown = {name: "…" if name in SECRET_FIELDS else value for name, value in self.to_fields().items()}
        return f"ConnectionOptions({shown})"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ConnectionOptions:
        """The options among ``values``. What is unset keeps its default: `None`, and an empty text, as of ``{{ lookup('env', 'AWS_PROFILE') }}``.

        :raises OptionError: a value cannot be used.
        """
        given = {name: values.get(name) for name in FIELD_NAMES}
        return cls(**{name: value for name, value in given.items() if value is not None and (value != "" or name in _MAY_BE_EMPTY)})

    def to_fields(self) -> dict[str, Any]:
        """What differs from the defaults, for JSON."""
        fields = {}
        for item in _FIELDS:
            value = getattr(self, item.name)
            if value != item.default:
                fields[item.name] = value
        return fields


_FIELDS = dataclasses.fields(ConnectionOptions)
FIELD_NAMES = tuple(item.name for item in _FIELDS)


def credential_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of a worker's environment that decides about credentials, endpoints and proxies."""
    source = os.environ if environ is None else environ
    found = {name: value for name, value in source.items() if name in _ENVIRONMENT_NAMES or name.startswith(_ENVIRONMENT_PREFIXES)}
    for other, name in _OTHER_NAMES.items():
        value = found.pop(other, None)
        if value and not found.get(name):
            found[name] = value
    return found


def make_reason(text: str | None, *, playbook: str | None = None, play: str | None = None, task: str | None = None) -> str:
    """StartSession's `Reason`: the text given, or who runs what, in one line of at most 256 characters."""
    if not text:
        parts = [f"fleet.ssm: {_user()} runs {playbook or 'ansible'}"]
        if play:
            parts.append(f"play '{play}'")
        if task:
            parts.append(f"task '{task}'")
        text = ", ".join(parts)
    line = " ".join(text.split())
    return line if len(line) <= REASON_LIMIT else line[: REASON_LIMIT - 1] + "…"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in some containers
        return f"uid {os.getuid()}"
