# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replies over the control channel: sent once, kept on disk if not acknowledged within a second, and sent again later.

Five are under way at most. Later means with the next round of all that is kept: two seconds after the agent's start, then
every five minutes. What is older than two hours and was sent twice is dropped.

What is larger than 120,000 bytes of JSON is not sent at all, and kept and tried like the rest: of a command whose outputs
hold thousands of characters that JSON escapes, the service never hears the end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..message import id_text, new_message_id

_log = logging.getLogger(__name__)
_LIMIT = 5
_WAIT = 1.0
_FIRST_ROUND = 2.0
_OLD = 7200.0
_LARGEST = 120_000

#: Sends an agent_job_reply: (message id, payload).
Send = Callable[[bytes, bytes], None]


class Replies:
    """The replies of one agent."""

    def __init__(self, folder: Path, interval: float, send: Send) -> None:
        self._folder, self._interval, self._send = folder, interval, send
        self._free = asyncio.Semaphore(_LIMIT)
        self._acknowledged: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, job_id: str, topic: str, content: dict[str, Any]) -> None:
        """Send a reply as soon as fewer than five are under way, in order."""
        self._start(self._deliver(new_message_id(), job_id, topic, content, None, 1))

    def acknowledge(self, message_id: str) -> None:
        """The service has a reply. An acknowledgement after more than a second is for nothing: it is sent again."""
        event = self._acknowledged.get(message_id)
        if event is not None:
            event.set()

    async def resend(self) -> None:
        """Send what is kept, round after round."""
        await asyncio.sleep(_FIRST_ROUND)
        while True:
            for path in sorted(self._folder.glob("*.json")):
                kept = json.loads(path.read_text())
                if kept["retry"] > 1 and path.stat().st_mtime < time.time() - _OLD:
                    path.unlink()
                    continue
                await self._deliver(
                    bytes.fromhex(kept["id"]), kept["job_id"], kept["topic"], kept["content"], path, kept["retry"] + 1
                )
            await asyncio.sleep(self._interval)

    async def _deliver(
        self, message_id: bytes, job_id: str, topic: str, content: dict[str, Any], kept: Path | None, retry: int
    ) -> None:
        async with self._free:
            name = id_text(message_id).decode()
            event = self._acknowledged[name] = asyncio.Event()
            try:
                if size_in_go(content) <= _LARGEST:
                    self._send(message_id, reply_payload(job_id, topic, content))
                else:
                    _log.error("a reply to %s is too large to be sent", job_id)
                await asyncio.wait_for(event.wait(), _WAIT)
                if kept is not None:
                    kept.unlink(missing_ok=True)
            except TimeoutError:
                path = kept or self._folder / f"{time.time_ns():020}_{name}.json"
                about = {"id": message_id.hex(), "job_id": job_id, "topic": topic, "content": content, "retry": retry}
                modified = path.stat().st_mtime if path.exists() else None
                path.write_text(json.dumps(about))
                if modified is not None:  # its age counts from the first time
                    os.utime(path, (modified, modified))
            finally:
                del self._acknowledged[name]

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def reply_payload(job_id: str, topic: str, content: dict[str, Any]) -> bytes:
    """The payload of agent_job_reply."""
    payload = {
        "schemaVersion": 1,
        "jobId": job_id,
        "content": json.dumps(content, separators=(",", ":"), ensure_ascii=False),
        "topic": topic,
    }
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()


def size_in_go(content: dict[str, Any]) -> int:
    """Bytes of the JSON that the real agent makes, which escapes more characters."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode()) + 5 * sum(map(text.count, "<>&")) + 3 * sum(map(text.count, "\u2028\u2029"))
