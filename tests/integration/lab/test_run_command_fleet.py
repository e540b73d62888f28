# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated nodes in ten accounts and two regions: it starts within seconds, answers quickly, and stays small."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, NodeDefinition
from tests.lab.model import NodeKind

ACCOUNTS = [f"{111_111_111_111 + number:012d}" for number in range(10)]
REGIONS = ["eu-central-1", "us-east-1"]
EVERYONE = [{"Key": "tag-key", "Values": ["Name"]}]


def _megabytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.parametrize("total", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_fleet(total: int) -> None:
    options = {"failing": 0.01, "stdout": "{name}\n"}
    nodes = [
        NodeDefinition(
            name="node", account=account, region=region, kind=NodeKind.SIMULATED, hybrid=True,
            count=total // (len(ACCOUNTS) * len(REGIONS)), options=options,
        )
        for account in ACCOUNTS
        for region in REGIONS
    ]  # fmt: skip
    begun = time.monotonic()
    with Lab(nodes, accounts=ACCOUNTS, regions=REGIONS) as lab:
        assert time.monotonic() - begun < 60
        pid = lab.status()["pid"]
        before = _megabytes(pid)
        clients = [lab.client("ssm", account=account, region=region) for account in ACCOUNTS for region in REGIONS]
        begun = time.monotonic()
        sent = [
            (client, client.send_command(
                DocumentName="AWS-RunShellScript", Targets=EVERYONE, Parameters={"commands": ["x"]},
                MaxConcurrency="100%", MaxErrors="100%",
            )["Command"]["CommandId"])
            for client in clients
        ]  # fmt: skip
        commands = [_finished(client, command_id) for client, command_id in sent]
        assert time.monotonic() - begun < 60
        assert sum(command["TargetCount"] for command in commands) == total
        assert 0.002 < sum(command["ErrorCount"] for command in commands) / total < 0.03
        client, command_id = sent[0]
        pages = client.get_paginator("list_command_invocations").paginate(CommandId=command_id, Details=True)
        seen = {each["InstanceId"] for page in pages for each in page["CommandInvocations"]}
        assert len(seen) == commands[0]["TargetCount"]
        assert _megabytes(pid) - before < 20 + total // 500


def _finished(client: Any, command_id: str) -> dict[str, Any]:
    ends = time.monotonic() + 60
    while True:
        (command,) = client.list_commands(CommandId=command_id)["Commands"]
        if command["CompletedCount"] == command["TargetCount"]:
            found: dict[str, Any] = command
            return found
        assert time.monotonic() < ends, "the fleet did not answer"
        time.sleep(0.05)
