# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames between worker and mux."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import (
    DATA_TYPES,
    HEADER,
    MAXIMUM,
    Decoder,
    FrameType,
    ProtocolError,
    decode_credit,
    decode_json,
    encode,
    encode_credit,
    encode_json,
)

FRAMES = st.lists(st.tuples(st.sampled_from(sorted(DATA_TYPES)), st.binary(max_size=300)), max_size=6)


@given(FRAMES, st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_cutting(frames: list[tuple[FrameType, bytes]], steps: list[int]) -> None:
    stream = b"".join(encode(kind, payload) for kind, payload in frames)
    decoder = Decoder()
    found = []
    index = 0
    while stream:
        size = steps[index % len(steps)]
        index += 1
        found.extend(decoder.feed(stream[:size]))
        stream = stream[size:]
    assert found == frames
    assert decoder.pending == 0


def test_text_of_commands_that_is_not_utf_8_survives() -> None:
    command = b"touch \xff\xe4".decode("utf-8", "surrogateescape")
    ((kind, payload),) = Decoder().feed(encode_json(FrameType.EXEC, command=command))
    assert kind is FrameType.EXEC
    assert decode_json(payload)["command"].encode("utf-8", "surrogateescape") == b"touch \xff\xe4"


def test_a_frame_may_have_a_field_named_kind() -> None:
    ((_unused, payload),) = Decoder().feed(encode_json(FrameType.ERROR, kind="failed", message="no"))
    assert decode_json(payload) == {"kind": "failed", "message": "no"}


def test_credit() -> None:
    ((kind, payload),) = Decoder().feed(encode_credit(123_456))
    assert (kind, decode_credit(payload)) == (FrameType.CREDIT, 123_456)
    with pytest.raises(ProtocolError):
        decode_credit(b"1")


@pytest.mark.parametrize("header", [HEADER.pack(FrameType.STDOUT, MAXIMUM + 1), HEADER.pack(63, 0), b"GET / HTTP/1.1\r\n"])
def test_a_stranger_is_refused(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Decoder().feed(header))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_json(payload)
