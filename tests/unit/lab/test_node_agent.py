# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node of the lab does without I/O, against the recordings of a real agent and against botocore."""

from __future__ import annotations

import json
import random
import uuid
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from tests.lab.nodes.agent import message, signing, utf8, words
from tests.lab.nodes.agent.document import SessionOrder
from tests.lab.nodes.agent.encryption import Cipher
from tests.lab.nodes.agent.message import Message
from tests.lab.nodes.agent.reliability import Inbox, Outbox
from tests.unit.plugin_utils.datachannel.vectors import FILES, frames


def recorded(name: str) -> list[bytes]:
    return [frame.data for frame in frames(name) if frame.kind == "binary" and frame.by]


# Messages


@pytest.mark.parametrize("name", FILES)
def test_recorded_messages_are_read_and_written_again(name, monkeypatch):
    for data in recorded(name):
        read = message.unpack(data)
        monkeypatch.setattr(message.time, "time", lambda data=data: int.from_bytes(data[40:48], "big") / 1000 + 0.0001)
        again = message.pack(read.kind, read.payload, sequence=read.sequence, flags=read.flags, payload_type=read.payload_type, message_id=read.message_id)
        assert again == data


@pytest.mark.parametrize("name", FILES)
def test_acknowledgements_are_those_of_the_real_agent(name):
    sent, found = {}, 0
    for frame in frames(name):
        read = message.unpack(frame.data) if frame.kind == "binary" and frame.by else None
        if read is not None and read.kind == message.INPUT_STREAM_DATA:
            sent[message.id_text(read.message_id).decode()] = read
        elif read is not None and read.kind == message.ACKNOWLEDGE and frame.by == "agent":
            ours = message.unpack(message.pack_acknowledgement(sent[json.loads(read.payload)["AcknowledgedMessageId"]]))
            assert (ours.payload, ours.flags, ours.sequence) == (read.payload, read.flags, read.sequence)
            found += 1
    assert found


def test_message_ids_are_random_uuids():
    ids = {uuid.UUID(message.id_text(message.new_message_id()).decode()) for _unused in range(100)}
    assert len(ids) == 100
    assert {made.version for made in ids} == {4}
    assert {made.variant for made in ids} == {uuid.RFC_4122}


@pytest.mark.parametrize("data", [b"", b"x" * 50, b"\xff" * 200])
def test_other_bytes_are_no_message(data):
    with pytest.raises(message.MessageError):
        message.unpack(data)


# Reliability


def test_only_the_front_message_is_sent_again_and_only_after_the_time_out():
    outbox = Outbox()
    first, _second = outbox.add(1, b"a", 0.0), outbox.add(1, b"b", 0.0)
    assert outbox.due(0.2) is None
    assert outbox.due(0.21) == first
    assert outbox.due(0.3) is None
    assert outbox.due(0.42) == first
    outbox.acknowledged(0, 0.43)
    assert message.unpack(outbox.due(1.0) or b"").payload == b"b"
    outbox.acknowledged(0, 1.1)
    outbox.acknowledged(1, 1.1)
    assert len(outbox) == 0
    assert outbox.due(9.0) is None


def test_time_out_follows_the_round_trips_and_has_a_limit():
    outbox = Outbox()
    for number in range(100):
        outbox.add(1, b"x", number)
        outbox.acknowledged(number, number + 0.002)
    assert 0.012 <= outbox.timeout < 0.02
    for number in range(100, 120):
        outbox.add(1, b"x", number)
        outbox.acknowledged(number, number + 5)
    assert outbox.timeout == 1.0


def stream(sequence: int) -> Message:
    return Message(message.INPUT_STREAM_DATA, sequence, 0, bytes(16), 1, b"%d" % sequence)


def test_input_is_acknowledged_when_taken_and_early_input_at_once():
    inbox = Inbox()
    assert inbox.receive(stream(1)) == stream(1)
    assert inbox.receive(stream(0)) is None
    assert inbox.current == stream(0)
    assert inbox.taken() == stream(0)
    assert inbox.current == stream(1)
    assert inbox.taken() is None
    assert inbox.current is None
    assert inbox.receive(stream(1)) == stream(1)
    assert inbox.current is None


def test_rejected_input_is_expected_again():
    inbox = Inbox()
    assert inbox.receive(stream(0)) is None
    inbox.rejected()
    assert inbox.current is None
    assert inbox.receive(stream(0)) is None
    assert inbox.current == stream(0)


