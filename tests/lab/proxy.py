# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP proxy as companies have them: CONNECT, plain requests, basic authentication.

Host names of AWS itself lead to the lab, so that a client without any endpoint URL of its own can be tried: it asks for
ssm.eu-central-1.amazonaws.com and trusts the lab's CA.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_AWS = ".amazonaws.com"
_CHUNK = 65_536
_REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"lab\"\r\nContent-Length: 0\r\n\r\n"
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What a client has asked of the proxy."""

    method: str
    target: str  #: host:port of CONNECT, or a whole URL
    authorized: bool


@dataclass
class Proxy:
    """Runs in a thread of its own between `__enter__` and `__exit__`."""

    aws_address: tuple[str, int]  #: where hosts of AWS are, with TLS
    user: str | None = None
    password: str = ""
    requests: list[Request] = field(default_factory=list)
    _port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def authorized_url(self) -> str:
        """With user and password, if the proxy wants them."""
        return self.url if self.user is None else f"http://{self.user}:{self.password}@127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="proxy", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            task.add_done_callback(connections.discard)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._connection(reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.rstrip("\r\n").split("\r\n")
            method, target, _version = line.split(" ", 2)
            headers = {name.strip().lower(): value.strip() for name, _unused, value in (each.partition(":") for each in lines)}
            request = Request(method, target, self._authorized(headers.get("proxy-authorization", "")))
            self.requests.append(request)
            if request.authorized:
                break
            await reader.readexactly(int(headers.get("content-length", "0")))
            writer.write(_REFUSED)
            await writer.drain()
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._address(request))
        except OSError:
            writer.write(_BAD_GATEWAY)
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            there_writer.write(_forwarded(request, lines))
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            there_writer.close()

    def _authorized(self, header: str) -> bool:
        if self.user is None:
            return True
        return header == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def _address(self, request: Request) -> tuple[str, int]:
        parts = urlsplit(f"//{request.target}" if request.method == "CONNECT" else request.target)
        host = parts.hostname or ""
        return self.aws_address if host.endswith(_AWS) else (host, parts.port or 80)


def _forwarded(request: Request, lines: list[str]) -> bytes:
    """A plain request as its server wants it: no host in the target, one request a connection."""
    parts = urlsplit(request.target)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
    return "\r\n".join([f"{request.method} {target} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
