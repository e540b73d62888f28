# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recorded traffic of the real agent and the real client, as data for tests (see vectors/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "vectors"
FILES = sorted(path.name for path in FOLDER.glob("*.jsonl"))


@dataclass(frozen=True)
class Frame:
    """One websocket message on a data channel. ``by`` sent it, or the recording stand-in did."""

    channel: str
    by: str
    to: str
    kind: str
    data: bytes
    text: str


def frames(name: str) -> list[Frame]:
    """All messages on data channels, in the order of the recording."""
    result = []
    for line in (FOLDER / name).read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        channel = str(event.get("channel", ""))
        if channel.startswith("/v1/data-channel/") and event.get("ws") in ("binary", "text"):
            result.append(Frame(channel, event.get("frm", ""), event.get("to", ""), event["ws"], bytes.fromhex(event.get("hex", "")), event.get("text", "")))
    return result
