# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""moto in this process: requests go to its WSGI application in threads; a few things are read from its back ends directly.

moto takes the account from a header of its own, so whose key it is stays our decision.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

# Read by moto when it is imported: AmazonSSMManagedInstanceCore and the like exist.
os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
# A few images in place of 1,300, through all of which each new instance would look.
os.environ.setdefault("MOTO_AMIS_PATH", str(Path(__file__).with_name("images.json")))

from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.logs.models import logs_backends
from moto.resourcegroups.models import resourcegroups_backends
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.sns.models import sns_backends

from .auth import Credential, Principal, RawRequest

_THREADS = 12  #: functions call the lab while a call of theirs is waited for


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Moto:
    """The services that moto has."""

    def __init__(self) -> None:
        self._application: Callable[..., Iterable[bytes]] = DomainDispatcherApplication(create_backend_app)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="moto")

    async def call(self, request: RawRequest, account: str) -> Answer:
        """Pass a request on in the name of an account."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, request, account)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, request: RawRequest, account: str) -> Answer:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _trouble: Any = None) -> Callable[[bytes], None]:
            started[:] = [int(status.split(" ", 1)[0]), headers]
            return lambda _data: None

        pieces = self._application(_environment(request, account), start_response)
        try:
            body = b"".join(pieces)
        finally:
            getattr(pieces, "close", lambda: None)()
        return Answer(started[0], started[1], body)


class Remembered:
    """Answers of DescribeInstances, which takes moto several seconds for a thousand instances. They hold until anything changes."""

    _MOST = 64

    def __init__(self) -> None:
        self._changes = 0
        self._answers: dict[Hashable, Answer] = {}

    def forget(self) -> None:
        """Something has changed."""
        self._changes += 1
        self._answers.clear()

    async def answer(self, key: Hashable, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to a request, by all that tells it from others."""
        if key in self._answers:
            return self._answers[key]
        before = self._changes
        answer = await ask()
        if before == self._changes and answer.status == 200 and len(self._answers) < self._MOST:
            self._answers[key] = answer
        return answer


#: What this process remembers; moto's back ends are of the whole process as well.
remembered = Remembered()


def _environment(request: RawRequest, account: str) -> dict[str, Any]:
    path, _unused, query = request.target.partition("?")
    host = request.headers.get("Host", "localhost")
    environment: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": request.target,
        "REQUEST_URI": request.target,
        "QUERY_STRING": query,
        "SERVER_NAME": host.rpartition(":")[0] or host,
        "SERVER_PORT": host.rpartition(":")[2] if ":" in host else "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environment[key] = value
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            environment[f"HTTP_{key}"] = value
    environment["HTTP_X_MOTO_ACCOUNT_ID"] = account
    return environment


# -- what the lab itself does in moto


def create_role(account: str, name: str, trusted: Mapping[str, Any], policies: Iterable[str] = ()) -> None:
    """A role with its trust policy; nothing if it exists."""
    backend = iam_backends[account]["aws"]
    if any(role.name == name for role in backend.roles.values()):
        return
    backend.create_role(name, json.dumps(trusted), "/", None, "", [], "43200")
    for policy in policies:
        backend.attach_role_policy(policy, name)


def create_instance_profile(account: str, name: str) -> None:
    """An instance profile with the role of the same name, older than any instance."""
    backend = iam_backends[account]["aws"]
    if name not in {profile.name for profile in backend.instance_profiles.values()}:
        backend.create_instance_profile(name, "/", []).create_date -= timedelta(days=365)
        backend.add_role_to_instance_profile(name, name)


def role_of(account: str, name: str) -> Any | None:
    """moto's role object, or None."""
    return next((role for role in iam_backends[account]["aws"].roles.values() if role.name == name), None)


