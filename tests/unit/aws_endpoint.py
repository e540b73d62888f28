# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS's API by HTTP on this machine: a function of each test answers it."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model

Answer = tuple[int, Any]
"""HTTP status, and text or what is written as the service writes it, an error as `__type` and `message`. Bytes are sent past TLS, and so break it."""

Answerer = Callable[[str, str, dict[str, Any]], Answer]
"""Of (action, key id, parameters)."""


class Endpoint:
    """AWS as far as an answerer knows it."""

    def __init__(self, answer: Answerer, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if target := self.headers.get("X-Amz-Target"):
                    self._reply(target.partition(".")[2], json.loads(body), json.dumps)
                else:
                    parameters = dict(urllib.parse.parse_qsl(body))
                    self._reply(parameters["Action"], parameters)

            def do_GET(self) -> None:
                _root, bucket, key = urllib.parse.unquote(self.path).split("/", 2)
                self._reply("GetObject", {"Bucket": bucket, "Key": key})

            def _reply(self, action: str, parameters: dict[str, Any], written: Callable[[Any], str] | None = None) -> None:
                key, _date, _region, service, *_others = self.headers["Authorization"].partition("Credential=")[2].split("/")
                seen.append((action, key, parameters))
                status, content = answer(action, key, parameters)
                if isinstance(content, bytes):
                    os.write(self.connection.fileno(), content)
                    return
                data = (content if isinstance(content, str) else written(content) if written else _xml(service, action, content)).encode()
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def keys(self) -> list[str]:
        return [key for _unused, key, _unused in self.seen]

    @property
    def actions(self) -> list[str]:
        return [action for action, _unused, _unused in self.seen]


def _xml(service: str, action: str, content: dict[str, str]) -> str:
    if "__type" in content:
        return f"<ErrorResponse><Error><Code>{content['__type']}</Code><Message>{content['message']}</Message></Error></ErrorResponse>"
    operation = get_service_model(service).operation_model(action)
    return str(get_serializer_class(service, operation.service_model.protocol)(operation).serialize(content)["body"])
