# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's codec against frames of the real agent and the real client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.codec import MalformedMessage, Message, decode, message_type_of

VECTORS = Path(__file__).parents[1] / "plugin_utils" / "datachannel" / "vectors"


def events(name: str) -> Iterator[dict[str, Any]]:
    with (VECTORS / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def recorded() -> list[bytes]:
    return [bytes.fromhex(event["hex"]) for path in sorted(VECTORS.glob("*.jsonl")) for event in events(path.name) if "hex" in event]


def test_every_recorded_frame_survives_decoding_and_encoding():
    frames = recorded()
    assert len(frames) > 50
    for frame in frames:
        assert decode(frame).encode() == frame


def test_the_type_is_found_without_parsing():
    assert {message_type_of(frame).decode() for frame in recorded()} == {decode(frame).message_type for frame in recorded()}


def test_an_acknowledgement_names_the_id_of_the_message_as_the_client_reads_it():
    frames = [decode(bytes.fromhex(event["hex"])) for event in events("session-interactive-pty-real-client.jsonl") if event.get("frm") and "hex" in event]
    sent = {str(frame.message_id) for frame in frames if frame.message_type == "output_stream_data"}
    acknowledged = {json.loads(frame.payload)["AcknowledgedMessageId"] for frame in frames if frame.message_type == "acknowledge"}
    assert sent and sent <= acknowledged


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        Message("input_stream_data", b"abc").encode()[:-1],
        Message("input_stream_data", b"abc").encode()[:-1] + b"x",
        b"\0\0\0\x10" + Message("input_stream_data").encode()[4:],
    ],
    ids=["empty", "cut", "changed", "header length"],
)
def test_damage_is_noticed(frame):
    with pytest.raises(MalformedMessage):
        decode(frame)
