# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service says of an invocation: the only source that is believed. Asked in the node's account, with a role of that account."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

_ENDS = 900.0  #: seconds before the end of their hour from which on credentials are not used any more
_ACTIVE = frozenset({"pending", "in_progress", "delayed", "cancelling"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
_CONFIG = Config(retries={"mode": "adaptive", "max_attempts": 6}, connect_timeout=3, read_timeout=10)
#: With the bucket's region, but for S3's oldest name.
_URL = re.compile(r"https://s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?/(?P<bucket>[^/]+)/(?P<key>.+)")


class Denied(Exception):
    """The account does not let the function look; the text names the action."""


@dataclass(frozen=True)
class Step:
    """One step's result."""

    name: str
    status: str
    rc: int | None
    stdout_url: str | None  #: None if the stream is empty: then there is no object
    stderr_url: str | None
    places: tuple[str, ...]  #: the URLs of both, empty or not
    ended_at: str | None


@dataclass(frozen=True)
class Invocation:
    """A command on a node."""

    account: str
    region: str
    command_id: str
    node_id: str
    status: str  #: in this collection's words: success, failed, execution_timed_out, …
    document: str
    comment: str
    steps: tuple[Step, ...]

    @property
    def ended(self) -> bool:
        """Whether its status is the last one."""
        return self.status not in _ACTIVE

    def has(self, bucket: str, key: str) -> bool:
        """Whether the command's output was to go to that object."""
        return any(place == (bucket, key) for step in self.steps for place in map(locate, step.places))


def locate(url: str) -> tuple[str, str]:
    """Bucket and key of an output's URL; empty ones if it is none."""
    found = _URL.fullmatch(url)
    return (found["bucket"], unquote(found["key"])) if found else ("", "")


def snake(details: str) -> str:
    """``ExecutionTimedOut`` as ``execution_timed_out``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", details.replace(" ", "")).lower()


class Invocations:
    """Looks invocations up."""

    def __init__(self, role_name: str, partition: str = "aws") -> None:
        self._role_name, self._partition = role_name, partition
        self._clients: dict[tuple[str, str], tuple[float, Any]] = {}

    def look(self, account: str, region: str, command_id: str, node_id: str) -> Invocation | None:
        """As it is now; None if there is none. :raises Denied: if it may not be asked for."""
        ssm = self._client(account, region)
        names = {"CommandId": command_id, "InstanceId": node_id}
        try:
            try:
                answers = [ssm.get_command_invocation(**names)]
                status, first = answers[0]["StatusDetails"], answers[0]
            except ssm.exceptions.InvalidPluginName:  # of several steps each must be named
                entries = ssm.list_command_invocations(**names, Details=True)["CommandInvocations"]
                if not entries:
                    return None
                first, status = entries[0], entries[0]["StatusDetails"]
                answers = [ssm.get_command_invocation(**names, PluginName=step["Name"]) for step in first["CommandPlugins"]]
        except ssm.exceptions.InvocationDoesNotExist:
            return None
        except ClientError as error:
            if error.response["Error"]["Code"] in _DENIED:
                raise Denied(f"{self._role_name} of {account} may not ssm:{error.operation_name}") from error
            raise
        return Invocation(
            account, region, command_id, node_id, snake(status), first.get("DocumentName", ""), first.get("Comment", ""), tuple(map(_step, answers))
        )

    def _client(self, account: str, region: str) -> Any:
        ends, client = self._clients.get((account, region), (0.0, None))
        if time.monotonic() < ends:
            return client
        role = f"arn:{self._partition}:iam::{account}:role/{self._role_name}"
        try:
            keys = boto3.client("sts", config=_CONFIG).assume_role(RoleArn=role, RoleSessionName="fleet-ssm-completions")["Credentials"]
        except ClientError as error:
            if error.response["Error"]["Code"] in _DENIED:
                raise Denied(f"{role} cannot be assumed: sts:AssumeRole is not allowed") from error
            raise
        client = boto3.client(
            "ssm", region_name=region, config=_CONFIG, aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )  # fmt: skip
        self._clients[account, region] = (time.monotonic() + 3600 - _ENDS, client)
        return client


def _step(answer: Mapping[str, Any]) -> Step:
    out, err = answer.get("StandardOutputUrl") or "", answer.get("StandardErrorUrl") or ""
    code = answer.get("ResponseCode", -1)
    return Step(
        name=answer.get("PluginName") or "",
        status=snake(answer["StatusDetails"]),
        rc=None if code == -1 else code,
        # Agents do not upload empty streams, so a URL of one leads nowhere.
        stdout_url=out if out and answer.get("StandardOutputContent") else None,
        stderr_url=err if err and answer.get("StandardErrorContent") else None,
        places=tuple(url for url in (out, err) if url),
        ended_at=answer.get("ExecutionEndDateTime") or None,
    )
