# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way to an endpoint, for websockets and for botocore alike; the second half over real sockets on loopback."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ProxyConnectionError, SSLError

from ansible_collections.fleet.ssm.plugins.module_utils.network import Network, NetworkError, NoProxy, without_credentials
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import ChannelError, SessionClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Output
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.settings import ChannelSettings

from .agent import Agent
from .loopback import ConnectProxy, HttpsServer, PrivateCA
from .service import Service

PASSWORD = "s3cret/@:?"
QUOTED_PASSWORD = "s3cret%2F%40%3A%3F"


@pytest.mark.parametrize(
    ("rules", "host", "port", "covered"),
    [
        ("", "example.com", 443, False),
        ("*", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "ssm.example.com", 443, True),
        ("example.com", "SSM.Example.COM.", 443, True),
        ("EXAMPLE.com", "example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("example.com", "example.com.org", 443, False),
        (".example.com", "ssm.example.com", 443, True),
        (".example.com", "example.com", 443, True),
        ("*.example.com", "ssm.example.com", 443, True),
        ("*.example.com", "notexample.com", 443, False),
        ("a.org, b.org c.org", "b.org", 443, True),
        ("a.org, b.org c.org", "c.org", 443, True),
        ("a.org,,", "d.org", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example.com", 443, False),
        ("10.1.2.3/8", "10.200.0.1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::/8", "10.1.2.3", 443, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1", "127.0.0.10", 80, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("127.0.0.1:80", "127.0.0.1", 81, False),
        ("::1", "0:0:0:0:0:0:0:1", 443, True),
        ("[::1]", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("[::1]:443", "[::1]", 444, False),
        ("10.0.0.0/99", "10.1.2.3", 443, False),
        (".", "example.com", 443, False),
        ("localhost", "localhost", 8080, True),
        ("example.com", "127.0.0.1", 443, False),
    ],
)
def test_no_proxy(rules: str, host: str, port: int, covered: bool) -> None:
    assert NoProxy.parse(rules).covers(host, port) is covered


def test_ports_of_no_proxy_are_compared_with_the_scheme_s_default() -> None:
    network = Network.choose(proxy="http://p:1", no_proxy="example.com:443")
    assert network.proxy_for("wss://example.com/x") is None
    assert network.proxy_for("https://example.com:8443/x") == "http://p:1"
    assert network.proxy_for("ws://example.com/x") == "http://p:1"


@pytest.mark.parametrize(
    ("options", "environ", "https", "http"),
    [
        ({}, {}, None, None),
        ({}, {"HTTPS_PROXY": "http://a:1"}, "http://a:1", None),
        ({}, {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "http://b:1", None),
        ({}, {"http_proxy": "http://a:1"}, None, "http://a:1"),
        ({}, {"ALL_PROXY": "http://c:1", "http_proxy": "http://a:1"}, "http://c:1", "http://a:1"),
        ({"proxy": "http://x:1"}, {"HTTPS_PROXY": "http://a:1"}, "http://x:1", "http://x:1"),
        ({"proxy": "x:3128"}, {}, "http://x:3128", "http://x:3128"),
        ({"proxy": ""}, {"HTTPS_PROXY": "http://a:1"}, None, None),
        ({"proxy": "http://x:1"}, {"NO_PROXY": "*"}, None, None),
        ({"proxy": "http://x:1", "no_proxy": ""}, {"NO_PROXY": "*"}, "http://x:1", "http://x:1"),
        ({}, {"https_proxy": "http://a:1", "no_proxy": "amazonaws.com"}, None, None),
    ],
)
def test_options_come_before_the_environment(options: dict[str, Any], environ: dict[str, str], https: str | None, http: str | None) -> None:
    network = Network.choose(**options, environ=environ)
    for scheme, expected in (("https", https), ("wss", https), ("http", http), ("ws", http)):
        url = f"{scheme}://ssm.eu-central-1.amazonaws.com/path"
        assert network.proxy_for(url) == expected
        assert network.botocore_proxies(url) == ({"http": expected, "https": expected} if expected else {})


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere:1")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/elsewhere.pem")
    assert Network.choose() == Network()


@pytest.mark.parametrize(
    "url",
    [
        "socks5://p:1080",
        "ftp://p",
        "http://",
        "http://user:hidden@",
        "http://user:hidden@p:port",
        "http://user:hidden@[p:1",
        "http://user:hidden@p:1/path",
        "http://user:hidden%FF@p:1",
        "http://user:hidden@p:0",
        "http://user:hidden@p?q",
    ],
)
def test_unusable_proxies_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(NetworkError, match="must be http") as caught:
        Network.choose(proxy=url)
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_s_user_needs_no_password() -> None:
    assert Network.choose(proxy="http://user@p:3128").proxy_for("https://a/") == "http://user:@p:3128"


def test_credentials_are_not_shown() -> None:
    url = f"http://user:{QUOTED_PASSWORD}@p:3128"
    assert without_credentials(url) == "http://p:3128"
    assert "s3cret" not in repr(Network.choose(proxy=url))


def test_whom_to_trust(tmp_path: Path) -> None:
    bundle, other = tmp_path / "a.pem", tmp_path / "b.pem"
    for path in (bundle, other):
        path.write_text("")
    environ = {"REQUESTS_CA_BUNDLE": str(other)}
    assert Network.choose(environ=environ).verify == str(other)
    assert Network.choose(environ={**environ, "AWS_CA_BUNDLE": str(bundle)}).verify == str(bundle)
    assert Network.choose(ca_bundle=str(bundle), environ=environ).verify == str(bundle)
    assert Network.choose(ca_bundle=str(bundle), validate_certs=False).verify is False
    assert Network.choose().verify is True
    with pytest.raises(NetworkError, match=r"c\.pem does not exist"):
        Network.choose(ca_bundle=str(tmp_path / "c.pem"))
    with pytest.raises(NetworkError, match=r"a\.pem cannot be read"):
        Network.choose(ca_bundle=str(bundle)).tls()
    context = Network.choose(validate_certs=False).tls()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert Network().tls().verify_mode == ssl.CERT_REQUIRED


def test_equal_choices_are_equal_and_share_their_context() -> None:
    options = {"proxy": "http://p:1", "no_proxy": "a.org"}
    network = Network.choose(**options)  # type: ignore[arg-type]
    assert network == Network.choose(**options)  # type: ignore[arg-type]
    assert network != Network.choose(proxy="http://q:1", no_proxy="a.org")
    assert hash(network) == hash(Network.choose(**options))  # type: ignore[arg-type]
    assert network.tls() is network.tls()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return PrivateCA(tmp_path_factory.mktemp("ca"))


async def echo_once(service: Service, network: Network, host: str = "localhost") -> None:
    """Open a session over ``network``, see a few bytes come back, and close it."""
    service.renew(Agent())
    client = SessionClient(
        service.started(host=host), resume=service.resume, terminate=service.terminate, network=network, settings=ChannelSettings(open_timeout=2)
    )
    try:
        await client.open()
        await client.write(b"hello")
        async for event in client.events():
            assert event == Output("stdout", b"hello")
            break
    finally:
        await client.close()


async def call_api(url: str, network: Network) -> None:
    def call() -> None:
        session = botocore.session.Session()
        session.set_credentials("AKIAEXAMPLE", "secret")
        config = Config(proxies=network.botocore_proxies(url), retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)
        client = session.create_client("ssm", "eu-central-1", endpoint_url=url, verify=network.verify, config=config)
        client.describe_instance_information()

    await asyncio.to_thread(call)


async def test_a_private_ca_for_websocket_and_api(authority: PrivateCA) -> None:
    trusting, doubting = Network.choose(ca_bundle=str(authority.bundle)), Network.choose()
    async with Service(Agent(), echo=bytes, tls=authority.server_context) as service, HttpsServer(authority.server_context) as api:
        await echo_once(service, trusting)
        await call_api(api.url, trusting)
        await echo_once(service, Network.choose(validate_certs=False))
        with pytest.raises(ChannelError, match=r"certificate is not trusted.*ca_bundle") as caught:
            await echo_once(service, doubting)
        assert caught.value.permanent
        with pytest.raises(SSLError):
            await call_api(api.url, doubting)


@pytest.mark.parametrize("proxy_over_tls", [False, True], ids=["http-proxy", "https-proxy"])
async def test_a_proxy_with_basic_authentication_for_websocket_and_api(authority: PrivateCA, proxy_over_tls: bool) -> None:
    async with (
        Service(Agent(), echo=bytes, tls=authority.server_context) as service,
        HttpsServer(authority.server_context) as api,
        ConnectProxy("me", PASSWORD, tls=authority.server_context if proxy_over_tls else None) as proxy,
    ):
        scheme = "https" if proxy_over_tls else "http"
        environ = {"https_proxy": f"{scheme}://me:{QUOTED_PASSWORD}@localhost:{proxy.port}", "AWS_CA_BUNDLE": str(authority.bundle)}
        network = Network.choose(environ=environ)
        await echo_once(service, network)
        await call_api(api.url, network)
        assert proxy.targets == [f"localhost:{service.port}", api.url.removeprefix("https://")]
        direct = Network.choose(environ={**environ, "NO_PROXY": "localhost"})
        await echo_once(service, direct)
        await call_api(api.url, direct)
        assert len(proxy.targets) == 2


async def test_a_proxy_for_a_websocket_without_tls() -> None:
    async with Service(Agent(), echo=bytes) as service, ConnectProxy() as proxy:
        await echo_once(service, Network.choose(proxy=f"http://127.0.0.1:{proxy.port}"))
        assert proxy.targets == [f"localhost:{service.port}"]
        await echo_once(service, Network.choose(proxy=f"http://127.0.0.1:{proxy.port}", no_proxy="127.0.0.0/8"), host="127.0.0.1")
        assert len(proxy.targets) == 1


async def test_wrong_credentials_are_reported_and_never_shown(authority: PrivateCA, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Service(Agent(), tls=authority.server_context) as service, HttpsServer(authority.server_context) as api, ConnectProxy("me", PASSWORD) as proxy:
        url = f"http://me:wr0ng%40@127.0.0.1:{proxy.port}"
        network = Network.choose(proxy=url, ca_bundle=str(authority.bundle))
        with pytest.raises(ChannelError, match=f"through the proxy http://127.0.0.1:{proxy.port} .* other credentials") as caught:
            await echo_once(service, network)
        assert caught.value.permanent
        assert proxy.refused == 1
        with pytest.raises(ProxyConnectionError):
            await call_api(api.url, network)
        shown = "".join(traceback.format_exception(caught.value)) + repr(network)
        logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith(("botocore", "urllib3")))
    for text in (shown, logged):
        assert "wr0ng" not in text
        assert "token-0" not in text


async def test_an_unreachable_proxy_is_named_without_its_password() -> None:
    async with ConnectProxy() as proxy:
        port = proxy.port
    network = Network.choose(proxy=f"http://me:hidden@127.0.0.1:{port}")
    async with Service(Agent()) as service:
        with pytest.raises(ChannelError, match=f"http://127.0.0.1:{port}") as caught:
            await echo_once(service, network)
    assert not caught.value.permanent
    assert service.resumed > 0  # it may have been about to come up
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


async def test_what_websockets_refuses_is_not_shown_either() -> None:
    network = Network((("http", "http://me:hidden@127.0.0.1:1/path"),))  # past the checks
    async with Service(Agent()) as service:
        with pytest.raises(ChannelError, match="the proxy's URL cannot be used") as caught:
            await echo_once(service, network)
    assert caught.value.__cause__ is None
    assert "hidden" not in str(caught.value)


async def test_neither_token_nor_data_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Service(Agent(), echo=bytes) as service:
        client = SessionClient(service.started(), resume=service.resume, terminate=service.terminate)
        await client.open()
        await client.write(b"become-password")
        async for event in client.events():
            assert event == Output("stdout", b"become-password")
            break
        await client.close()
    # websockets abridges frames in its log and writes data in hexadecimal: not to log at all is the only thing to check.
    assert {record.name for record in caplog.records if record.name != "asyncio"} == {"websockets.server"}
