# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One session with a node of the lab through the collection's own client: its codec is not that of the lab's nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import DataKey, SessionClient, StartedSession
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, ExitCode, Output
from tests.lab import Lab, LabNode


@dataclass
class Ended:
    """All that a session gave."""

    stdout: bytes = b""
    stderr: bytes = b""
    code: int | None = None
    closed: Closed | None = None


class Session:
    """An open session and what came of it so far."""

    def __init__(self, client: SessionClient) -> None:
        self.client = client
        self.seen = Ended()
        self._events = client.events()

    async def until(self, expected: bytes, seconds: float = 20) -> bytes:
        """Read until stdout holds `expected`; all of stdout so far."""
        async with asyncio.timeout(seconds):
            while expected not in self.seen.stdout and self.seen.closed is None:
                self._note(await anext(self._events))
        assert expected in self.seen.stdout, self.seen
        return self.seen.stdout

    async def end(self, seconds: float = 30) -> Ended:
        """Read to the end."""
        async with asyncio.timeout(seconds):
            while self.seen.closed is None:
                self._note(await anext(self._events))
        return self.seen

    def _note(self, event: Output | ExitCode | Closed) -> None:
        if isinstance(event, Output):
            if event.stream == "stdout":
                self.seen.stdout += event.data
            else:
                self.seen.stderr += event.data
        elif isinstance(event, ExitCode):
            self.seen.code = event.code
        else:
            self.seen.closed = event


@asynccontextmanager
async def open_session(lab: Lab, node: LabNode, document: str | None = None, **parameters: str) -> AsyncIterator[Session]:
    """A session of a document; ended with the block."""
    ssm = lab.client("ssm", account=node.account, region=node.region)
    kms = lab.client("kms", account=node.account, region=node.region)
    request: dict[str, Any] = {"Target": node.node_id}
    if document:
        request["DocumentName"] = document
    if parameters:
        request["Parameters"] = {name: [value] for name, value in parameters.items()}
    answer = await asyncio.to_thread(ssm.start_session, **request)
    session_id = answer["SessionId"]

    async def resume() -> StartedSession:
        return _started(await asyncio.to_thread(ssm.resume_session, SessionId=session_id), node)

    async def terminate() -> None:
        await asyncio.to_thread(ssm.terminate_session, SessionId=session_id)

    async def data_key(key_id: str, context: Mapping[str, str]) -> DataKey:
        made = await asyncio.to_thread(kms.generate_data_key, KeyId=key_id, NumberOfBytes=64, EncryptionContext=dict(context))
        return DataKey(made["Plaintext"], made["CiphertextBlob"])

    client = SessionClient(_started(answer, node), resume=resume, terminate=terminate, generate_data_key=data_key)
    await client.open()
    try:
        yield Session(client)
    finally:
        await client.close()


def _started(answer: Mapping[str, Any], node: LabNode) -> StartedSession:
    return StartedSession(answer["SessionId"], answer["StreamUrl"], answer["TokenValue"], node.node_id)
