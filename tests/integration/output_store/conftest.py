# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the output store share."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.integration.output_store.called import BUCKET, OTHER, RELAY, Store
from tests.integration.output_store.deployment import AWAY, HOME, HUB, Deployment
from tests.lab import Lab


class Receiver:
    """A web hook of somebody's."""

    def __init__(self) -> None:
        self.posts: list[tuple[bytes, str]] = []
        self.refuse = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((body, self.headers.get("X-Fleet-SSM-Signature", "")))
                self.send_response(503 if receiver.refuse else 204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/completions"

    @staticmethod
    def signature(secret: bytes, body: bytes) -> str:
        return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="package")
def small() -> Iterator[Lab]:
    """Nodes that answer by themselves, in two accounts."""
    nodes: list[dict[str, Any]] = [
        {"name": "good", "options": {"stdout": "hello\n"}},
        {"name": "bad", "options": {"failing": 1.0, "code": 7, "stderr": "no\n"}},
        {"name": "slow", "options": {"seconds": 2.0, "stdout": "late\n"}},
        {"name": "silent", "options": {"silent": 1.0}},
        {"name": "far", "account": OTHER, "region": "us-east-1", "hybrid": True},
    ]
    with Lab([{"kind": "simulated", **node} for node in nodes], settings={"invocation_delay": 0.0}) as lab:
        s3, sqs = lab.client("s3"), lab.client("sqs")
        for bucket in (BUCKET, RELAY):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": lab.region})
        sqs.create_queue(QueueName="told")
        yield lab


@pytest.fixture
def store(small: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Store]]:
    yield lambda **environment: Store(small, monkeypatch, **environment)
    small.clear_permissions()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two accounts and two regions, with nodes that really run commands; no store yet."""
    scripts = [{"pattern": "Get-HotFix", "stdout": "KB5031364\r\n"}, {"pattern": ".", "stderr": "not known\r\n", "rc": 1}]
    nodes: list[dict[str, Any]] = [
        {"name": "web-1", "account": HUB, "region": HOME, "tags": {"Role": "web"}},
        {"name": "web-2", "account": OTHER, "region": AWAY, "tags": {"Role": "web"}},
        {"name": "win-1", "account": OTHER, "region": HOME, "kind": "windows", "options": {"scripts": scripts}},
    ]
    with Lab(nodes, settings={"function_minute": 0.5}) as lab:
        yield Deployment(lab, tmp_path_factory.mktemp("controller"))
