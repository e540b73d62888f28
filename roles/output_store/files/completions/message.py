# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The completion message. No I/O."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .events import StatusEvent
from .invocations import Invocation, Step, locate, snake

VERSION = 1


def message_of(invocation: Invocation, relay: tuple[str, str] | None = None) -> dict[str, Any]:
    """Of what the service says.

    With several steps, rc and URIs are those of the first step that did not succeed, or of the last one. A command that never ran may have none.

    :param relay: region and bucket to which outputs are moved; None if they stay.
    """
    steps = [_step(step, relay) for step in invocation.steps]
    telling = next((step for step in steps if step["status"] != "success"), steps[-1] if steps else {})
    return {
        "version": VERSION,
        "command_id": invocation.command_id,
        "instance_id": invocation.node_id,
        "account_id": invocation.account,
        "region": invocation.region,
        "status": invocation.status,
        "rc": telling.get("rc"),
        "stdout_uri": telling.get("stdout_uri"),
        "stderr_uri": telling.get("stderr_uri"),
        "document": invocation.document,
        "comment": invocation.comment,
        "ended_at": invocation.steps[-1].ended_at if invocation.steps else None,
        "steps": steps,
        "verified": True,
    }


def message_without_look(event: StatusEvent, problem: str) -> dict[str, Any]:
    """Of an event alone, where the account does not let the function look: the status is true, the rest is not known."""
    return {
        "version": VERSION,
        "command_id": event.command_id,
        "instance_id": event.node_id,
        "account_id": event.account,
        "region": event.region,
        "status": snake(event.status),
        "rc": None,
        "stdout_uri": None,
        "stderr_uri": None,
        "document": event.document,
        "comment": "",
        "ended_at": None,
        "steps": [],
        "verified": False,
        "problem": problem,
    }


def _step(step: Step, relay: tuple[str, str] | None) -> dict[str, Any]:
    def moved(url: str | None) -> str | None:
        if url is None or relay is None:
            return url
        region, bucket = relay
        return f"https://s3.{region}.amazonaws.com/{bucket}/{quote(locate(url)[1])}"

    return {"name": step.name, "status": step.status, "rc": step.rc, "stdout_uri": moved(step.stdout_url), "stderr_uri": moved(step.stderr_url)}
