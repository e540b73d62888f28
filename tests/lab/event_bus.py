# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EventBridge's rules and their targets, as far as moto does not serve them.

moto matches patterns and transforms inputs; but it knows no functions or topics as targets, gives an event that goes on to
another account's bus that account's number, and sends what disabled rules match. Its rules deliver through this file.
Tags it finds by the last part of an ARN, so that a bus, its rule and a rule of the default bus that have one name would have one set of tags.
"""

from __future__ import annotations

import copy
import datetime
import json
import logging
from collections.abc import Callable
from typing import Any

from moto.core.utils import iso_8601_datetime_without_milliseconds
from moto.events.models import EventsBackend, EventTemplateParser, Rule, events_backends
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.utilities.arns import Arn, parse_arn

_log = logging.getLogger(__name__)

#: Runs a function, by its ARN, with an event; returns before that has ended.
InvokeFunction = Callable[[str, dict[str, Any]], None]

_motos_way = Rule.send_to_targets


def install(invoke: InvokeFunction) -> None:
    """Let all rules of moto, in this process, deliver as here."""

    def send_to_targets(rule: Rule, original_event: Any, transform_input: bool = True) -> None:
        if rule.state != "ENABLED" or not rule.event_pattern.matches_event(original_event):
            return
        for target in list(rule.targets):
            try:
                _send(rule, target, original_event, invoke)
            except Exception:  # a target that is gone or refuses; the other ones get theirs
                _log.exception("rule %s could not deliver to %s", rule.arn, target["Arn"])

    Rule.send_to_targets = send_to_targets
    EventsBackend.list_tags_for_resource = lambda backend, arn: backend.tagger.list_tags_for_resource(arn)
    EventsBackend.tag_resource = lambda backend, arn, tags: backend.tagger.tag_resource(arn, backend.tagger.convert_dict_to_tags_input(tags))


def has_rules(account: str, region: str) -> bool:
    """Whether anyone listens on an account's default bus."""
    return bool(events_backends[account][region].event_buses["default"].rules)


def publish(account: str, region: str, event: dict[str, Any], bus: str = "default") -> None:
    """An AWS service's own event, on a bus of the account where it happened."""
    buses = events_backends[account][region].event_buses
    for rule in list(buses[bus].rules.values()) if bus in buses else ():
        rule.send_to_targets(copy.deepcopy(event))


def _send(rule: Rule, target: dict[str, Any], event: Any, invoke: InvokeFunction) -> None:
    arn = parse_arn(target["Arn"])
    if arn.service == "events" and arn.resource_type == "event-bus":
        publish(arn.account, arn.region, event, arn.resource_id)
    elif arn.service == "sqs":
        group = target.get("SqsParameters", {}).get("MessageGroupId")
        text = json.dumps(_input(target, event))
        sqs_backends[arn.account][arn.region].send_message(queue_name=arn.resource_id, message_body=text, group_id=group)
    elif arn.service == "sns":
        sns_backends[arn.account][arn.region].publish(arn=target["Arn"], message=json.dumps(_input(target, event)))
    elif arn.service == "lambda":
        invoke(target["Arn"], _input(target, event))
    else:
        _leave_to_moto(rule, target, event, arn)


def _input(target: dict[str, Any], event: Any) -> dict[str, Any]:
    """What a target gets of an event."""
    if "Input" in target:
        found: dict[str, Any] = json.loads(target["Input"])
        return found
    event = copy.deepcopy(event)
    if not isinstance(event.get("time"), str):
        moment = datetime.datetime.fromtimestamp(float(event.get("time") or 0), datetime.UTC).replace(tzinfo=None)
        event["time"] = iso_8601_datetime_without_milliseconds(moment)
    transformer = target.get("InputTransformer")
    if transformer:
        event = EventTemplateParser.parse(
            input_template=transformer.get("InputTemplate"),
            input_paths_map=transformer.get("InputPathsMap", {}),
            event={"ingestion-time": event["time"], **event},
        )
    result: dict[str, Any] = event
    return result


def _leave_to_moto(rule: Rule, target: dict[str, Any], event: Any, arn: Arn) -> None:
    """Archives, log groups and the like."""
    alone = copy.copy(rule)
    alone.targets = [target]
    if arn.service == "logs" and isinstance(event.get("time"), str):
        event = {**event, "time": datetime.datetime.fromisoformat(event["time"]).timestamp()}
    _motos_way(alone, event)
