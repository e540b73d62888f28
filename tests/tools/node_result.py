# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of nodes as `run_command` returns them, without a service."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import invocation_record

PLACE = {"account_id": "111111111111", "account_name": None, "region": "eu-central-1"}


def node_result(node_id: str, *outputs: str, folder: str = "", status: str = "Success", brief: bool = True) -> dict[str, Any]:
    """A node's result.

    :param outputs: what the listing has of each step.
    :param folder: the URL below which steps ``1``, ``2`` and so on have their objects; none without a bucket.
    :param brief: whether the result has texts.
    """
    steps = []
    for number, output in enumerate(outputs, 1):
        urls = {f"Standard{name}Url": f"{folder}/{number}/{stream}" if folder else "" for name, stream in (("Output", "stdout"), ("Error", "stderr"))}
        steps.append({"Name": str(number), "StatusDetails": status, "ResponseCode": 0, "Output": output, **urls})
    entry = {"InstanceId": node_id, "CommandId": "c", "StatusDetails": status, "RequestedDateTime": 1.0, "CommandPlugins": steps}
    return invocation_record(entry, PLACE, output=brief)