# Output


def by_characters(data: bytes) -> tuple[bytes, bytes]:
    """The rule itself, a character at a time."""
    out, at = b"", 0
    while at < len(data):
        width = next((size for size in (1, 2, 3, 4) if at + size <= len(data) and valid(data[at : at + size])), 0)
        if width == 0 or data[at : at + width] == b"\xef\xbf\xbd":
            if len(data) - at < 4:
                break
            out += data[at : at + 1]
        else:
            out += data[at : at + width]
        at += width or 1
    return out, data[at:]


def valid(data: bytes) -> bool:
    try:
        return len(data.decode()) == 1
    except UnicodeDecodeError:
        return False


def test_filter_for_utf_8_is_the_rule():
    dice = random.Random(1)
    alphabet = [b"a", b"\x80", b"\xbf", b"\xbd", b"\xc3", b"\xe2", b"\xef", b"\xf0", b"\xff", b"\xef\xbf\xbd", "é€😀".encode()]
    for _unused in range(20000):
        data = b"".join(dice.choices(alphabet, k=dice.randint(0, 9)))
        assert utf8.pass_on(data) == by_characters(data), data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  a\tb\n c ", ["a", "b", "c"]),
        ("sh -c 'echo a; exit 3'", ["sh", "-c", "echo a; exit 3"]),
        (r'"a\"b\n" c\ d', ['a"bn', "c d"]),
        ("'' \"\" a''b", ["", "", "ab"]),
        ("a #comment\nb c#d", ["a", "b", "c#d"]),
    ],
)
def test_words_of_a_command_line(text, expected):
    assert words.split(text) == expected


@pytest.mark.parametrize("text", ["'a", '"a', "a\\", '"a\\'])
def test_command_line_without_its_end(text):
    with pytest.raises(words.UnfinishedError):
        words.split(text)


# Orders, keys, signatures


def test_order_of_a_session_with_its_parameters():
    linux = {"commands": "run {{ command }} {{other}} {{ unknown }}", "runAsElevated": True, "separateOutputStream": "{{ separate }}"}
    content = {
        "SessionId": "one-1",
        "Parameters": {"command": ["a 'b'"], "separate": "True"},
        "RunAsUser": "alice",
        "DocumentContent": {
            "sessionType": "NonInteractiveCommands",
            "inputs": {"runAsEnabled": True, "runAsDefaultUser": "bob", "kmsKeyId": "arn:key"},
            "parameters": {"command": {"type": "String"}, "separate": {"type": "Boolean"}, "other": {"default": "here"}},
            "properties": {"linux": linux},
        },
    }
    order = SessionOrder.parse(json.dumps({"Content": json.dumps(content)}).encode())
    assert order.command == "run a 'b' here {{ unknown }}"
    assert (order.elevated, order.separate, order.run_as_enabled, order.run_as, order.kms_key) == (True, True, True, "alice", "arn:key")


def test_cipher_uses_the_first_half_of_the_key_for_output():
    key = bytes(range(64))
    agent, client = Cipher(key), Cipher(key[32:] + key[:32])
    first, second = agent.encrypt(b"out"), agent.encrypt(b"out")
    assert client.decrypt(first) == client.decrypt(second) == b"out"
    assert first[:12] != second[:12]
    assert agent.decrypt(client.encrypt(b"in")) == b"in"


@pytest.mark.parametrize("token", ["", "a/token+="])
@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", "http://127.0.0.1:8080/", b'{"a": 1}'),
        ("POST", "https://127.0.0.1:8443/v1/data-channel/one-0123", b"{}"),
        ("GET", "https://127.0.0.1:8443/v1/control-channel/mi-1?stream=input&role=subscribe", b""),
    ],
)
def test_signature_is_that_of_botocore(method, url, body, token):
    headers = {"Content-Type": "application/json", "X-Amz-Target": "A.B"}
    theirs = AWSRequest(method, url, headers=headers, data=body)
    SigV4Auth(BotoCredentials("AKIA1", "secret", token or None), "ssm", "eu-central-1").add_auth(theirs)
    moment = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    credentials = signing.Credentials("AKIA1", "secret", token)
    ours = signing.sign(method, url, headers, body, credentials=credentials, service="ssm", region="eu-central-1", at=moment)
    assert ours["Authorization"] == theirs.headers["Authorization"]
