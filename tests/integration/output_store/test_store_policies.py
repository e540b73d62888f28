# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The function's policies are enough, and each of their actions is needed. What they allow for its log is Lambda's own to use, and is not tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.output_store.called import ROLE, Store, status
from tests.integration.output_store.test_function import two_steps
from tests.integration.test_policies import OPERATOR, actions, policy, without

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
