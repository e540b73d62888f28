# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The codecs of both sides, in random pieces, among noise, and against each other."""

from __future__ import annotations

import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner import node as node_program
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.frames import (
    COMPRESSED,
    EXTENSION,
    LONGEST_LINE,
    Down,
    DownEncoder,
    Frame,
    LineSplitter,
    Up,
    decode_up,
    encode_up,
    fields,
)

from .local_node import AgentText

KEY = 0x12345678
PAYLOADS = st.one_of(
    st.binary(max_size=3000),
    st.lists(st.sampled_from([b"\x10", b"\n", b"\xef", b"\xef\xbf\xbd", b"J", b"P", b"o", b"\x10J", b"\xe6\xb1", b"\0"])).map(b"".join),
)
FRAMES = st.builds(Frame, st.integers(0, 2**32 - 1), st.integers(0, 0x7F), st.integers(0, 2**32 - 1), PAYLOADS)


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


@given(FRAMES)
@example(Frame(0, 0, 0, b""))
@example(Frame(0x0A10EF0A, 1, 0xEF0A1010, b"\x10\x10J\n\xef\xbf\xbd"))
def test_a_frame_survives_and_is_safe_on_the_way(frame: Frame) -> None:
    line = encode_up(frame, KEY)
    assert b"\xef" not in line
    assert line.index(b"\n") == len(line) - 1
    assert max(line[-4:]) < 0x80
    assert decode_up(line[:-1], KEY) == frame
    assert decode_up(line[:-1], KEY + 1) is None


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(1, 700), max_size=20))
def test_the_agent_damages_no_frame(frames: list[Frame], sizes: list[int]) -> None:
    """In the agent's pieces every frame arrives as soon as its last byte was given to the agent."""
    agent, splitter, received = AgentText(), LineSplitter(), []
    for piece in chunks(b"".join(encode_up(frame, KEY) for frame in frames), sizes):
        received += [decode_up(line, KEY) for line in splitter.feed(agent.feed(piece))]
    assert received == frames


@given(st.lists(st.one_of(FRAMES, st.binary(max_size=200)), max_size=8), st.lists(st.integers(1, 300), max_size=20))
def test_noise_between_frames_is_passed_over(parts: list[Frame | bytes], sizes: list[int]) -> None:
    """A frame written at the start of a line is read whatever came before it."""
    data = b"".join(b"\n" + encode_up(part, KEY) if isinstance(part, Frame) else part for part in parts)
    splitter = LineSplitter()
    found = [decode_up(line, KEY) for piece in chunks(data, sizes) for line in splitter.feed(piece)]
    assert [frame for frame in found if frame] == [part for part in parts if isinstance(part, Frame)]


@given(FRAMES, st.data())
def test_damage_is_seen(frame: Frame, data: st.DataObject) -> None:
    line = encode_up(frame, KEY)[:-1]
    at = data.draw(st.integers(0, len(line) - 9))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    assert decode_up(line[:at] + bytes([other]) + line[at + 1 :], KEY) is None
    assert decode_up(line[:at], KEY) is None


def test_a_line_without_end_is_not_kept() -> None:
    splitter = LineSplitter()
    for _turn in range(100):
        assert list(splitter.feed(b"x" * LONGEST_LINE)) == []
    assert sum(map(len, splitter._parts)) <= LONGEST_LINE
    assert list(splitter.feed(b"rest\nnext\n")) == [b"next"]


class Recorder(node_program.Runner):  # type: ignore[misc]  # node.py has no type hints
    """The runner's own reading of frames, without a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, bytes]] = []
        self.handlers = {kind: self.record(kind) for kind in range(0x80)}

    def record(self, kind: int) -> object:
        return lambda number, payload: self.seen.append((kind, number, payload))

    def take(self, data: bytes) -> None:
        self.input += data
        self.parse()


@given(
    st.lists(st.tuples(st.integers(0, 0x7F), st.integers(0, 2**32 - 1), PAYLOADS, st.booleans()), max_size=6),
    st.lists(st.integers(1, 500), max_size=20),
)
def test_what_the_client_encodes_the_node_decodes(messages: list[tuple[int, int, bytes, bool]], sizes: list[int]) -> None:
    encoder, runner = DownEncoder(), Recorder()
    data = b"".join(encoder.encode(kind, id_, payload, compress=compress) for kind, id_, payload, compress in messages)
    for piece in chunks(data, sizes):
        runner.take(piece)
    assert runner.seen == [message[:3] for message in messages]


@given(FRAMES)
def test_what_the_node_encodes_the_client_decodes(frame: Frame) -> None:
    out = node_program.Output()
    out.key, out.next = KEY, frame.sequence
    out.add(frame.type, frame.id, frame.payload)
    assert out.kept[frame.sequence] == encode_up(frame, KEY)


def test_a_lost_doubled_or_damaged_frame_to_the_node_is_seen() -> None:
    encoder = DownEncoder()
    first, second, third = (encoder.encode(Down.DATA, 1, text) for text in (b"one", b"two", b"three"))
    for data in (first + third, first + first, second, first + second[:-1] + b"X"):
        runner = Recorder()
        try:
            runner.take(data)
        except ValueError:
            continue
        raise AssertionError(data)


def test_compression_both_ways() -> None:
    text = b"some text, again and again\n" * 1000
    small = DownEncoder().encode(Down.DATA, 1, text, compress=True)
    assert len(small) < 1000
    runner = Recorder()
    runner.take(small)
    assert runner.seen == [(Down.DATA, 1, text)]
    line = encode_up(Frame(0, Up.STDOUT | COMPRESSED, 1, zlib.compress(text)), KEY)
    assert decode_up(line[:-1], KEY) == Frame(0, Up.STDOUT, 1, text)


def test_both_sides_use_the_same_numbers() -> None:
    for kinds in (Down, Up):
        for kind in kinds:
            assert getattr(node_program, kind.name) == kind
    assert (node_program.COMPRESSED, node_program.EXTENSION) == (COMPRESSED, EXTENSION)


@given(st.lists(st.binary(max_size=50)), st.binary(max_size=20))
def test_fields(values: list[bytes], rest: bytes) -> None:
    assert node_program.unpack(fields(values) + rest, len(values)) == (values, rest)
