# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queues of SQS."""

from __future__ import annotations

from typing import Any

from .kind import Kind, State, absent_if, document, text

_NOT_THERE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
#: Our words, and those of SQS.
_NUMBERS = {"retention": "MessageRetentionPeriod", "visibility": "VisibilityTimeout"}


class Queue(Kind):
    """Properties: `retention` and `visibility` in seconds; `policy`; `tags`. Its messages are encrypted by SQS.

    A queue whose name ends in ``.fifo`` is one.
    """

    takes = ("retention", "visibility", "policy", "tags")
    documents = frozenset({"policy"})

    def look(self) -> State | None:
        url = self._url()
        if url is None:
            return None
        found = self._call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return {
            "policy": document(found.get("Policy") or ""),
            **{ours: int(found[theirs]) for ours, theirs in _NUMBERS.items()},
            **self._seen_tags(lambda: self._call("ListQueueTags", QueueUrl=url).get("Tags", {})),
        }

    def write(self, now: State | None, wanted: State) -> None:
        attributes = {theirs: str(wanted[ours]) for ours, theirs in _NUMBERS.items() if ours in wanted}
        if wanted.get("policy"):
            attributes["Policy"] = text(wanted["policy"])
        attributes["SqsManagedSseEnabled"] = "true"
        if now is None:
            self._call("CreateQueue", QueueName=self._name, Attributes={**attributes, **({"FifoQueue": "true"} if self._name.endswith(".fifo") else {})})
        else:
            self._call("SetQueueAttributes", QueueUrl=self._url(), Attributes=attributes)
        if missing := self._missing_tags(now):
            self._call("TagQueue", QueueUrl=self._url(), Tags=missing)

    def remove(self, now: State) -> None:
        self._call("DeleteQueue", QueueUrl=self._url())

    def _url(self) -> str | None:
        found = absent_if(_NOT_THERE, lambda: self._call("GetQueueUrl", QueueName=self._name))
        return None if found is None else str(found["QueueUrl"])

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="sqs", **parameters)
