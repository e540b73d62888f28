# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What EC2 tells of an instance beside its description: status checks, and the console. moto has every check passed, and one console for all.

The options `checks` (`{instance: impaired}`) and `console` of a node say what they are; `console: true` shows what its agent logs.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from xml.sax.saxutils import escape

from . import moto_bridge
from .errors import AwsError
from .moto_bridge import Answer
from .world import World

ACTIONS = frozenset({"DescribeInstanceStatus", "GetConsoleOutput"})
_CHECKS = ("instance", "system")
_LONGEST = 65_536  #: bytes of console output


def answer(world: World, account: str, region: str, action: str, form: Mapping[str, str]) -> Answer:
    """Serve one of `ACTIONS`. Raises `AwsError` in EC2's words."""
    body = _status(world, account, region, form) if action == "DescribeInstanceStatus" else _console(world, account, region, form)
    text = f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>lab</requestId>{body}</{action}Response>'
    return Answer(200, [("Content-Type", "text/xml;charset=UTF-8")], text.encode())


def _status(world: World, account: str, region: str, form: Mapping[str, str]) -> str:
    ids = {value for key, value in form.items() if key.startswith("InstanceId.")}
    filters = {
        value: {given for name, given in form.items() if name.startswith(key.replace(".Name", ".Value."))}
        for key, value in form.items()
        if key.startswith("Filter.") and key.endswith(".Name")
    }
    items = []
    for instance_id, instance in moto_bridge.instances(account, region).items():
        if instance.state != "running" or (ids and instance_id not in ids):
            continue
        node = world.nodes.get(instance_id)
        given = node.spec.options.get("checks", {}) if node is not None else {}
        checks = {check: str(given.get(check, "ok")) for check in _CHECKS}
        if all(checks[check] in filters.get(f"{check}-status.status", {checks[check]}) for check in _CHECKS):
            told = "".join(f"<{check}Status><status>{checks[check]}</status></{check}Status>" for check in _CHECKS)
            items.append(f"<item><instanceId>{instance_id}</instanceId><instanceState><code>16</code><name>running</name></instanceState>{told}</item>")
    return f"<instanceStatusSet>{''.join(items)}</instanceStatusSet>"


def _console(world: World, account: str, region: str, form: Mapping[str, str]) -> str:
    instance_id = form.get("InstanceId", "")
    if moto_bridge.instance_of(account, region, instance_id) is None:
        raise AwsError("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    node = world.nodes.get(instance_id)
    shown = node.spec.options.get("console", "") if node is not None else ""
    if shown is True and node is not None and node.runtime is not None:
        shown = node.runtime.log_path.read_text(encoding="utf-8", errors="replace")
    encoded = base64.b64encode(str(shown or "").encode()[-_LONGEST:]).decode()
    return f"<instanceId>{escape(instance_id)}</instanceId><timestamp>2026-01-01T00:00:00.000Z</timestamp><output>{encoded}</output>"
