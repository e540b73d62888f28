# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to AWS: proxies with a password, exceptions from them, private CAs; for the API as for the data channel."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure

from tests.integration.controller import run_mux
from tests.integration.direct import DirectConnection
from tests.lab import Lab
from tests.lab.proxy import Proxy

Connect = Callable[..., DirectConnection]

PASSWORD = "s3cret word"
QUOTED = "s3cret%20word"


def through_proxy(lab: Lab, **more: str) -> dict[str, str]:
    """An environment that has no endpoint of its own: AWS's names, which only the proxy knows the way to."""
    environment = lab.env(tls=True)
    del environment["AWS_ENDPOINT_URL"]
    return {**environment, **more}


def url(proxy: Proxy) -> str:
    """With user and password, as a person writes it."""
    return proxy.url.replace("://", f"://fleet:{QUOTED}@")


def hosts(proxy: Proxy) -> set[str]:
    """What was let through, by name."""
    assert all(request.method == "CONNECT" for request in proxy.requests)
    return {request.target.partition(":")[0] for request in proxy.requests if request.authorized}


def works(connection: DirectConnection) -> None:
    data = os.urandom(100_000)
    assert connection.execute("cat; echo problem >&2; exit 3", data) == (3, data, b"problem\n")


# Proxies


@pytest.mark.parametrize("by", ["option", "environment"])
def test_proxy_with_password_for_api_and_data_channel(lab: Lab, own_connect: Connect, by: str) -> None:
    with lab.proxy("fleet", PASSWORD) as proxy:
        if by == "option":
            works(own_connect(environment=through_proxy(lab), ansible_ssm_proxy=url(proxy)))
        else:
            works(own_connect(environment=through_proxy(lab, HTTPS_PROXY=url(proxy))))
        assert hosts(proxy) == {"ssm.eu-central-1.amazonaws.com", "ssmmessages.eu-central-1.amazonaws.com"}


def test_proxy_for_assumed_roles(lab: Lab, own_connect: Connect) -> None:
    with lab.proxy("fleet", PASSWORD) as proxy:
        assert own_connect("web-3", environment=through_proxy(lab), ansible_ssm_proxy=url(proxy)).execute("hostname") == (0, b"web-3\n", b"")
        assert "sts.eu-central-1.amazonaws.com" in hosts(proxy)


def test_the_option_wins_over_the_environment(lab: Lab, own_connect: Connect) -> None:
    with lab.proxy("fleet", PASSWORD) as proxy, lab.proxy() as other:
        works(own_connect(environment=through_proxy(lab, HTTPS_PROXY=other.url), ansible_ssm_proxy=url(proxy)))
        assert other.requests == []


@pytest.mark.parametrize("exception", ["127.0.0.0/8", "other.example, 127.0.0.1"])
def test_no_proxy_is_kept_for_api_and_data_channel(lab: Lab, own_connect: Connect, exception: str) -> None:
    with lab.proxy("fleet", PASSWORD) as proxy:
        works(own_connect(environment={**lab.env(), "HTTP_PROXY": url(proxy), "HTTPS_PROXY": url(proxy), "NO_PROXY": exception}))
        assert proxy.requests == []


@pytest.mark.slow
def test_no_proxy_by_suffix(lab: Lab, own_connect: Connect) -> None:
    """What is named is tried directly, for some seconds, where nothing has that name."""
    with lab.proxy("fleet", PASSWORD) as proxy:
        environment = through_proxy(lab, AWS_ENDPOINT_URL="https://ssm.lab.amazonaws.com", HTTPS_PROXY=url(proxy), NO_PROXY=".lab.amazonaws.com")
        with pytest.raises(AnsibleConnectionFailure, match="No connection for ssm:StartSession"):
            own_connect(environment=environment).execute("true")
        assert proxy.requests == []


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_wrong_proxy_password_is_an_error_that_does_not_tell_it(lab: Lab, own_connect: Connect, by: str) -> None:
    with lab.proxy("fleet", "another") as proxy:
        variables = {"ansible_ssm_proxy": url(proxy)} if by == "option" else {}
        environment = through_proxy(lab) if by == "option" else through_proxy(lab, HTTPS_PROXY=url(proxy))
        with pytest.raises(AnsibleConnectionFailure, match=r"(?i)proxy.*'proxy'") as caught:
            own_connect(environment=environment, ansible_ssm_connection_timeout=5, **variables).execute("true")
        assert "407" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named_without_its_password(lab: Lab, own_connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=r"(?i)proxy") as caught:
        own_connect(environment=through_proxy(lab), ansible_ssm_proxy=f"http://fleet:{QUOTED}@127.0.0.1:9").execute("true")
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_a_proxy_that_cannot_be_used_is_an_error_of_the_option(lab: Lab, own_connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="proxy") as caught:
        own_connect(environment=through_proxy(lab), ansible_ssm_proxy=f"socks5://fleet:{QUOTED}@127.0.0.1:9").execute("true")
    assert "s3cret" not in str(caught.value)


