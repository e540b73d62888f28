# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SendCommand against an endpoint of our own: what is not surely refused is looked for, and never taken for what was not run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity_key import IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command import sender
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.sender import Order, Sender, Sent
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from tests.unit.aws_endpoint import Answer, Endpoint
from tests.unit.plugin_utils.datachannel.loopback import PrivateCA

ID = "11111111-2222-3333-4444-555555555555"


class RunCommand:
    """The service behind TLS: it accepts every command, and lists them."""

    def __init__(self, authority: PrivateCA) -> None:
        self._authority = authority
        self.listed: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda command: (200, {"Command": command})
        self.lists = True
        self.endpoint = Endpoint(self._answer, authority.server_context)

    def _answer(self, action: str, _key: str, parameters: dict[str, Any]) -> Answer:
        if action == "ListCommands":
            return 200, {"Commands": self.listed if self.lists else []}
        assert action == "SendCommand"
        command = {"CommandId": ID, "Comment": parameters["Comment"], "InstanceIds": parameters["InstanceIds"], "RequestedDateTime": 1_700_000_000}
        answer = self.answer(command)
        if answer[0] == 200:
            self.listed.append(command)
        return answer

    async def send(self, *node_ids: str, trusted: bool = True) -> Sent:
        options = {"host": "i-1", "region": "eu-central-1", "endpoint_url": self.endpoint.url.replace("127.0.0.1", "localhost")}
        key = IdentityKey.of(
            ConnectionOptions.from_mapping({**options, "ca_bundle": str(self._authority.bundle) if trusted else None}),
            {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "secret"},
        )
        return await Sender(Identity(key, {}), logging.getLogger("test")).send(Order("AWS-RunShellScript", "true", 30, 60, "test"), node_ids or ["i-1"])


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunCommand]:
    monkeypatch.setattr(sender, "_LOOKS", (0.1, 0.1))
    running = RunCommand(PrivateCA(tmp_path))
    yield running
    running.endpoint.close()


LOST = [
    pytest.param((200, b"this is no TLS, where the answer should be"), id="TLS breaks"),
    pytest.param((200, {}), id="no command"),
    pytest.param((200, {"Command": {}}), id="no id"),
    pytest.param((200, "<html>"), id="no JSON"),
]


@pytest.mark.parametrize("answer", LOST)
async def test_an_answer_that_says_nothing_leads_to_the_command(service: RunCommand, answer: Answer) -> None:
    service.answer = lambda _command: answer
    sent = await service.send()
    assert [command.command_id for command in sent.commands] == [ID]
    assert service.endpoint.actions == ["SendCommand", "ListCommands"]


@pytest.mark.parametrize("answer", LOST)
async def test_if_it_is_not_listed_its_outcome_is_unknown(service: RunCommand, answer: Answer) -> None:
    service.answer, service.lists = lambda _command: answer, False
    sent = await service.send()
    assert list(sent.unknown) == ["i-1"] and not sent.refused
    assert "the answer to ssm:SendCommand was lost" in str(sent.unknown["i-1"])


async def test_what_was_surely_not_sent_is_not_looked_for(service: RunCommand) -> None:
    sent = await service.send(trusted=False)
    assert list(sent.refused) == ["i-1"] and "not trusted" in str(sent.refused["i-1"])
    assert service.endpoint.actions == []


async def test_a_refusal_is_one(service: RunCommand) -> None:
    service.answer = lambda _command: (400, {"__type": "InvalidDocument", "message": "no"})
    sent = await service.send()
    assert list(sent.refused) == ["i-1"]
    assert service.endpoint.actions == ["SendCommand"]


NODES = [f"i-{number:08x}" for number in range(4)]


def denying(resource: str, user: str = "user/me") -> Callable[[dict[str, Any]], Answer]:
    """IAM, by whose policy one of the resources of a command is not allowed."""
    text = f"User: arn:aws:iam::1:{user} is not authorized to perform: ssm:SendCommand on resource: arn:aws:{resource} because no policy allows it"

    def answer(command: dict[str, Any]) -> Answer:
        kind, _slash, name = resource.rpartition("/")
        if kind.endswith("instance") and name not in command["InstanceIds"]:
            return 200, {"Command": command}
        return 400, {"__type": "AccessDeniedException", "message": text}

    return answer


async def test_a_node_that_iam_denies_keeps_no_other_one_from_the_command(service: RunCommand) -> None:
    service.answer = denying(f"ec2:eu-central-1:1:instance/{NODES[2]}", user=f"assumed-role/Controller/{NODES[0]}")
    sent = await service.send(*NODES)
    assert list(sent.refused) == [NODES[2]] and "allow the action ssm:SendCommand" in str(sent.refused[NODES[2]])
    assert [command.node_ids for command in sent.commands] == [[NODES[0], NODES[1], NODES[3]]]
    assert service.endpoint.actions == ["SendCommand"] * 2


async def test_a_document_that_iam_denies_is_tried_once(service: RunCommand) -> None:
    service.answer = denying("ssm:eu-central-1::document/AWS-RunShellScript", user=f"assumed-role/Controller/{NODES[0]}")
    sent = await service.send(*NODES)
    assert list(sent.refused) == NODES
    assert service.endpoint.actions == ["SendCommand"]