def role_documents(account: str, name: str) -> list[dict[str, Any]]:
    """The policies of a role, managed and inline; none if there is no such role."""
    role = role_of(account, name)
    if role is None:
        return []
    managed = [version.document for policy in role.managed_policies.values() for version in policy.versions if version.is_default]
    return [json.loads(unquote(text)) for text in [*managed, *role.policies.values()]]


def iam_arn(account: str, form: Mapping[str, str]) -> str:
    """What a call of IAM is about: a role or an instance profile, if it names one."""
    if "PolicySourceArn" in form:
        return form["PolicySourceArn"]
    for key, kind, find in (("InstanceProfileName", "instance-profile", profile), ("RoleName", "role", role_of)):
        if key in form:
            found = find(account, form[key])
            return str(found.arn) if found is not None else f"arn:aws:iam::{account}:{kind}{form.get('Path', '/')}{form[key]}"
    return "*"


def users_key(access_key: str) -> Credential | None:
    """A key that someone made with CreateAccessKey."""
    for account, partitions in list(iam_backends.items()):
        key = partitions["aws"].access_keys.get(access_key)
        if key is not None and key.status == "Active" and key.user_name:
            owner = Principal(account, f"arn:aws:iam::{account}:user/{key.user_name}", key.user_name)
            return Credential(access_key, key.secret_access_key, owner)
    return None


def launch(
    account: str, region: str, tags_of: Sequence[Mapping[str, str]], *, instance_type: str = "t3.micro", profile: str | None
) -> list[Any]:
    """Start instances, one for each set of tags; moto's objects."""
    backend = ec2_backends[account][region]
    _open_default_network(backend)
    reservation = backend.run_instances(
        next(iter(backend.amis)),
        len(tags_of),
        None,
        [],
        instance_type=instance_type,
        is_instance_type_default=True,
        region_name=region,
    )
    for instance, tags in zip(reservation.instances, tags_of, strict=True):
        instance.add_tags(dict(tags))
        if profile is not None:
            backend.associate_iam_instance_profile(instance.id, iam_instance_profile_name=profile).since = instance.launch_time
    remembered.forget()
    return list(reservation.instances)


def _open_default_network(backend: Any) -> None:
    """Let the default network lead to the internet, as it does on AWS; moto's leads nowhere."""
    network = backend.default_vpc
    if network is None or any(gateway.vpc is network for gateway in backend.internet_gateways.values()):
        return
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, network.id)
    (table,) = backend.describe_route_tables(filters={"vpc-id": [network.id], "association.main": ["true"]})
    backend.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)


def make_older(account: str, region: str, instance: Any, seconds: float) -> None:
    """Let an instance and its profile have been there for some time."""
    instance.launch_time -= timedelta(seconds=seconds)
    association = ec2_backends[account][region].iam_instance_profile_associations.get(instance.id)
    if association is not None:
        association.since = instance.launch_time
    remembered.forget()


def associated_since(account: str, region: str, association_id: str) -> datetime | None:
    """When an instance profile was attached; None for those that RunInstances was told of."""
    since: datetime | None = getattr(association(account, region, association_id), "since", None)
    return since


def instance_of(account: str, region: str, instance_id: str) -> Any | None:
    """moto's instance object, or None."""
    for reservation in list(ec2_backends[account][region].reservations.values()):
        for instance in reservation.instances:
            if instance.id == instance_id:
                return instance
    return None


def instances(account: str, region: str) -> dict[str, Any]:
    """All of moto's instance objects by id."""
    found = {}
    for reservation in list(ec2_backends[account][region].reservations.values()):
        for instance in reservation.instances:
            found[instance.id] = instance
    return found


def tags_of(account: str, region: str, instance_id: str) -> dict[str, str]:
    """An instance's tags now."""
    return dict(ec2_backends[account][region].tags.get(instance_id, {}))


def change_state(account: str, region: str, instance_id: str, verb: str) -> None:
    """`start`, `stop` or `terminate` an instance."""
    getattr(ec2_backends[account][region], f"{verb}_instances")([instance_id])
    remembered.forget()


