# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way to an endpoint: proxy, exceptions from it, and whom to trust. One choice for websockets and for botocore.

Nothing here reads the process's environment: one mux serves many callers, each of which brings its own.
Proxy URLs may hold a password; it leaves this file only towards the libraries that connect.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_PROXIED_AS = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class NetworkError(ValueError):
    """An option of the network that cannot be used; the text names it, without credentials."""


@dataclass(frozen=True, slots=True)
class NoProxy:
    """The exceptions of ``NO_PROXY``, separated by commas or blanks.

    ``*`` is every host; ``example.com``, ``.example.com`` and ``*.example.com`` are that host and all below it;
    ``10.0.0.0/8`` is a network, for hosts given as addresses; ``host:8080`` and ``[::1]:8080`` are one port only.
    """

    rules: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> NoProxy:
        return cls(tuple(rule.lower() for rule in text.replace(",", " ").split()))

    def covers(self, host: str, port: int) -> bool:
        """Whether ``host`` is to be reached without a proxy."""
        host = host.lower().strip("[]").rstrip(".")
        return any(_rule_covers(rule, host, port) for rule in self.rules)


def _rule_covers(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return ip_address(host) in ip_network(rule, strict=False)
        except ValueError:  # no network, or the host is a name; names are not resolved, as in curl
            return False
    name, rule_port = _split_port(rule)
    if rule_port and rule_port != str(port):
        return False
    try:
        return ip_address(host) == ip_address(name)
    except ValueError:
        name = name.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(rule: str) -> tuple[str, str]:
    if rule.startswith("["):
        name, _bracket, rest = rule[1:].partition("]")
        return name, rest.removeprefix(":")
    if rule.count(":") == 1:
        name, _colon, port = rule.partition(":")
        return name, port
    return rule, ""


@dataclass(frozen=True)
class Network:
    """The choice for one identity. Equal options make equal objects.

    ``proxies`` has the keys ``http`` and ``https``; values are URLs that may hold credentials.
    ``verify`` is False, True, or the path of a file or folder of CA certificates, as botocore takes it.
    """

    _proxies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    no_proxy: NoProxy = NoProxy()
    verify: bool | str = True
    _contexts: dict[str, ssl.SSLContext] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def choose(
        cls,
        *,
        proxy: str | None = None,
        no_proxy: str | None = None,
        ca_bundle: str | None = None,
        validate_certs: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> Network:
        """Explicit options first, then the caller's environment.

        ``proxy``: URL for all endpoints; an empty string means none whatever the environment says.
        ``environ``: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` in either case of letters (lower case wins),
        ``AWS_CA_BUNDLE``, ``REQUESTS_CA_BUNDLE``. Raises :class:`NetworkError`.
        """
        variables = environ or {}
        if proxy is not None:
            chosen = {"http": proxy, "https": proxy}
        else:
            fallback = _variable(variables, "all_proxy")
            chosen = {scheme: _variable(variables, f"{scheme}_proxy") or fallback for scheme in ("http", "https")}
        bundle = ca_bundle or variables.get("AWS_CA_BUNDLE") or variables.get("REQUESTS_CA_BUNDLE") or True
        if isinstance(bundle, str) and validate_certs and not Path(bundle).exists():
            raise NetworkError(f"the CA bundle {bundle} does not exist")
        return cls(
            tuple((scheme, _checked_proxy(url)) for scheme, url in sorted(chosen.items()) if url),
            NoProxy.parse(no_proxy if no_proxy is not None else _variable(variables, "no_proxy")),
            bundle if validate_certs else False,
        )

    def proxy_for(self, url: str) -> str | None:
        """URL of the proxy for an endpoint (http, https, ws or wss), with its credentials; None to connect directly."""
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        if self.no_proxy.covers(parts.hostname or "", port):
            return None
        return dict(self._proxies).get(_PROXIED_AS[parts.scheme])

    def botocore_proxies(self, url: str) -> dict[str, str]:
        """For ``botocore.config.Config(proxies=…)`` of a client of the endpoint ``url``.

        Empty, not None, where no proxy is to be used: None would make botocore look into the process's environment.
        """
        proxy = self.proxy_for(url)
        return {"http": proxy, "https": proxy} if proxy else {}

    def tls(self) -> ssl.SSLContext:
        """The TLS context for websockets; made once, since loading the certificates costs milliseconds and memory."""
        context = self._contexts.get("client")
        if context is None:
            context = self._contexts["client"] = self._make_context()
        return context

    def _make_context(self) -> ssl.SSLContext:
        if isinstance(self.verify, str):
            try:
                path = Path(self.verify)
                return ssl.create_default_context(capath=str(path)) if path.is_dir() else ssl.create_default_context(cafile=str(path))
            except (OSError, ssl.SSLError) as exc:
                raise NetworkError(f"the CA bundle {self.verify} cannot be read: {exc}") from exc
        context = ssl.create_default_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def without_credentials(url: str) -> str:
    """A URL that may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _checked_proxy(url: str) -> str:
    """The proxy's URL with a scheme; errors must not show it, since it may hold a password."""
    if "://" not in url:
        url = f"http://{url}"
    shown = "URL"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.path in ("", "/") and not parts.query and not parts.fragment
        for text in (parts.username, parts.password):
            unquote(text or "", errors="strict")
        if parts.hostname:
            shown = f"{parts.scheme}://{parts.hostname}"
            usable = usable and parts.port != 0
            if parts.username is not None and parts.password is None:  # an empty one, for libraries that want one
                url = urlunsplit(parts._replace(netloc=parts.netloc.replace("@", ":@")))
        else:
            usable = False
    except ValueError:
        usable = False
    if not usable:
        raise NetworkError(f"the proxy {shown} cannot be used: it must be http://[user:password@]host:port or https://…, with % for special characters")
    return url
