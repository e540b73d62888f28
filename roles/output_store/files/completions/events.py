# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events that the function gets, as what they mean: sightings of an invocation that may have ended. No I/O.

EventBridge gives one event, S3 a list of records. Either may come wrapped in the messages of a queue or a topic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from .keys import OutputKey, understand

INVOCATION = "EC2 Command Invocation Status-change Notification"


@dataclass(frozen=True)
class StatusEvent:
    """The service says that an invocation has a status. Nobody else can send events of the source ``aws.ssm``."""

    account: str
    region: str
    command_id: str
    node_id: str
    status: str
    document: str


@dataclass(frozen=True)
class ObjectEvent:
    """Somebody has written an object. By itself that proves nothing."""

    bucket: str
    key: str
    output: OutputKey
    etag: str
    written: float  #: seconds since the epoch
    writer: str  #: who wrote it, as S3 says, such as ``AWS:AROA…:i-0123456789abcdef0``


Sighting = StatusEvent | ObjectEvent


@dataclass(frozen=True)
class Item:
    """One record of a batch."""

    queue_message_id: str | None  #: None if it did not come from a queue
    sightings: tuple[Sighting, ...]


def read(event: Mapping[str, Any], regions: tuple[str, ...] = ()) -> list[Item]:
    """All that an event of the function holds; whatever is not for it, is left out."""
    records = event.get("Records")
    if records is None:
        return [Item(None, tuple(_sightings(event, regions)))]
    items = []
    for record in records:
        if record.get("eventSource") == "aws:sqs":
            items.append(Item(record["messageId"], tuple(_sightings(json.loads(record["body"]), regions))))
        else:
            items.append(Item(None, tuple(_sightings({"Records": [record]}, regions))))
    return items


def _sightings(event: Mapping[str, Any], regions: tuple[str, ...]) -> Iterator[Sighting]:
    if event.get("detail-type") == INVOCATION and event.get("source") == "aws.ssm":
        detail = event["detail"]
        yield StatusEvent(event["account"], event["region"], detail["command-id"], detail["instance-id"], detail["status"], detail.get("document-name", ""))
    elif event.get("Type") == "Notification":  # of a topic
        yield from _sightings(json.loads(event["Message"]), regions)
    for record in event.get("Records", ()):
        if "Sns" in record:
            yield from _sightings(json.loads(record["Sns"]["Message"]), regions)
        elif str(record.get("eventName", "")).startswith("ObjectCreated:"):
            yield from _object(record, regions)


def _object(record: Mapping[str, Any], regions: tuple[str, ...]) -> Iterator[ObjectEvent]:
    entry = record["s3"]
    key = unquote_plus(entry["object"]["key"])
    output = understand(key, regions)
    if output is None:
        return
    written = datetime.fromisoformat(record["eventTime"].replace("Z", "+00:00")).timestamp()
    writer = str(record.get("userIdentity", {}).get("principalId", ""))
    yield ObjectEvent(entry["bucket"]["name"], key, output, entry["object"].get("eTag", ""), written, writer)
