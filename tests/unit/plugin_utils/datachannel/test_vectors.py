# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden bytes: the codec and the state machine against recorded traffic of the real agent and the real client."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel import message as wire
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.acknowledgement import acknowledged_sequence, acknowledgement_of
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.channel import DataChannel
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import SessionClient
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, DataKeyNeeded, Event, ExitCode, Output
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.handshake import CLIENT_VERSION, challenge_response, parse_challenge
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.settings import ChannelSettings

from .agent import Agent
from .service import Service
from .vectors import FILES, Frame, frames

PTY = "session-interactive-pty-real-client.jsonl"
SEPARATE = "session-noninteractive-separate-exit-7-real-client.jsonl"
RECORDED_VERSION = b"1.2.694.0"
RESUMED = "session-client-drop-and-resume-real-client.jsonl"
KMS = "session-kms-real-client.jsonl"


def binary(name: str) -> list[Frame]:
    return [frame for frame in frames(name) if frame.kind == "binary"]


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_read_and_written_again_unchanged(name: str) -> None:
    assert binary(name)
    for frame in binary(name):
        assert wire.decode(frame.data).encode() == frame.data


def test_the_recordings_hold_every_kind_of_message() -> None:
    messages = [wire.decode(frame.data) for name in FILES for frame in binary(name)]
    assert {message.message_type for message in messages} == {
        wire.INPUT_STREAM_DATA,
        wire.OUTPUT_STREAM_DATA,
        wire.ACKNOWLEDGE,
        wire.CHANNEL_CLOSED,
        wire.START_PUBLICATION,
        wire.PAUSE_PUBLICATION,
        wire.AGENT_SESSION_STATE,
    }
    assert {message.payload_type for message in messages} >= {
        wire.OUTPUT,
        wire.SIZE,
        wire.HANDSHAKE_REQUEST,
        wire.HANDSHAKE_RESPONSE,
        wire.HANDSHAKE_COMPLETE,
        wire.ENCRYPTION_CHALLENGE_REQUEST,
        wire.ENCRYPTION_CHALLENGE_RESPONSE,
        wire.STDERR,
        wire.EXIT_CODE,
    }


@pytest.mark.parametrize("name", [PTY, SEPARATE, RESUMED])
def test_acknowledgements_are_worded_as_the_real_ones(name: str) -> None:
    received: dict[tuple[str, int], wire.Message] = {}
    compared = 0
    for frame in binary(name):
        message = wire.decode(frame.data)
        if message.message_type == wire.ACKNOWLEDGE:
            about = json.loads(message.payload)["AcknowledgedMessageType"]
            acknowledged = received[about, acknowledged_sequence(message.payload)]
            assert acknowledgement_of(about, acknowledged.sequence, acknowledged.message_id) == message.payload
            assert (message.flags, message.sequence) == (wire.UNSEQUENCED, 0)
            compared += 1
        else:
            received[message.message_type, message.sequence] = message
    assert compared


class Replay:
    """Feeds a recording's frames for the client to a channel and collects what it makes of them."""

    def __init__(self, name: str, settings: ChannelSettings | None = None) -> None:
        self.channel = DataChannel("session", "target", settings)
        self.events: list[Event] = []
        self.sent: list[wire.Message] = []
        self.expected = [wire.decode(frame.data) for frame in binary(name) if frame.by == "client"]
        # What the agent sent and the stand-in relayed stands twice; notices of the service only as sent to the client.
        self._incoming = [frame.data for frame in binary(name) if frame.to == "client"]

    def run(self) -> None:
        for frame in self._incoming:
            self.events += self.channel.receive(frame, 1.0)
            self.sent += [wire.decode(data) for data in self.channel.frames_to_send(1.0)]

    def output(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, Output))

    def payloads(self, message_type: str) -> list[tuple[int, bytes]]:
        return [(message.payload_type, message.payload) for message in self.sent if message.message_type == message_type]

    def expected_payloads(self, message_type: str) -> list[tuple[int, bytes]]:
        return [(message.payload_type, with_our_version(message.payload)) for message in self.expected if message.message_type == message_type]


def with_our_version(payload: bytes) -> bytes:
    """What a client says of its version is the one thing in which we follow newer ones."""
    return payload.replace(RECORDED_VERSION, CLIENT_VERSION.encode())


def test_a_session_with_separate_streams_is_answered_as_by_the_real_client() -> None:
    replay = Replay(SEPARATE, ChannelSettings(terminal_size=(300, 100)))
    replay.run()
    assert replay.events == [Output("stdout", b"out\n"), Output("stderr", b"err\n"), ExitCode(7), Closed("", True)]
    assert replay.payloads(wire.INPUT_STREAM_DATA) == replay.expected_payloads(wire.INPUT_STREAM_DATA)
    assert replay.payloads(wire.ACKNOWLEDGE) == replay.expected_payloads(wire.ACKNOWLEDGE)
    assert [message.sequence for message in replay.sent if message.message_type == wire.INPUT_STREAM_DATA] == [0, 1]
    assert replay.channel.agent_version == "3.3.0.0"
    assert replay.channel.session_type == "NonInteractiveCommands"


