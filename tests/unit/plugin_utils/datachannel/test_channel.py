# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state machine: handshake, encryption, ends, and what it tells the agent."""

from __future__ import annotations

import base64
import json
import os
import sys

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel import message as wire
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.channel import DataChannel
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.encryption import OVERHEAD, EncryptionError, SessionCipher
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.events import Closed, DataKeyNeeded, Event, ExitCode, Output
from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.settings import ChannelSettings

from .agent import Agent, closed, notice

KEY_ID = "arn:aws:kms:eu-central-1:111111111111:key/1"


def exchange(channel: DataChannel, agent: Agent, now: float = 0.0) -> list[Event]:
    """Carry frames to and fro until neither side has any."""
    events: list[Event] = []
    while True:
        to_agent = channel.frames_to_send(now)
        for frame in to_agent:
            agent.receive(frame)
        to_client = agent.frames(now)
        for frame in to_client:
            events += channel.receive(frame, now)
        if not to_agent and not to_client:
            return events


def test_small_writes_are_joined_and_large_ones_cut() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    data = os.urandom(2500)
    for start in range(0, 2500, 100):
        channel.send(data[start : start + 100])
    sizes = [len(wire.decode(frame).payload) for frame in channel.frames_to_send(0.0)]
    assert sizes == [1024, 1024, 452]
    channel.reconnected(0.0)
    exchange(channel, agent)
    assert agent.input == data
    assert channel.drained


def test_input_waits_for_the_end_of_the_handshake() -> None:
    channel, agent = DataChannel("s", "t"), Agent(session_type="NonInteractiveCommands")
    (request,) = agent.frames(0.0)
    channel.receive(request, 0.0)
    channel.send(b"data")
    assert [wire.decode(frame).payload_type for frame in channel.frames_to_send(0.0)[1:]] == [wire.HANDSHAKE_RESPONSE]
    channel.reconnected(0.0)
    exchange(channel, agent)
    assert not agent.handshake_running
    assert agent.input == b"data"


