# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands looked at and cancelled."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..errors import AwsError
from ..run_command.answers import command_answer, invocation_answer, step_answer
from ..run_command.command import Command
from ..run_command.invocation import Invocation
from ..run_command.status import Details
from .registry import Call, action

_PAGE = 50
#: The filter ExecutionStage, and what it means.
_STAGES = {"Executing": False, "Complete": True}


@action("ListCommands")
async def list_commands(call: Call) -> dict[str, Any]:
    """Commands, the latest first."""
    _check_filters(call)
    visible = time.time() - call.world.settings.listing_delay

    def entries(start: int | None, _skipped: int) -> Iterator[tuple[str, Command]]:
        for position, command in _commands(call, start):
            if command.requested <= visible and _shown(call, command, command.details):
                yield f"{position}", command

    chosen, more = _page(call, entries)
    return {"Commands": [command_answer(command) for command in chosen], **more}


@action("ListCommandInvocations")
async def list_command_invocations(call: Call) -> dict[str, Any]:
    """Invocations of a command, of a node, or all; of the latest command first."""
    _check_filters(call)
    node_id = call.parameters.get("InstanceId")
    visible = time.time() - call.world.settings.invocation_delay

    def entries(start: int | None, skipped: int) -> Iterator[tuple[str, tuple[Command, Invocation]]]:
        for position, command in _commands(call, start):
            if command.requested > visible:
                continue
            first = skipped if position == start else 0
            members = islice(enumerate(_members(command, node_id)), first, None)
            for number, invocation in members:
                if _shown(call, command, invocation.details):
                    yield f"{position}.{number}", (command, invocation)

    chosen, more = _page(call, entries)
    details = bool(call.parameters.get("Details"))
    return {
        "CommandInvocations": [
            invocation_answer(command, invocation, call.world.nodes.get(invocation.node_id), details=details)
            for command, invocation in chosen
        ],
        **more,
    }


@action("GetCommandInvocation")
async def get_command_invocation(call: Call) -> dict[str, Any]:
    """The result of one step on one node."""
    command = call.world.run_command.get(call.account, call.region, call.parameters["CommandId"])
    invocation = command.invocations.get(call.parameters["InstanceId"]) if command is not None else None
    if command is None or invocation is None or command.requested + call.world.settings.invocation_delay > time.time():
        raise AwsError("InvocationDoesNotExist", "The command ID and managed node ID that you specified did not match any invocations.")
    wanted, steps = call.parameters.get("PluginName"), command.steps
    if wanted is None and len(steps) > 1:
        raise AwsError("InvalidPluginName", f"The document has several steps: name one of {', '.join(steps)}.")
    if wanted is not None and wanted not in steps:
        raise AwsError("InvalidPluginName", f"The plugin name {wanted} is not valid.")
    step = wanted or next(iter(steps))
    return step_answer(command, invocation, step, named=wanted is not None)


@action("CancelCommand")
async def cancel_command(call: Call) -> dict[str, Any]:
    """Cancel a command on some of its nodes, or on all."""
    command = call.world.run_command.get(call.account, call.region, call.parameters["CommandId"])
    if command is None:
        raise AwsError("InvalidCommandId", "The command ID is not valid.")
    node_ids = call.parameters.get("InstanceIds") or []
    if len(set(node_ids)) != len(node_ids):
        raise AwsError("DuplicateInstanceId", "You cannot specify a managed node ID more than once.")
    if unknown := [node_id for node_id in node_ids if node_id not in command.invocations]:
        raise AwsError("InvalidInstanceId", f"{', '.join(unknown)} not in command {command.command_id}")
    call.world.run_command.cancel(command, node_ids)
    return {}


def _commands(call: Call, start: int | None) -> Iterator[tuple[int, Command]]:
    """Positions and commands, from a position downwards: newer commands do not move what follows a page."""
    known, wanted = call.world.run_command.within(call.account, call.region), call.parameters.get("CommandId")
    node_id = call.parameters.get("InstanceId")
    if wanted is not None:
        command = call.world.run_command.get(call.account, call.region, wanted)
        if command is not None and (node_id is None or node_id in command.invocations):
            yield 0, command
        return
    for position in range(len(known) - 1 if start is None else min(start, len(known) - 1), -1, -1):
        if node_id is None or node_id in known[position].invocations:
            yield position, known[position]


def _members(command: Command, node_id: str | None) -> Iterator[Invocation]:
    if node_id is None:
        return iter(command.invocations.values())
    return iter([command.invocations[node_id]])


def _page(call: Call, entries: Any) -> tuple[list[Any], dict[str, str]]:
    """One page, and the NextToken that names where the next begins; raises `AwsError`."""
    token = call.parameters.get("NextToken")
    start, _dot, skipped = (token or "").removeprefix("from-").partition(".")
    if token is not None and not (token.startswith("from-") and start.isdigit() and (skipped or "0").isdigit()):
        raise AwsError("InvalidNextToken", "The specified token is not valid.")
    size = call.parameters.get("MaxResults") or _PAGE
    found = list(islice(entries(int(start) if token is not None else None, int(skipped or 0)), size + 1))
    more = {"NextToken": f"from-{found[size][0]}"} if len(found) > size else {}
    return [entry for _place, entry in found[:size]], more


def _check_filters(call: Call) -> None:
    for entry in call.parameters.get("Filters") or ():
        key, value = entry["key"], entry["value"]
        if key == "ExecutionStage" and value not in _STAGES:
            raise AwsError("InvalidFilterKey", f"ExecutionStage is one of {', '.join(_STAGES)}.")
        if key in ("InvokedAfter", "InvokedBefore"):
            _moment(value)


def _shown(call: Call, command: Command, details: Details) -> bool:
    """Whether the filters let an entry of this status pass."""
    return all(_passes(command, details, entry["key"], entry["value"]) for entry in call.parameters.get("Filters") or ())


def _passes(command: Command, details: Details, key: str, value: str) -> bool:
    if key == "Status":
        return value in (details, details.status)
    if key == "ExecutionStage":
        return details.final is _STAGES[value]
    if key == "DocumentName":
        return command.document_name == value
    if key == "InvokedAfter":
        return command.requested >= _moment(value)
    return command.requested <= _moment(value)


def _moment(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise AwsError("InvalidFilterKey", f"{text} is no time in ISO 8601") from None