def test_a_pty_session_needs_no_handshake() -> None:
    replay = Replay(PTY)
    replay.channel.send(b"a\x00\xff\n\n")
    replay.run()
    # Of EF BF BD the agent itself has lost two bytes.
    assert replay.output() == b"READY 61 00 ff 0a 0a\ncaf\xc3\xa9 \xef end\n"
    assert replay.events[-1] == Closed("", True)
    assert replay.payloads(wire.INPUT_STREAM_DATA) == replay.expected_payloads(wire.INPUT_STREAM_DATA)
    assert replay.payloads(wire.ACKNOWLEDGE) == replay.expected_payloads(wire.ACKNOWLEDGE)


def test_input_of_the_real_client_is_encoded_alike() -> None:
    recorded = next(message for message in Replay(PTY).expected if message.message_type == wire.INPUT_STREAM_DATA)
    channel = DataChannel("session", "target")
    channel.send(recorded.payload)
    ours = wire.decode(channel.frames_to_send(0.0)[0])
    assert ours._replace(message_id=recorded.message_id, created_ms=recorded.created_ms) == recorded
    # A random UUID in both, by its version and variant: the order of its two halves is right, then.
    for message_id in (ours.message_id, recorded.message_id):
        assert message_id[6] >> 4 == 4
        assert message_id[8] >> 6 == 0b10


def test_sequences_go_on_over_a_resumed_connection() -> None:
    replay = Replay(RESUMED)
    replay.run()
    assert b"one\r\n" in replay.output()
    assert b"two\r\n" in replay.output()
    assert replay.channel.closed == Closed("", True)
    assert [m.sequence for m in replay.expected if m.message_type == wire.INPUT_STREAM_DATA] == [0, 1, 2]


def test_an_encrypted_session_asks_for_a_key_and_answers_as_the_real_client() -> None:
    recorded = [wire.decode(frame.data) for frame in binary(KMS)]
    requests = [message for message in recorded if message.payload_type == wire.HANDSHAKE_REQUEST]
    responses = [m for m in recorded if m.payload_type == wire.HANDSHAKE_RESPONSE]
    assert len(requests) == len(responses) == 8  # four sessions, each frame from one side and to the other
    for request, real in zip(requests, responses, strict=True):
        channel = DataChannel("session-1", "mi-1")
        (wanted,) = channel.receive(request.encode(), 0.0)
        assert isinstance(wanted, DataKeyNeeded)
        assert wanted.key_id == "arn:aws:kms:us-east-1:123456789012:key/2297dcd8-2881-4a4e-bc92-9d9ebd0167f3"
        assert (wanted.context["aws:ssm:SessionId"], wanted.context["aws:ssm:TargetId"]) == ("session-1", "mi-1")
        assert len(b64decode(wanted.context["aws:ssm:RandomChallenge"])) == 16
        expected = json.loads(with_our_version(real.payload))
        assert channel.data_key(bytes(64), b64decode(expected["ProcessedClientActions"][1]["ActionResult"]["KMSCipherTextKey"])) == []
        (answer,) = [m for m in map(wire.decode, channel.frames_to_send(0.0)) if m.payload_type == wire.HANDSHAKE_RESPONSE]
        ours = json.loads(answer.payload)
        # One of the recorded clients acknowledges the challenge, the other does not know of it; one leaves the hash out.
        result = ours["ProcessedClientActions"][1]["ActionResult"]
        assert result.pop("ChallengeAcknowledgement") is True
        assert result.pop("KMSCipherTextHash") is None
        for key in ("ChallengeAcknowledgement", "KMSCipherTextHash"):
            expected["ProcessedClientActions"][1]["ActionResult"].pop(key, None)
        assert ours == expected


def test_challenges_are_worded_as_the_real_ones() -> None:
    for frame in binary(KMS):
        message = wire.decode(frame.data)
        if message.payload_type == wire.ENCRYPTION_CHALLENGE_REQUEST or (
            message.payload_type == wire.ENCRYPTION_CHALLENGE_RESPONSE and b'": ' not in message.payload  # the client with blanks
        ):
            assert challenge_response(parse_challenge(message.payload)) == message.payload
            assert len(parse_challenge(message.payload)) == 12 + 64 + 16


async def test_the_opening_frame_has_the_fields_of_the_real_one() -> None:
    async with Service(Agent(), echo=bytes) as service:
        client = SessionClient(service.started(), resume=service.resume, terminate=service.terminate)
        await client.open()
        await client.write(b"x")
        await client.close()
        (ours,) = service.openings
    openings = [json.loads(frame.text) for name in FILES for frame in frames(name) if frame.kind == "text" and frame.by == "client"]
    assert openings
    for opening in openings:
        assert set(opening) == set(ours)
