# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A websocket on a non-blocking TLS socket, around the protocol core of `websockets`.

The asyncio client of `websockets` copies and schedules once a frame; a session worker moves ten thousand frames a second,
so it reads and writes whatever the socket takes, many frames at a time.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Mapping
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

_RECORD = 16384  #: the most that one read of a TLS socket gives
_READS = 16  #: so many records at once, then others have their turn
_CONNECT_TIMEOUT = 10.0


class WebSocketClosed(ConnectionError):
    """The connection is gone, in whatever way."""


class WebSocket:
    """One open websocket. `fileno()` is to be watched for reading always, for writing while `unsent` is not 0."""

    def __init__(self, url: str, headers: Mapping[str, str], context: ssl.SSLContext) -> None:
        """Connect; blocks until the upgrade is done. Raises OSError."""
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._out: deque[bytes] = deque()
        self.unsent = 0  #: bytes waiting for the socket
        parts = urlsplit(url)
        port = parts.port or 443
        plain = socket.create_connection((parts.hostname or "", port), _CONNECT_TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=parts.hostname)
        except BaseException:
            plain.close()
            raise
        try:
            self._upgrade(headers)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def _upgrade(self, headers: Mapping[str, str]) -> None:
        request = self._protocol.connect()
        for name, value in headers.items():
            if name != "Host":  # already there, and the same
                request.headers[name] = value
        self._protocol.send_request(request)
        self._socket.sendall(b"".join(self._protocol.data_to_send()))
        self._early: list[Frame] = []
        response = None
        while response is None:
            data = self._socket.recv(_RECORD)
            if not data:
                raise WebSocketClosed("closed during the upgrade")
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Response):
                    response = event
                elif isinstance(event, Frame):
                    self._early.append(event)
        if self._protocol.handshake_exc is not None:
            raise WebSocketClosed(str(self._protocol.handshake_exc)) from (
                self._protocol.handshake_exc if isinstance(self._protocol.handshake_exc, InvalidHandshake) else None
            )

    def receive(self) -> tuple[list[bytes], bool]:
        """The binary messages that have arrived, and whether more may be there already.

        Answers pings. Raises WebSocketClosed, but only once the messages before the end were given.
        """
        messages = [bytes(frame.data) for frame in self._early if frame.opcode is Opcode.BINARY]
        self._early = []
        more = True
        closed = False
        try:
            for _turn in range(_READS):
                data = self._socket.recv(_RECORD)
                if not data:
                    closed = True
                    break
                self._protocol.receive_data(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            more = False
        except OSError:
            closed = True
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.BINARY:
                    messages.append(bytes(event.data))
                elif event.opcode is Opcode.CLOSE:
                    closed = True
        self._collect()
        if closed:
            if not messages:
                raise WebSocketClosed("closed by the service")
            more = True
        return messages, more

    def send(self, message: bytes) -> None:
        """Queue a binary message; `flush` sends."""
        self._protocol.send_binary(message)
        self._collect()

    def send_text(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        self._collect()

    def ping(self) -> None:
        self._protocol.send_ping(b"keepalive")
        self._collect()

    def _collect(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # the empty one asks to close our side: the socket goes as a whole
                self._out.append(data)
                self.unsent += len(data)

    def flush(self) -> None:
        """Send what the socket takes. Raises WebSocketClosed."""
        try:
            while self._out:
                # The SSL layer wants the very same bytes again after "want write"; one record at most is enough.
                if len(self._out) > 1 and len(self._out[0]) < _RECORD:
                    joined = [self._out.popleft()]
                    size = len(joined[0])
                    while self._out and size + len(self._out[0]) <= _RECORD:
                        joined.append(self._out.popleft())
                        size += len(joined[-1])
                    self._out.appendleft(b"".join(joined))
                data = self._out[0]
                sent = self._socket.send(data)
                self.unsent -= sent
                if sent == len(data):
                    self._out.popleft()
                else:
                    self._out[0] = data[sent:]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise WebSocketClosed(str(error)) from error

    def close(self) -> None:
        """Say goodbye as far as that is possible at once, and close."""
        try:
            self._protocol.send_close(1000)
            self._collect()
            self.flush()
        except (OSError, ValueError, RuntimeError):
            pass  # gone already
        self._socket.close()