def profile_role(account: str, region: str, instance_id: str) -> str | None:
    """The role of the instance profile that is associated now."""
    association = ec2_backends[account][region].iam_instance_profile_associations.get(instance_id)
    roles = association.iam_instance_profile.roles if association is not None else []
    return roles[0].name if roles else None


def profile(account: str, name: str) -> Any | None:
    """moto's instance profile of a name or ARN, or None."""
    found = iam_backends[account]["aws"].instance_profiles.values()
    return next((each for each in list(found) if name in (each.name, each.arn)), None)


def age(made_in_iam: Any) -> float:
    """Seconds since a role or an instance profile was made."""
    made: datetime = made_in_iam.create_date
    return (datetime.now(UTC) - made.replace(tzinfo=made.tzinfo or UTC)).total_seconds()


def association(account: str, region: str, association_id: str) -> Any | None:
    """moto's association of an instance profile by its id, or None."""
    found = list(ec2_backends[account][region].iam_instance_profile_associations.values())
    return next((each for each in found if each.association_id == association_id), None)


def associate(account: str, region: str, instance_id: str, profile: Any) -> Any:
    """Attach an instance profile; None if the instance has one, or loses one at the moment."""
    backend = ec2_backends[account][region]
    if instance_id in backend.iam_instance_profile_associations:
        return None
    remembered.forget()
    made = backend.associate_iam_instance_profile(instance_id, iam_instance_profile_name=profile.name)
    made.since = datetime.now(UTC)
    return made


def dissociate(account: str, region: str, association: Any) -> None:
    """Forget an association; nothing if that is done."""
    backend = ec2_backends[account][region]
    remembered.forget()
    for key, found in list(backend.iam_instance_profile_associations.items()):
        if found is association:
            del backend.iam_instance_profile_associations[key]
            if key == association.instance_id:
                backend.modify_instance_attribute(key, "iam_instance_profile", None)


def show_association(account: str, region: str, association: Any) -> None:
    """List an association that is going: in its instance's place, or beside the one that has replaced it."""
    associations = ec2_backends[account][region].iam_instance_profile_associations
    taken = association.instance_id in associations
    associations[association.association_id if taken else association.instance_id] = association


def key_arn(account: str, region: str, key: str) -> str:
    """The ARN of a KMS key by its id or alias, as ARNs too: the one that IAM looks at."""
    backend = kms_backends[account][region]
    if ":alias/" in f":{key}" and backend.get_key_id_from_alias(backend.get_alias_name(key)) is None:
        return key
    found = backend.any_id_to_key_id(key)
    return str(backend.keys[found].arn) if found in backend.keys else key


def bucket_region(name: str) -> str | None:
    """The region of the bucket of that name, whoever has it; None if nobody has."""
    partition, account = s3_backends.bucket_accounts.get(name, ("", ""))
    return str(s3_backends[account][partition].buckets[name].region_name) if account else None


def publish_to_topic(topic: str, text: str, subject: str) -> None:
    """Publish to an SNS topic, by its ARN; raises if there is none."""
    _aws, _partition, _sns, region, account, _name = topic.split(":")
    sns_backends[account][region].publish(arn=topic, message=text, subject=subject)


def write_log(account: str, region: str, group: str, stream: str, lines: Sequence[str]) -> None:
    """Put lines into a new stream of CloudWatch Logs; the group is made if it is not there."""
    backend = logs_backends[account][region]
    backend.ensure_log_group(group)
    backend.create_log_stream(group, stream)
    now = int(time.time() * 1000)
    backend.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])


def group_query(account: str, region: str, name: str) -> dict[str, Any] | None:
    """The query of a resource group, by its name or ARN; None if there is no such group."""
    groups = resourcegroups_backends[account][region].groups
    group = groups.by_name.get(name.rpartition("group/")[2])
    if group is None:
        return None
    found: dict[str, Any] = json.loads((group.resource_query or {}).get("Query") or "{}")
    return found
