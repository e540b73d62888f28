# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor's layers of the route run_command: its document, its bucket, its events, a command, and content by presigned URLs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import tempfile

from ...runcommand import script
from .. import errors
from ..aws.identity import Identity
from ..controllers import Controllers
from ..examination import LIMIT, Failed, output_of, say, step
from ..request import DELIVERY, ConnectionOptions, make_reason
from .bucket import Bucket
from .commands import Commands
from .event_queue import EventQueue
from .journal import Journal
from .route import CommandRoute

_PARAMETERS = frozenset(("commands", "executionTimeout"))
_TOOLS = "id -un; for i in curl python3 /usr/libexec/platform-python python; do command -v $i; done"
_CONTENT = 64 * 1024
"""Bytes that are too many for a script and for its printed output, so that a URL is needed for either."""


async def examine(identity: Identity, options: ConnectionOptions) -> None:
    """One layer after the other, for a node by its id. :raises Failed: one does not work."""
    options = dataclasses.replace(options, delivery_timeout=DELIVERY[0])  # a node that fetches nothing is known before the patience is over
    log = logging.getLogger("fleet.ssm.doctor")
    log.setLevel(logging.CRITICAL)
    await _document(identity, options.command_document)
    await _bucket(identity, options)
    await _events(identity, options.events_topic, log)
    with tempfile.TemporaryDirectory() as folder:
        commands = Commands(identity, log, Journal(os.path.join(folder, "doctor")), Controllers())
        route = CommandRoute(commands, options, log, b"")
        try:
            await step("node", route.open(options, make_reason(None, playbook="the doctor of fleet.ssm")))
            began = asyncio.get_running_loop().time()
            user, *tools = (await output_of("command", route, options, _TOOLS)).decode("utf-8", "replace").split()
            say("command", f"answered in {asyncio.get_running_loop().time() - began:.2f} s as {user}")
            if options.bucket:
                await _transfer(route, options)
            elif not tools:
                say("transfer", "the node has neither curl nor Python 3: with a bucket, content could not pass through it")
        finally:
            await route.close()
            await commands.close()


async def _document(identity: Identity, name: str) -> None:
    if name == "AWS-RunShellScript":
        say("document", name)
        return
    try:
        found = await identity.call("ssm", "get_document", deadline=asyncio.get_running_loop().time() + LIMIT, resource=name, Name=name, DocumentFormat="JSON")
        parameters = frozenset(json.loads(found["Content"]).get("parameters") or ())
    except Exception as error:
        if not errors.is_no_document(error):
            say("document", f"{name}, unseen: {identity.explain(error, 'ssm:GetDocument', name)}")
            return
        raise Failed(f"document: the Command document {name} (option command_document) does not exist in {identity.region}") from error
    if lacking := sorted(_PARAMETERS - parameters):
        raise Failed(f"document: {name} (option command_document) lacks the parameters {' and '.join(lacking)}, which AWS-RunShellScript has")
    say("document", f"{name}, {found.get('DocumentType')}")


async def _bucket(identity: Identity, options: ConnectionOptions) -> None:
    bucket = await step("bucket", Bucket.of(identity, options, {}))
    if bucket is None:
        say("bucket", f"none: output beyond {script.PRINTED:,} characters, large input, and tasks with no_log are refused")
        return
    key, content = bucket.new_key("doctor", "look"), b"a look by the doctor of fleet.ssm\n"
    await step("bucket", bucket.put(key, content))
    try:
        with await step("bucket", bucket.get(key)) as found:
            if found.read() != content:
                raise Failed(f"bucket: s3://{bucket.name} gives other bytes than it got")
    finally:
        await step("bucket", bucket.delete(key))
    say("bucket", f"s3://{bucket.name}/{bucket.prefix} in {bucket.region}{', ' + bucket.sse if bucket.sse else ''}: may be written, read and cleared")


async def _events(identity: Identity, topic: str | None, log: logging.Logger) -> None:
    if topic is None:
        say("events", "none: the ends of commands are asked for")
        return
    queue = EventQueue(identity, topic, lambda end: None, asyncio.Event(), log)
    try:
        async with asyncio.timeout(LIMIT):
            await queue.open()
    except TimeoutError:
        raise Failed(f"events: no answer within {LIMIT:.0f} s") from None
    except Exception as error:
        raise Failed(f"events: {identity.explain(error, 'sqs:CreateQueue', topic)}") from error
    await queue.close()
    say("events", f"a queue could be subscribed to {topic}")


async def _transfer(route: CommandRoute, options: ConnectionOptions) -> None:
    content = os.urandom(_CONTENT)
    began = asyncio.get_running_loop().time()
    if await output_of("transfer", route, options, "cat", content) != content:
        raise Failed("transfer: other bytes came back through the bucket than were sent")
    say("transfer", f"{_CONTENT // 1024} KiB to the node and back through the bucket in {asyncio.get_running_loop().time() - began:.2f} s")
