# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policies of the function and of who reads are enough, and each of their actions is needed.

What the function's policy allows for its log is Lambda's own to use, and is not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.callback.test_gathering import Run
from tests.integration.modules.inside import run_module
from tests.integration.output_store.called import BUCKET, ROLE, Store, status
from tests.integration.output_store.test_function import two_steps
from tests.integration.test_policies import OPERATOR, actions, policy, without
from tests.lab import Lab

_NAMES = {
    "company-outputs": "outputs", "fleet-ssm-outputs-look": ROLE, "fleet-ssm-outputs-completions": "told",
}  # fmt: skip
TRIED = {"sts:AssumeRole", "s3:GetObject", "s3:PutObject", "s3:ListBucket", "sqs:SendMessage"}
LOG = {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}


def named(value: Any) -> Any:
    """A policy with the names that these tests have."""
    if isinstance(value, dict):
        return {key: named(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner) for inner in value]
    for ours, theirs in _NAMES.items():
        value = value.replace(ours, theirs)
    return value


def put_in_force(function: Store, *, less: str = "") -> None:
    function.lab.policy(named(without(policy("output-store-function"), less)), principal=OPERATOR)
    function.lab.policy(without(policy("output-store-look"), less), principal=ROLE)


def ended_commands(function: Store) -> list[dict[str, Any]]:
    """The events of a command of one step and of one of two."""
    return [status(*function.send("good")), status(*function.send("good", DocumentName=two_steps(function), Parameters={}))]


def test_the_policies_are_enough(store: Callable[..., Store]) -> None:
    function = store()
    events = ended_commands(function)
    put_in_force(function)
    for event in events:
        function.call(event)
    function.call(events[0])
    function.lab.clear_permissions()
    assert [message["verified"] for message in function.told()] == [True, True]
    assert actions(policy("output-store-function")) == TRIED | LOG


@pytest.mark.parametrize("action", sorted(TRIED - {"sts:AssumeRole"}))
def test_without_an_action_the_function_fails_and_tells_nothing(store: Callable[..., Store], action: str) -> None:
    function = store()
    events = ended_commands(function)[:1]
    put_in_force(function, less=action)
    with pytest.raises(ClientError, match=r"AccessDenied|403"):
        function.call(events[0])
    function.lab.clear_permissions()
    assert function.told() == []


@pytest.mark.parametrize("action", ["sts:AssumeRole", *sorted(actions(policy("output-store-look")))])
def test_without_an_action_in_the_nodes_account_the_message_says_so(store: Callable[..., Store], action: str) -> None:
    function = store()
    events = ended_commands(function)
    put_in_force(function, less=action)
    for event in events:
        function.call(event)
    function.lab.clear_permissions()
    problems = [message.get("problem", "") for message in function.told()]
    assert any(action.partition(":")[2] in problem for problem in problems)


READER = ["s3:GetObject", "s3:ListBucket"]


@pytest.mark.parametrize(("less", "found", "missing"), [("", "", "404"), ("s3:ListBucket", "", "403"), ("s3:GetObject", "403", "403")])
def test_a_reader_gathers_outputs_and_knows_what_is_missing(
    small: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, less: str, found: str, missing: str
) -> None:
    for name, value in small.env().items():
        monkeypatch.setenv(name, value)
    run = Run(tmp_path, small, BUCKET)
    run.put("i-1", "stdout", b"hello")
    run.expect(run.node("i-1", "hello"), run.node("i-2", "lost"))
    small.policy(named(without(policy("output-store-reader"), less)), principal=OPERATOR)
    run.gather(connections=1)  # one after the other
    small.clear_permissions()
    assert actions(policy("output-store-reader")) == set(READER)
    problems = [run.lines()[node]["stdout"].get("problem", {}).get("text", "") for node in ("i-1", "i-2")]
    assert [text.partition(":")[0] for text in problems] == [found, missing]


TAKER = ["sqs:GetQueueUrl", "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]


@pytest.mark.parametrize("less", ["", *TAKER])
def test_who_waits_for_completions_takes_them(store: Callable[..., Store], less: str) -> None:
    function = store()
    other, mine = (function.send("good") for _number in range(2))
    for one in (other, mine):
        function.call(status(*one))
    function.lab.policy(named(without(policy("output-store-completions"), less)), principal=OPERATOR)
    options = {"region": function.lab.region, "queue": "told", "command_ids": [mine[1]], "count": 1, "timeout": 5}
    result = run_module("completions", options, function.lab.env())
    function.lab.clear_permissions()
    function.told()
    assert actions(policy("output-store-completions")) == set(TAKER)
    if less:
        assert less.lower() in result["msg"].lower(), result
    else:
        assert [message["command_id"] for message in result["completions"]] == [mine[1]] and result["missing"] == 0