# Certificates


@pytest.mark.parametrize("by", ["option", "environment"])
def test_private_ca(lab: Lab, own_connect: Connect, by: str) -> None:
    environment = lab.env(tls=True)
    if by == "option":
        del environment["AWS_CA_BUNDLE"]
        works(own_connect(environment=environment, ansible_ssm_ca_bundle=str(lab.ca_path)))
    else:
        works(own_connect(environment=environment))


def test_private_ca_of_a_profile(lab: Lab, own_connect: Connect, tmp_path: Path) -> None:
    environment = lab.env(tls=True)
    config = tmp_path / "config"
    config.write_text(f"[profile private]\naws_access_key_id = {environment.pop('AWS_ACCESS_KEY_ID')}\n"
                      f"aws_secret_access_key = {environment.pop('AWS_SECRET_ACCESS_KEY')}\nca_bundle = {environment.pop('AWS_CA_BUNDLE')}\n")  # fmt: skip
    works(own_connect(environment={**environment, "AWS_CONFIG_FILE": str(config)}, ansible_ssm_profile="private"))


def test_without_the_private_ca_the_option_is_named(lab: Lab, own_connect: Connect) -> None:
    environment = lab.env(tls=True)
    del environment["AWS_CA_BUNDLE"]
    with pytest.raises(AnsibleConnectionFailure, match=r"not trusted.*'ca_bundle'"):
        own_connect(environment=environment, ansible_ssm_connection_timeout=5).execute("true")


def test_for_the_data_channel_alone_the_option_is_named_as_well(lab: Lab, own_connect: Connect) -> None:
    lab.settings(stream_scheme="wss")
    try:
        environment = lab.env()
        del environment["AWS_CA_BUNDLE"]
        with pytest.raises(AnsibleConnectionFailure, match=r"data channel.*'ca_bundle'"):
            own_connect(environment=environment, ansible_ssm_connection_timeout=5).execute("true")
    finally:
        lab.settings(stream_scheme="auto")


@pytest.mark.parametrize("content", [None, "no certificate at all\n"], ids=["missing", "not-pem"])
def test_a_ca_bundle_that_cannot_be_read_is_named(lab: Lab, own_connect: Connect, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AnsibleConnectionFailure, match=r"ca\.pem"):
        own_connect(environment=lab.env(tls=True), ansible_ssm_ca_bundle=str(path), ansible_ssm_connection_timeout=5).execute("true")


# The second session


@pytest.mark.slow
def test_a_second_session_that_cannot_be_had_at_once_is_tried_again(lab: Lab, own_connect: Connect) -> None:
    """While there is work: a node that nobody uses needs none."""
    connection, other = own_connect(), own_connect()
    connection.execute("true")
    first = output_session()
    with lab.fault_calls("ssm:StartSession", status=500, count=1):
        lab.client("ssm").terminate_session(SessionId=first)
        working = threading.Thread(target=other.execute, args=("sleep 8",))
        working.start()
        try:
            assert output_session(other_than=first) != first
        finally:
            working.join()
    assert connection.execute("seq 1 100000")[1].count(b"\n") == 100_000


def output_session(other_than: str | None = None) -> str:
    """The second session of the one node of this connection's mux."""
    deadline = time.monotonic() + 20
    while True:
        (node,) = json.loads(run_mux(dict(os.environ), "status", "--json").stdout)["nodes"]
        if (found := node["output_session"]) not in (None, other_than):
            return str(found)
        assert time.monotonic() < deadline, "there is no output session"
        time.sleep(0.2)
