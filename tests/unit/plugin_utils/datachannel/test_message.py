# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The codec with input that is not from a recording."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.acknowledgement import acknowledged_sequence
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.bytequeue import ByteQueue
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.message import MalformedMessage, Message, decode

GOOD = Message("input_stream_data", 5, 0, bytes(range(16)), 1, 1, b"payload").encode()


@given(
    st.builds(
        Message,
        message_type=st.sampled_from(["input_stream_data", "interactive_shell", "x"]),
        sequence=st.integers(-(2**63), 2**63 - 1),
        flags=st.integers(0, 2**64 - 1),
        message_id=st.binary(min_size=16, max_size=16),
        created_ms=st.integers(0, 2**64 - 1),
        payload_type=st.integers(0, 2**32 - 1),
        payload=st.binary(max_size=5000),
    )
)
def test_decoding_undoes_encoding(message: Message) -> None:
    assert decode(message.encode()) == message


@given(st.binary(max_size=300))
def test_nothing_but_a_message_is_read(junk: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(junk)


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (GOOD[:119], "shorter than a header"),
        (GOOD[:-1], "6 bytes and should have 7"),
        (GOOD + b"!", "8 bytes and should have 7"),
        (GOOD[:-1] + b"!", "does not match its digest"),
        (struct.pack(">I", 112) + GOOD[4:], "length is 112"),
    ],
)
def test_damage_is_noticed(damaged: bytes, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        decode(damaged)


def test_publication_notices_need_no_digest() -> None:
    notice = bytearray(Message("pause_publication", 0, 0, bytes(16), 0, 0, b"{}").encode())
    notice[80:112] = bytes(32)
    assert decode(bytes(notice)).payload == b"{}"


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b'{"AcknowledgedMessageSequenceNumber": "1"}', b"1"])
def test_acknowledgements_of_nothing_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        acknowledged_sequence(payload)


@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 60)))
def test_a_byte_queue_gives_what_it_got(writes: list[bytes], sizes: list[int]) -> None:
    queue = ByteQueue()
    for data in writes:
        queue.append(data)
    everything = b"".join(writes)
    taken = b""
    for size in sizes:
        part = queue.take(size)
        assert len(part) == min(size, len(everything) - len(taken))
        taken += part
        assert len(queue) == len(everything) - len(taken)
    assert taken == everything[: len(taken)]
