# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identities against an endpoint of our own: whose credentials are used, when they are renewed, and how throttling is met."""

from __future__ import annotations

import asyncio
import datetime
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.pace import Pace
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import errors
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws import targets
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.helper import CredentialsError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity_key import IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError, ServiceFault
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from tests.unit.aws_endpoint import Answer, Answerer, Endpoint

Serve = Callable[[Answerer], Endpoint]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Endpoint] = []

    def make(answer: Answerer) -> Endpoint:
        made.append(Endpoint(answer))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()


def nothing_registered(_action: str, _key: str, _parameters: dict[str, Any]) -> Answer:
    return 200, {"InstanceInformationList": []}


def identity(environment: dict[str, str], paces: dict[tuple[str, str, str], Pace] | None = None, **options: Any) -> Identity:
    values = ConnectionOptions.from_mapping({"host": "i-1", "region": "eu-central-1", **options})
    return Identity(IdentityKey.of(values, environment), {} if paces is None else paces)


async def look(who: Identity, seconds: float = 20) -> dict[str, Any]:
    deadline = asyncio.get_running_loop().time() + seconds
    return await who.call("ssm", "describe_instance_information", deadline=deadline, resource="*")


def keys(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "secret"}


async def test_each_worker_is_who_its_environment_says(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = serve(nothing_registered)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OF-THE-MUX")
    for name in ("ONE", "TWO"):
        await look(identity({**keys(name), "AWS_ENDPOINT_URL": endpoint.url}))
    assert endpoint.keys == ["ONE", "TWO"]


async def test_options_win_over_the_environment(serve: Serve, tmp_path: Path) -> None:
    endpoint = serve(nothing_registered)
    environment = {**keys("ENVIRONMENT"), "AWS_SESSION_TOKEN": "of the environment", "HOME": str(tmp_path)}
    await look(identity(environment, endpoint_url=endpoint.url, access_key="OPTION", secret_key="x"))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = us-east-1\n")
    await look(identity(environment, endpoint_url=endpoint.url, access_key="OPTION", secret_key="x"))
    assert endpoint.keys == ["OPTION", "OPTION"]


async def test_a_profile_with_credential_process_runs_with_the_workers_environment(serve: Serve, tmp_path: Path) -> None:
    endpoint = serve(nothing_registered)
    program = tmp_path / "credentials.py"
    program.write_text("import json, os\nprint(json.dumps({'Version': 1, 'AccessKeyId': os.environ['AWS_FLEET_TEST'], 'SecretAccessKey': 'x'}))\n")
    config = tmp_path / "config"
    config.write_text(f"[profile ops]\nregion = us-west-2\nendpoint_url = {endpoint.url}\ncredential_process = {sys.executable} {program}\n")
    who = identity({"AWS_CONFIG_FILE": str(config), "AWS_FLEET_TEST": "FROM-THE-PROGRAM", "PATH": "/usr/bin:/bin"}, profile="ops", region=None)
    await look(who)
    assert endpoint.keys == ["FROM-THE-PROGRAM"]
    assert who.region == "us-west-2"


async def test_no_credentials_is_said_in_words(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.raises(CredentialsError, match="nope"):
        await identity(environment, profile="nope").settings()
    with pytest.raises(CredentialsError, match="no credentials"):
        await identity(environment).settings()


def assumed(name: str, lifetime: datetime.timedelta) -> str:
    expiration = (datetime.datetime.now(datetime.UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        f"<AccessKeyId>{name}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{expiration}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )


async def test_a_role_is_assumed_with_its_external_id_and_renewed_before_it_expires(serve: Serve) -> None:
    lifetimes = iter([datetime.timedelta(minutes=5), datetime.timedelta(hours=1)])
    count = iter(range(1, 10))

    def answer(action: str, key: str, parameters: dict[str, Any]) -> Answer:
        if action == "AssumeRole":
            assert key == "BASE"
            asked = tuple(parameters[name] for name in ("RoleArn", "ExternalId", "RoleSessionName"))
            assert asked == ("arn:aws:iam::2:role/Operator", "x-4711", "fleet-ssm-an-na")
            return 200, assumed(f"ROLE{next(count)}", next(lifetimes))
        return nothing_registered(action, key, parameters)

    endpoint = serve(answer)
    environment = {**keys("BASE"), "AWS_ENDPOINT_URL": endpoint.url, "USER": "an na"}
    who = identity(environment, role_arn="arn:aws:iam::2:role/Operator", external_id="x-4711")
    for _turn in range(3):
        await look(who)
    assert [(action, key) for action, key, _unused in endpoint.seen if action != "AssumeRole"] == [
        ("DescribeInstanceInformation", "ROLE1"), ("DescribeInstanceInformation", "ROLE2"), ("DescribeInstanceInformation", "ROLE2"),
    ]  # fmt: skip


ROLE = "arn:aws:iam::2:role/Operator"
THROTTLED = (400, "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>")
BROKEN = (500, "<ErrorResponse><Error><Code>InternalFailure</Code><Message>oops</Message></Error></ErrorResponse>")


def role_after(*refusals: Answer) -> Callable[[str, str, dict[str, Any]], Answer]:
    """STS gives these answers first, then the role."""
    left = iter(refusals)

    def answer(action: str, key: str, parameters: dict[str, Any]) -> Answer:
        if action == "AssumeRole":
            return next(left, None) or (200, assumed("ROLE", datetime.timedelta(hours=1)))
        return nothing_registered(action, key, parameters)

    return answer


async def test_a_throttled_role_is_waited_for_at_the_pace_of_sts(serve: Serve) -> None:
    endpoint = serve(role_after(THROTTLED, THROTTLED))
    paces: dict[tuple[str, str, str], Pace] = {}
    await look(identity({**keys("BASE"), "AWS_ENDPOINT_URL": endpoint.url}, paces, role_arn=ROLE))
    assert endpoint.keys == ["BASE", "BASE", "BASE", "ROLE"]
    assert {action: pace.throttled for (action, _unused, _unused), pace in paces.items()} == {"ssm:DescribeInstanceInformation": 0, "sts:AssumeRole": 2}


async def test_a_role_that_cannot_be_assumed_for_the_moment_can_be_tried_again(serve: Serve) -> None:
    endpoint = serve(role_after(BROKEN))
    who = identity({**keys("BASE"), "AWS_ENDPOINT_URL": endpoint.url}, role_arn=ROLE)
    with pytest.raises(ServiceFault, match=f"sts:AssumeRole on {ROLE}.*oops") as caught:
        await look(who)
    assert errors.is_transient(caught.value)
    assert "sts:AssumeRole" in who.explain(caught.value, "ssm:StartSession", "i-1"), "not StartSession is what failed"
    await look(who)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (BROKEN, ServiceFault),
        (THROTTLED, ServiceFault),
        ((403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"), CredentialsError),
    ],
)
async def test_the_role_of_a_profile_as_well(serve: Serve, tmp_path: Path, refusal: Answer, kind: type[Exception]) -> None:
    endpoint = serve(role_after(refusal))
    config = tmp_path / "config"
    config.write_text(f"[profile ops]\nrole_arn = {ROLE}\ncredential_source = Environment\nregion = us-west-2\nendpoint_url = {endpoint.url}\n")
    environment = {**keys("BASE"), "AWS_CONFIG_FILE": str(config), "AWS_ENDPOINT_URL": endpoint.url, "AWS_MAX_ATTEMPTS": "1"}
    who = identity(environment, profile="ops")
    with pytest.raises(kind, match="no credentials for the profile ops"):
        await who.settings()
    await look(who)
    assert endpoint.keys == ["BASE", "BASE", "ROLE"]


async def test_a_role_that_may_not_be_assumed_is_not_tried_again(serve: Serve) -> None:
    endpoint = serve(role_after((403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>")))
    with pytest.raises(CredentialsError, match="may not assume the role"):
        await look(identity({**keys("BASE"), "AWS_ENDPOINT_URL": endpoint.url}, role_arn=ROLE))
    assert endpoint.keys == ["BASE"]


async def test_expired_keys_are_looked_up_again_once(serve: Serve, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("[ops]\naws_access_key_id = OLD\naws_secret_access_key = x\naws_session_token = t\n")

    def answer(action: str, key: str, parameters: dict[str, Any]) -> Answer:
        if key == "OLD":
            credentials.write_text(credentials.read_text().replace("OLD", "NEW"))  # someone logs in again
            return 400, {"__type": "ExpiredTokenException", "message": "The security token included in the request is expired"}
        return nothing_registered(action, key, parameters)

    endpoint = serve(answer)
    who = identity({"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "HOME": str(tmp_path)}, endpoint_url=endpoint.url, profile="ops")
    await look(who)
    assert endpoint.keys == ["OLD", "NEW"]


async def test_calls_under_way_survive_that_another_one_looks_the_keys_up_again(serve: Serve, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    text = "[ops]\naws_access_key_id = OLD\naws_secret_access_key = x\naws_session_token = t\n"
    credentials.write_text(text)
    endpoint = serve(lambda _action, key, _parameters: (400, {"__type": "ExpiredTokenException"}) if key == "OLD" else (200, {"InstanceInformationList": []}))
    who = identity({"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "HOME": str(tmp_path)}, endpoint_url=endpoint.url, profile="ops")
    await who.settings()
    credentials.write_text(text.replace("OLD", "NEW"))
    looks = [asyncio.ensure_future(look(who)) for _number in range(8)]
    while not all(future.done() for future in looks):
        assert who.known_settings.region == "eu-central-1"
        await asyncio.sleep(0.001)
    await asyncio.gather(*looks)


LOOKUP = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "runs").open("a") as runs:
    runs.write("x")
key = (folder / "key").read_text()
for turn in range(1000):
    if key == "OLD" or (folder / "go-on").exists():
        print(json.dumps({"Version": 1, "AccessKeyId": key, "SecretAccessKey": "x"}))
        break
    (folder / "lookup").touch()
    time.sleep(0.01)
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, path.name
        time.sleep(0.01)


async def test_a_lookup_holds_up_nobody_else_and_is_not_thrown_away_by_a_late_answer(serve: Serve, tmp_path: Path) -> None:
    first = threading.Lock()

    def answer(action: str, key: str, parameters: dict[str, Any]) -> Answer:
        if key != "OLD":
            return nothing_registered(action, key, parameters)
        if not first.acquire(blocking=False):
            wait_for(tmp_path / "lookup")  # the answer to the second call comes while the keys are looked up for the first
            (tmp_path / "late").touch()
        return 400, {"__type": "ExpiredTokenException"}

    endpoint = serve(answer)
    (tmp_path / "lookup.py").write_text(LOOKUP)
    (tmp_path / "key").write_text("OLD")
    (tmp_path / "config").write_text(f"[profile ops]\ncredential_process = {sys.executable} {tmp_path}/lookup.py {tmp_path}\n")
    who = identity({"AWS_CONFIG_FILE": str(tmp_path / "config"), "PATH": "/usr/bin:/bin"}, endpoint_url=endpoint.url, profile="ops")
    await who.settings()
    (tmp_path / "key").write_text("NEW")
    looks = asyncio.gather(look(who), look(who))
    while not (tmp_path / "late").exists():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)  # for the late answer to arrive
    (tmp_path / "go-on").touch()  # which an event loop that is held up never comes to
    await looks
    assert (tmp_path / "runs").read_text() == "xx", "at first, and once again"


async def test_keys_that_stay_expired_are_an_error_after_two_calls(serve: Serve) -> None:
    endpoint = serve(lambda *_: (400, {"__type": "ExpiredTokenException", "message": "expired"}))
    with pytest.raises(botocore.exceptions.ClientError, match="expired"):
        await look(identity({**keys("OLD"), "AWS_ENDPOINT_URL": endpoint.url}))
    assert len(endpoint.seen) == 2


async def test_throttling_is_waited_out_by_all_together(serve: Serve) -> None:
    refusals = iter([True, True, True])

    def answer(action: str, key: str, parameters: dict[str, Any]) -> Answer:
        if next(refusals, False):
            return 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}
        return nothing_registered(action, key, parameters)

    endpoint = serve(answer)
    paces: dict[tuple[str, str, str], Pace] = {}
    who = identity({**keys("ONE"), "AWS_ENDPOINT_URL": endpoint.url}, paces)
    await asyncio.gather(*(look(who) for _turn in range(3)))
    assert len(endpoint.seen) == 6, "three refused, and each of the three answered once"
    assert len(paces) == 1
    pace = next(iter(paces.values()))
    assert pace.throttled == 3


async def test_nothing_else_is_repeated(serve: Serve) -> None:
    endpoint = serve(lambda *_: (500, {"__type": "InternalServerError", "message": "oops"}))
    with pytest.raises(botocore.exceptions.ClientError):
        await look(identity({**keys("ONE"), "AWS_ENDPOINT_URL": endpoint.url}))
    assert len(endpoint.seen) == 1


def test_equal_inputs_are_one_identity_and_secrets_are_not_shown() -> None:
    options = ConnectionOptions(
        host="a", access_key="AKIAIOSFODNN7EXAMPLE", secret_key="hidden", role_arn="arn", external_id="hidden", proxy="http://u:hidden@p"
    )
    other = ConnectionOptions(host="b", access_key="AKIAIOSFODNN7EXAMPLE", secret_key="hidden", role_arn="arn", external_id="hidden", proxy="http://u:hidden@p")
    environment = {"AWS_SECRET_ACCESS_KEY": "hidden"}
    assert IdentityKey.of(options, environment) == IdentityKey.of(other, dict(environment))
    assert IdentityKey.of(options, environment) != IdentityKey.of(options, {})
    assert "hidden" not in repr(IdentityKey.of(options, environment))


# Endpoints: what a proxy is asked for


class Refusing:
    """A proxy that refuses, and keeps in mind what it was asked for; so nothing leaves this machine."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                self.send_error(403)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    proxy = Refusing()
    yield proxy
    proxy.close()


@pytest.mark.parametrize(
    ("options", "environment", "endpoint"),
    [
        ({"region": "eu-central-1"}, {}, "ssm.eu-central-1.amazonaws.com"),
        ({"region": "cn-north-1"}, {}, "ssm.cn-north-1.amazonaws.com.cn"),
        ({"region": "us-gov-west-1"}, {}, "ssm.us-gov-west-1.amazonaws.com"),
        ({"region": "us-east-1", "use_fips": True}, {}, "ssm-fips.us-east-1.amazonaws.com"),
        ({"region": "us-east-1", "use_dualstack": True}, {}, "ssm.us-east-1.api.aws"),
        ({"region": "us-east-1", "use_fips": True, "use_dualstack": True}, {}, "ssm-fips.us-east-1.api.aws"),
        ({"region": "us-east-1"}, {"AWS_USE_FIPS_ENDPOINT": "true"}, "ssm-fips.us-east-1.amazonaws.com"),
        ({"region": "us-east-1", "use_fips": False}, {"AWS_USE_FIPS_ENDPOINT": "true"}, "ssm.us-east-1.amazonaws.com"),
        ({"region": None}, {"AWS_REGION": "cn-northwest-1"}, "ssm.cn-northwest-1.amazonaws.com.cn"),
        ({"region": "us-east-1", "endpoint_url": "https://vpce-1.example"}, {}, "vpce-1.example"),
        ({"region": "us-east-1"}, {"AWS_ENDPOINT_URL_SSM": "https://vpce-2.example"}, "vpce-2.example"),
        ({"region": "us-east-1", "role_arn": "arn:aws:iam::2:role/R"}, {}, "sts.us-east-1.amazonaws.com"),
        ({"region": "cn-north-1", "role_arn": "arn:aws-cn:iam::2:role/R"}, {}, "sts.cn-north-1.amazonaws.com.cn"),
        ({"region": "us-east-1", "role_arn": "arn:aws:iam::2:role/R", "use_fips": True}, {}, "sts-fips.us-east-1.amazonaws.com"),
        ({"region": "us-east-1", "role_arn": "arn:aws:iam::2:role/R", "endpoint_url": "https://vpce-1.example"}, {}, "sts.us-east-1.amazonaws.com"),
    ],
)
async def test_the_endpoint_of_partition_and_variant_is_asked(
    refusing: Refusing, options: dict[str, Any], environment: dict[str, str], endpoint: str
) -> None:
    with pytest.raises((botocore.exceptions.ProxyConnectionError, CredentialsError)):
        await look(identity({**keys("ONE"), "HTTPS_PROXY": refusing.url, **environment}, **options))
    assert refusing.asked == [f"{endpoint}:443"]


@pytest.mark.parametrize(
    ("options", "exception"), [({"region": "cn-north-1"}, ".amazonaws.com.cn"), ({"region": "us-east-1", "use_dualstack": True}, "ssm.us-east-1.api.aws")]
)
async def test_exceptions_from_the_proxy_are_those_of_the_real_endpoint(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], exception: str
) -> None:
    def nowhere(*_: Any, **__: Any) -> Any:
        raise OSError("no way out")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        await look(identity({**keys("ONE"), "HTTPS_PROXY": refusing.url, "NO_PROXY": exception}, **options))
    assert refusing.asked == []


# Targets


@pytest.mark.parametrize("host", ["i-0123456789abcdef0", "i-01234567", "mi-0123456789abcdef0"])
def test_an_id_is_taken_as_it_is(host: str) -> None:
    assert targets.parse(host) == host


def test_anything_else_is_a_tag() -> None:
    assert targets.parse("web-1") == targets.TagTarget("Name", "web-1")
    assert targets.parse("tag:Role=web=1") == targets.TagTarget("Role", "web=1")
    assert targets.parse("i-am-a-name") == targets.TagTarget("Name", "i-am-a-name")
    with pytest.raises(RequestError, match="not an instance id"):
        targets.parse("i-0123")


def node(number: int, **fields: Any) -> dict[str, Any]:
    return {"InstanceId": f"mi-{number:017x}", "PingStatus": "Online", "ComputerName": f"host-{number}", "IPAddress": "192.0.2.1", **fields}


async def resolve(endpoint: Endpoint, host: str) -> str:
    return await targets.resolve(identity({**keys("ONE"), "AWS_ENDPOINT_URL": endpoint.url}), host, asyncio.get_running_loop().time() + 20)


async def test_a_tag_of_one_node_is_that_node_also_on_a_later_page(serve: Serve) -> None:
    def answer(_action: str, _key: str, parameters: dict[str, Any]) -> Answer:
        assert parameters["Filters"] == [{"Key": "tag:Role", "Values": ["db"]}]
        return 200, {"InstanceInformationList": [node(7)]} if "NextToken" in parameters else {"InstanceInformationList": [], "NextToken": "more"}

    assert await resolve(serve(answer), "tag:Role=db") == node(7)["InstanceId"]


async def test_a_fault_while_a_name_is_looked_for_can_be_tried_again(serve: Serve) -> None:
    endpoint = serve(lambda *_: (503, {"__type": "ServiceUnavailable", "message": "oops"}))
    with pytest.raises(ServiceFault, match=r"ssm:DescribeInstanceInformation.*oops") as caught:
        await resolve(endpoint, "web")
    assert errors.is_transient(caught.value)


async def test_a_refusal_while_a_name_is_looked_for_is_final(serve: Serve) -> None:
    with pytest.raises(RequestError, match="allow the action") as caught:
        await resolve(serve(lambda *_: (400, {"__type": "AccessDeniedException", "message": "no"})), "web")
    assert not isinstance(caught.value, ServiceFault)


async def test_an_ambiguous_name_lists_the_candidates(serve: Serve) -> None:
    endpoint = serve(lambda *_: (200, {"InstanceInformationList": [node(1), node(2, PingStatus="ConnectionLost")]}))
    with pytest.raises(RequestError) as caught:
        await resolve(endpoint, "web")
    for part in ("2 nodes", node(1)["InstanceId"], node(2)["InstanceId"], "host-2", "ConnectionLost", "ansible_ssm_host"):
        assert part in str(caught.value)
