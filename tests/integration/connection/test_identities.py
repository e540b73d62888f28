# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom AWS is called: profiles, programs, keys, roles with external ids, SSO; several at once; renewal."""

from __future__ import annotations

import datetime
import hashlib
import json
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleOptionsError

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller
from tests.integration.direct import DirectConnection
from tests.lab import Lab

Connect = Callable[..., DirectConnection]

OTHER = "222222222222"


def without_keys(lab: Lab, **more: str) -> dict[str, str]:
    """The lab's environment with nobody's credentials in it."""
    kept = {name: value for name, value in lab.env().items() if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return {**kept, **more}


def keys(lab: Lab, account: str | None = None) -> tuple[str, str]:
    environment = lab.env(account=account)
    return environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]


def callers(lab: Lab, action: str = "ssm:StartSession") -> set[str]:
    """ARNs of those who called, since the last reset."""
    return {entry["principal"] for entry in lab.requests(entries=True).entries if entry["action"] == action}


def config(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "aws-config"
    path.write_text(text)
    return {"AWS_CONFIG_FILE": str(path)}


def there(lab: Lab, **variables: Any) -> dict[str, Any]:
    """Variables of a node in the second account, without the role that the inventory gives it."""
    return {"ansible_ssm_role_arn": None, **variables}


@pytest.fixture(autouse=True)
def count_from_zero(lab: Lab) -> None:
    lab.reset_requests()


@pytest.mark.parametrize("by", ["option", "alias", "environment"])
def test_profile(lab: Lab, own_connect: Connect, by: str) -> None:
    name = f"lab-{lab.account}"
    environment = without_keys(lab, AWS_PROFILE=name) if by == "environment" else without_keys(lab)
    variables = {"option": {"ansible_ssm_profile": name}, "alias": {"ansible_aws_ssm_profile": name}}.get(by, {})
    assert own_connect(environment=environment, **variables).execute("hostname") == (0, b"web-1\n", b"")


def test_profile_that_does_not_exist(lab: Lab, own_connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=r"profile.*nope"):
        own_connect(environment=without_keys(lab), ansible_ssm_profile="nope").execute("true")


def test_credential_process_and_its_renewal(lab: Lab, own_connect: Connect, tmp_path: Path) -> None:
    store = tmp_path / "credentials.json"

    def log_in() -> str:
        found = lab.client("sts").get_session_token()["Credentials"]
        shown = {"Version": 1, "AccessKeyId": found["AccessKeyId"], "SecretAccessKey": found["SecretAccessKey"], "SessionToken": found["SessionToken"]}
        store.write_text(json.dumps({**shown, "Expiration": found["Expiration"].isoformat()}))
        return str(found["AccessKeyId"])

    first = log_in()
    environment = without_keys(lab, **config(tmp_path, f"[profile program]\ncredential_process = cat {shlex.quote(str(store))}\n"))
    connection = own_connect(environment=environment, ansible_ssm_profile="program")
    assert connection.execute("hostname") == (0, b"web-1\n", b"")
    log_in()
    assert lab.expire_credentials(access_key=first) == 1
    connection.plugin.reset()
    assert connection.execute("hostname") == (0, b"web-1\n", b"")


def test_a_credential_process_that_fails_says_why(lab: Lab, own_connect: Connect, tmp_path: Path) -> None:
    environment = without_keys(lab, **config(tmp_path, "[profile program]\ncredential_process = sh -c 'echo the vault is sealed >&2; exit 3'\n"))
    with pytest.raises(AnsibleConnectionFailure, match="the vault is sealed"):
        own_connect(environment=environment, ansible_ssm_profile="program").execute("true")


def test_keys_as_options_win_over_those_of_the_environment(lab: Lab, own_connect: Connect) -> None:
    access, secret = keys(lab, OTHER)
    connection = own_connect("web-3", environment=lab.env(), **there(lab, ansible_ssm_access_key=access, ansible_ssm_secret_key=secret))
    assert connection.execute("hostname") == (0, b"web-3\n", b"")
    assert callers(lab) == {f"arn:aws:iam::{OTHER}:user/operator"}


def test_keys_that_contradict_a_profile_are_refused(lab: Lab, own_connect: Connect) -> None:
    access, secret = keys(lab)
    with pytest.raises(AnsibleOptionsError, match=r"'access_key' and 'profile'"):
        own_connect(ansible_ssm_access_key=access, ansible_ssm_secret_key=secret, ansible_ssm_profile="x").execute("true")


def test_role_with_external_id_and_session_name(lab: Lab, own_connect: Connect) -> None:
    role = lab.create_role(OTHER, "Guarded", external_id="x-4711")
    variables = {"ansible_ssm_role_arn": role, "ansible_ssm_role_session_name": "audit-me"}
    assert own_connect("web-3", ansible_ssm_external_id="x-4711", **variables).execute("hostname") == (0, b"web-3\n", b"")
    assert callers(lab) == {f"arn:aws:sts::{OTHER}:assumed-role/Guarded/audit-me"}
    with pytest.raises(AnsibleConnectionFailure, match="may not assume the role") as caught:
        own_connect("web-3", ansible_ssm_external_id="guessed-wrongly", **variables).execute("true")
    assert role in str(caught.value)
    assert "guessed-wrongly" not in str(caught.value)


def test_role_chained_from_a_profile_that_is_a_role(lab: Lab, own_connect: Connect) -> None:
    trusted = f"arn:aws:iam::{lab.account}:role/FleetOperator"
    role = lab.create_role(OTHER, "Second", trusted=[trusted])
    with pytest.raises(AnsibleConnectionFailure, match="may not assume the role"):  # the user alone may not
        own_connect("web-3", ansible_ssm_role_arn=role).execute("true")
    connection = own_connect("web-3", environment=without_keys(lab), ansible_ssm_profile=f"lab-{lab.account}-role", ansible_ssm_role_arn=role)
    assert connection.execute("hostname") == (0, b"web-3\n", b"")


def test_two_identities_in_one_play(lab: Lab, own_controller: Controller) -> None:
    access, secret = keys(lab, OTHER)
    mine = {**connection_variables(lab, "web-1"), "ansible_ssm_profile": f"lab-{lab.account}"}
    theirs = {**connection_variables(lab, "web-3"), **there(lab), "ansible_ssm_access_key": access, "ansible_ssm_secret_key": secret}
    own_controller.environment = {name: value for name, value in own_controller.environment.items() if "ACCESS_KEY" not in name}
    own_controller.hosts({"web-1": mine, "web-3": theirs}, ansible_python_interpreter="/usr/bin/python3")
    run = own_controller.tasks({"name": "who", "ansible.builtin.command": "hostname"}).check()
    assert {host: result["stdout"] for _unused, host, result in run.tasks()} == {"web-1": "web-1", "web-3": "web-3"}
    assert callers(lab) == {f"arn:aws:iam::{account}:user/operator" for account in (lab.account, OTHER)}


def test_the_endpoint_of_ssm_is_not_that_of_sts(lab: Lab, own_connect: Connect) -> None:
    environment = lab.env(tls=True)
    del environment["AWS_ENDPOINT_URL"]
    with lab.proxy() as proxy:
        connection = own_connect("web-3", environment={**environment, "HTTPS_PROXY": proxy.url}, ansible_ssm_endpoint_url=lab.api_url)
        assert connection.execute("hostname") == (0, b"web-3\n", b"")
        assert {request.target for request in proxy.requests} == {"sts.eu-central-1.amazonaws.com:443"}


# Single sign-on: the lab has none, so its one call is answered here.


class _Portal(BaseHTTPRequestHandler):
    """GetRoleCredentials of IAM Identity Center."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        allowed = (parts.path, asked.get("role_name"), self.headers["x-amz-sso_bearer_token"]) == ("/federation/credentials", "Operator", "the token")
        server: Any = self.server
        content = {"roleCredentials": server.credentials} if allowed else {"message": "Session token not found or invalid"}
        data = json.dumps(content).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def portal(lab: Lab) -> Iterator[str]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Portal)
    access, secret = keys(lab)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    server.credentials = {"accessKeyId": access, "secretAccessKey": secret, "sessionToken": "", "expiration": int(later.timestamp() * 1000)}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("logged_in", [True, False])
def test_sso_with_the_token_of_an_earlier_login(lab: Lab, own_connect: Connect, portal: str, tmp_path: Path, logged_in: bool) -> None:
    start = "https://fleet.awsapps.example/start"
    cache = tmp_path / "own-home" / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1 if logged_in else -1)
    token = {"startUrl": start, "region": "eu-central-1", "accessToken": "the token", "expiresAt": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    (cache / f"{hashlib.sha1(b'work').hexdigest()}.json").write_text(json.dumps(token))
    text = (f"[profile sso]\nsso_session = work\nsso_account_id = {lab.account}\nsso_role_name = Operator\n\n"
            f"[sso-session work]\nsso_start_url = {start}\nsso_region = eu-central-1\n")  # fmt: skip
    connection = own_connect(environment=without_keys(lab, AWS_ENDPOINT_URL_SSO=portal, **config(tmp_path, text)), ansible_ssm_profile="sso")
    if logged_in:
        assert connection.execute("hostname") == (0, b"web-1\n", b"")
    else:
        with pytest.raises(AnsibleConnectionFailure, match="aws sso login"):
            connection.execute("true")


def test_a_helper_has_no_settings_of_the_mux(lab: Lab, own_connect: Connect, tmp_path: Path) -> None:
    """The program of one worker's profile sees that worker's environment, not that of who started the mux."""
    access, secret = keys(lab)
    program = tmp_path / "program.py"
    program.write_text("import json, os\nprint(json.dumps({'Version': 1, 'AccessKeyId': os.environ['AWS_TEST_KEY'], "
                       "'SecretAccessKey': os.environ['AWS_TEST_SECRET']}))\n")  # fmt: skip
    own_connect().execute("true")
    settings = config(tmp_path, f"[profile program]\ncredential_process = {shlex.quote(sys.executable)} {shlex.quote(str(program))}\n")
    environment = without_keys(lab, AWS_TEST_KEY=access, AWS_TEST_SECRET=secret, **settings)
    assert own_connect(environment=environment, ansible_ssm_profile="program").execute("hostname") == (0, b"web-1\n", b"")


# Services that fail for a moment


@pytest.fixture
def faults(lab: Lab) -> Iterator[Lab]:
    yield lab
    lab.clear_faults()


@pytest.mark.parametrize("fault", [{"status": 500, "code": "InternalFailure"}, {"status": 400, "code": "Throttling"}], ids=["fails", "throttles"])
@pytest.mark.parametrize("action", ["sts:AssumeRole", "ssm:DescribeInstanceInformation"])
def test_a_service_that_fails_twice_makes_no_node_unreachable(faults: Lab, own_connect: Connect, action: str, fault: dict[str, Any]) -> None:
    faults.fault_calls(action, count=2, **fault)
    assert own_connect("web-3", ansible_ssm_instance_id="web-3").execute("hostname") == (0, b"web-3\n", b"")
    assert faults.requests().counts[action] == 3