@pytest.mark.parametrize("session_type", ["Standard_Stream", "InteractiveCommands", "NonInteractiveCommands", "Port"])
def test_every_known_session_type_is_accepted(session_type: str) -> None:
    channel, agent = DataChannel("s", "t"), Agent(session_type=session_type)
    exchange(channel, agent)
    (response,) = agent.handshake_responses
    assert response["ProcessedClientActions"] == [{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": None, "Error": ""}]
    assert response["Errors"] is None
    assert channel.session_type == session_type


def test_an_unknown_session_type_is_refused_and_reported() -> None:
    channel, agent = DataChannel("s", "t"), Agent(session_type="Telepathy")
    exchange(channel, agent)
    (response,) = agent.handshake_responses
    assert response["Errors"] == ["Unknown session type Telepathy"]
    (end,) = channel.receive(closed(), 1.0)
    assert end == Closed("the handshake failed: Unknown session type Telepathy", clean=False)


def test_an_unknown_action_is_refused() -> None:
    channel = DataChannel("s", "t")
    request = {"AgentVersion": "9", "RequestedClientActions": [{"ActionType": "Dance", "ActionParameters": {}}]}
    channel.receive(wire.Message(wire.OUTPUT_STREAM_DATA, 0, 1, bytes(16), 1, wire.HANDSHAKE_REQUEST, json.dumps(request).encode()).encode(), 0.0)
    response = json.loads(wire.decode(channel.frames_to_send(0.0)[1]).payload)
    assert response["ProcessedClientActions"] == [{"ActionType": "Dance", "ActionStatus": 3, "ActionResult": None, "Error": "Unsupported action Dance"}]


def test_the_terminal_size_is_told_once_when_there_is_a_terminal() -> None:
    settings = ChannelSettings(terminal_size=(200, 50))
    channel, agent = DataChannel("s", "t", settings), Agent()
    exchange(channel, agent)
    assert agent.sizes == []
    agent.send(b"READY")
    exchange(channel, agent)
    agent.send(b"more")
    exchange(channel, agent)
    assert agent.sizes == [{"cols": 200, "rows": 50}]


def encrypted(challenge: str = "") -> tuple[DataChannel, Agent, bytes]:
    key = os.urandom(64)
    agent = Agent(session_type="InteractiveCommands", kms_key=KEY_ID, data_key=key, challenge=challenge)
    return DataChannel("session-1", "mi-1", ChannelSettings(input_waits=True)), agent, key


def test_input_that_waits_for_the_agent_is_never_plain_in_an_encrypted_session() -> None:
    key = os.urandom(64)
    channel = DataChannel("s", "i-1", ChannelSettings(input_waits=True))
    agent = Agent(session_type="InteractiveCommands", kms_key=KEY_ID, data_key=key)
    channel.send(b"written before the agent said a word")
    assert channel.frames_to_send(0.0) == []
    exchange(channel, agent)
    assert channel.data_key(key, b"encrypted") == []
    exchange(channel, agent)
    assert agent.encrypted
    assert agent.input == b"written before the agent said a word"


def test_input_that_waits_goes_with_the_first_output_where_nothing_is_agreed_on() -> None:
    channel, agent = DataChannel("s", "t", ChannelSettings(input_waits=True)), Agent()
    channel.send(b"data")
    assert channel.frames_to_send(0.0) == []
    agent.send(b"$ ")
    exchange(channel, agent)
    assert agent.input == b"data"


def test_input_need_not_wait_once_the_program_is_known_to_run() -> None:
    channel, agent = DataChannel("s", "t", ChannelSettings(input_waits=True)), Agent()
    channel.send(b"data")
    channel.program_runs()
    exchange(channel, agent)
    assert agent.input == b"data"


def test_no_input_is_plain_between_handshake_and_key_although_the_program_runs() -> None:
    channel, agent, key = encrypted()
    channel.send(b"early")
    (_wanted,) = exchange(channel, agent)
    channel.program_runs()
    exchange(channel, agent)
    assert not agent.input
    channel.data_key(key, b"encrypted")
    exchange(channel, agent)
    assert agent.encrypted
    assert agent.input == b"early"


def test_an_encrypted_session_from_handshake_to_end() -> None:
    channel, agent, key = encrypted()
    (wanted,) = exchange(channel, agent)
    assert wanted == DataKeyNeeded(KEY_ID, {"aws:ssm:SessionId": "session-1", "aws:ssm:TargetId": "mi-1"})
    assert channel.data_key(key, b"key, encrypted by KMS") == []
    assert exchange(channel, agent) == []
    assert agent.encrypted
    assert not agent.handshake_running
    (response,) = agent.handshake_responses
    actions = response["ProcessedClientActions"]
    assert isinstance(actions, list)
    assert base64.b64decode(actions[1]["ActionResult"]["KMSCipherTextKey"]) == b"key, encrypted by KMS"
    data = os.urandom(5000)
    channel.send(data)
    agent.send(b"out")
    agent.send(b"err", wire.STDERR)
    agent.send(b"EXIT_CODE: -1", wire.EXIT_CODE)
    frames = channel.frames_to_send(0.0)
    assert all(len(wire.decode(frame).payload) <= 1024 for frame in frames)
    assert not any(data[i : i + 16] in frame for frame in frames for i in range(0, 900, 50))
    for frame in frames:
        agent.receive(frame)
    assert exchange(channel, agent) == [Output("stdout", b"out"), Output("stderr", b"err"), ExitCode(-1)]
    assert agent.input == data


def test_a_challenge_becomes_part_of_the_encryption_context_and_is_acknowledged() -> None:
    channel, agent, key = encrypted(challenge="2IF2RVPC1FMpl8xZ3oqMmA==")
    (wanted,) = exchange(channel, agent)
    assert isinstance(wanted, DataKeyNeeded)
    assert wanted.context["aws:ssm:RandomChallenge"] == "2IF2RVPC1FMpl8xZ3oqMmA=="
    channel.data_key(key, b"e")
    exchange(channel, agent)
    actions = agent.handshake_responses[0]["ProcessedClientActions"]
    assert isinstance(actions, list)
    assert actions[1]["ActionResult"]["ChallengeAcknowledgement"] is True


def test_agents_without_challenge_are_not_told_of_one() -> None:
    channel, agent, key = encrypted()
    exchange(channel, agent)
    channel.data_key(key, b"e")
    exchange(channel, agent)
    actions = agent.handshake_responses[0]["ProcessedClientActions"]
    assert isinstance(actions, list)
    assert set(actions[1]["ActionResult"]) == {"KMSCipherTextKey", "KMSCipherTextHash"}


def test_without_a_data_key_the_agent_is_told_why() -> None:
    channel, agent, _key = encrypted()
    exchange(channel, agent)
    channel.data_key_failed("AccessDenied: kms:GenerateDataKey")
    exchange(channel, agent)
    assert agent.handshake_responses[0]["Errors"] == ["AccessDenied: kms:GenerateDataKey"]
    assert channel.receive(closed(), 0.0) == [Closed("the handshake failed: AccessDenied: kms:GenerateDataKey", clean=False)]


def test_a_data_key_of_the_wrong_size_is_a_failure() -> None:
    channel, agent, _key = encrypted()
    exchange(channel, agent)
    channel.data_key(bytes(32), b"e")
    exchange(channel, agent)
    assert agent.handshake_responses[0]["Errors"] == ["the data key has 32 bytes and should have 64"]


def test_output_under_another_key_ends_the_channel() -> None:
    channel, agent, key = encrypted()
    exchange(channel, agent)
    channel.data_key(key, b"e")
    exchange(channel, agent)
    agent.encrypted = False
    agent.send(b"in the clear, and long enough to be taken for a nonce and a tag")
    (end,) = exchange(channel, agent)
    assert isinstance(end, Closed)
    assert not end.clean
    assert "not encrypted with this session's key" in end.reason


def test_cipher_halves_are_those_of_the_two_directions() -> None:
    key = os.urandom(64)
    ours, theirs = SessionCipher(key), SessionCipher(key[32:] + key[:32])
    assert theirs.decrypt(ours.encrypt(b"x" * 100)) == b"x" * 100
    assert ours.decrypt(theirs.encrypt(b"y")) == b"y"
    assert len(ours.encrypt(b"")) == OVERHEAD
    assert ours.encrypt(b"x") != ours.encrypt(b"x")
    for damaged in (b"", bytes(11), bytes(40)):
        with pytest.raises(EncryptionError):
            ours.decrypt(damaged)


def test_without_the_library_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(EncryptionError, match="Python package cryptography"):
        SessionCipher(bytes(64))


@pytest.mark.parametrize(("text", "code"), [(b"EXIT_CODE: 0", 0), (b"EXIT_CODE: 255", 255), (b"EXIT_CODE: -1", -1)])
def test_exit_codes(text: bytes, code: int) -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    agent.send(text, wire.EXIT_CODE)
    assert exchange(channel, agent) == [ExitCode(code)]


def test_an_exit_code_that_says_nothing_is_not_taken_for_success() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    agent.send(b"EXIT_CODE:", wire.EXIT_CODE)
    assert exchange(channel, agent) == [Closed("an exit code that cannot be understood", clean=False)]


def test_the_end_carries_the_text_of_the_service() -> None:
    channel = DataChannel("s", "t")
    assert channel.receive(closed("Session timed out."), 0.0) == [Closed("Session timed out.", clean=True)]
    assert channel.receive(closed("again"), 0.0) == []
    channel.send(b"too late")
    assert channel.frames_to_send(0.0) == []
    assert channel.next_deadline() is None


def test_an_end_before_all_output_has_arrived_is_not_clean() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    agent.send(b"first")
    agent.send(b"second")
    _lost, second = agent.frames(0.0)
    assert channel.receive(second, 0.0) == []
    assert channel.receive(closed(), 0.0) == [Closed("the session ended before all of its output arrived", clean=False)]


def test_the_last_acknowledgements_go_out_after_the_end() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    agent.send(b"last words")
    (frame,) = agent.frames(0.0)
    channel.receive(frame, 0.0)
    channel.receive(closed(), 0.0)
    assert [wire.decode(frame).message_type for frame in channel.frames_to_send(0.0)] == [wire.ACKNOWLEDGE]


def test_the_terminate_flag_comes_after_all_data() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    channel.terminate()
    channel.send(b"x" * 3000)
    frames = [wire.decode(frame) for frame in channel.frames_to_send(0.0)]
    assert [(m.payload_type, m.payload if m.payload_type == wire.FLAG else len(m.payload)) for m in frames] == [
        (wire.OUTPUT, 1024),
        (wire.OUTPUT, 1024),
        (wire.OUTPUT, 952),
        (wire.FLAG, b"\0\0\0\2"),
    ]
    channel.reconnected(0.0)
    exchange(channel, agent)
    assert agent.flags == [2]
    assert channel.drained


@pytest.mark.parametrize("how", ["start_publication", "acknowledge", "output"])
def test_a_pause_holds_input_back_until_the_agent_is_there_again(how: str) -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    channel.receive(notice(wire.PAUSE_PUBLICATION, {}), 0.0)
    channel.send(b"x" * 10_240)
    (probe,) = channel.frames_to_send(0.0)
    assert channel.frames_to_send(0.05) == []
    if how == "start_publication":
        channel.receive(notice(wire.START_PUBLICATION, {}), 0.1)
    elif how == "acknowledge":
        agent.receive(probe)
        for frame in agent.frames(0.1):
            channel.receive(frame, 0.1)
    else:
        agent.send(b"back")
        for frame in agent.frames(0.1):
            channel.receive(frame, 0.1)
    sent = [wire.decode(frame) for frame in channel.frames_to_send(0.1)]
    assert sum(m.message_type == wire.INPUT_STREAM_DATA for m in sent) == 9


def test_session_states_and_unknown_messages_are_harmless() -> None:
    channel = DataChannel("s", "t")
    assert channel.receive(notice(wire.AGENT_SESSION_STATE, {"SessionState": "Connected"}), 0.0) == []
    assert channel.session_state == "Connected"
    assert channel.receive(notice("something_new", {"a": 1}), 0.0) == []
    assert channel.receive(b"\x00\x00\x00\x74 no message", 0.0) == []
    assert channel.malformed_frames == 1
    assert channel.frames_to_send(0.0) == []


def test_a_damaged_stream_message_is_not_acknowledged_so_that_it_comes_again() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    agent.send(b"payload")
    (frame,) = agent.frames(0.0)
    assert channel.receive(frame[:-1] + b"!", 0.0) == []
    assert channel.frames_to_send(0.0) == []
    assert channel.receive(frame, 0.0) == [Output("stdout", b"payload")]
    assert len(channel.frames_to_send(0.0)) == 1


def test_creation_dates_are_wall_clock_and_ids_unique() -> None:
    channel = DataChannel("s", "t", epoch_offset=1_700_000_000.0)
    channel.send(b"x" * 20_000)
    messages = [wire.decode(frame) for frame in channel.frames_to_send(5.5)]
    assert {message.created_ms for message in messages} == {1_700_000_005_500}
    assert len({message.message_id for message in messages}) == len(messages) == 20
    assert not any(message.flags for message in messages)


def test_acknowledgements_that_may_be_lost_are_repeated_on_a_new_websocket() -> None:
    channel, agent = DataChannel("s", "t"), Agent()
    for number in range(5):
        agent.send(b"%d" % number)
    for frame in agent.frames(0.0):
        channel.receive(frame, 0.0)
    assert len(channel.frames_to_send(0.0)) == 5  # into a websocket that is gone
    channel.reconnected(1.0)
    for frame in channel.frames_to_send(1.0):
        agent.receive(frame)
    assert agent.drained


def test_acknowledgements_that_were_lost_at_the_agents_side_are_repeated_at_its_second_repetition() -> None:
    """Else it would resend for half a minute, and what is really missing would come after that."""
    channel, agent = DataChannel("s", "t"), Agent()
    for number in range(300):
        agent.send(b"%d" % number)
    for frame in agent.frames(0.0):
        channel.receive(frame, 0.0)
    channel.frames_to_send(0.0)  # into the agent's websocket, which is gone
    for now in (0.5, 0.7):
        assert not agent.drained
        exchange(channel, agent, now)
    assert agent.drained
