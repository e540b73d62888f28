# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of 10 accounts and 2 regions: calls near the least that are possible, memory that does not grow with it, and throttling."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import COLLECTIONS, peak_memory
from tests.lab import Lab, NodeKind

ACCOUNTS = [str(digit) * 12 for digit in range(1, 10)] + ["101010101010"]
REGIONS = ["eu-central-1", "us-east-1"]
PLACES = [(account, region) for account in ACCOUNTS for region in REGIONS]
NODES_A_PLACE = 500
ACTIONS = ("ssm:SendCommand", "ssm:ListCommandInvocations", "ssm:ListCommands")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fleet() -> Iterator[Lab]:
    with Lab([], accounts=ACCOUNTS, regions=REGIONS) as lab:
        for account, region in PLACES:
            values: dict[str, Any] = {"hybrid": True, "account": account, "region": region, "tags": {"Role": "fleet"}, "options": {"stdout": "x" * 200}}
            lab.add(*({"name": f"{account}-{region}-{number}", "kind": NodeKind.SIMULATED, **values} for number in range(NODES_A_PLACE)))
        yield lab


def run(lab: Lab, folder: Path, **options: Any) -> tuple[dict[str, Any], int, int]:
    """The module's result, its calls as the service counts them, and the most memory that it had, in bytes."""
    roles = [{"role_arn": f"arn:aws:iam::{account}:role/FleetOperator"} for account in ACCOUNTS[1:]]
    given = {"accounts": [{"name": "hub"}, *roles], "regions": REGIONS, "commands": ["true"], "max_concurrency": "100%", **options}
    given["results_path"] = str(folder / "results.jsonl.gz")
    lab.reset_requests()
    environment = {**os.environ, **lab.env(), "PYTHONPATH": str(COLLECTIONS)}
    command = [sys.executable, "-m", "ansible_collections.fleet.ssm.plugins.modules.run_command"]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(OSError, StopIteration):
                peak[0] = max(peak[0], peak_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        stdout, _stderr = process.communicate(json.dumps({"ANSIBLE_MODULE_ARGS": given}), timeout=300)
    finally:
        ended.set()
        watcher.join()
    counts = lab.requests().counts
    return json.loads(stdout), sum(counts.get(action, 0) for action in ACTIONS), peak[0]


@pytest.mark.parametrize("by", ["tags", "ids"])
def test_calls_and_memory(fleet: Lab, tmp_path: Path, by: str) -> None:
    nodes = [{"instance_id": node.node_id, "account_id": node.account, "region": node.region} for node in fleet.nodes()]
    result, calls, memory = run(fleet, tmp_path, **({"nodes": nodes} if by == "ids" else {"tags": {"Role": "fleet"}}))
    assert result["summary"]["succeeded"] == len(nodes) == NODES_A_PLACE * len(PLACES)
    with gzip.open(tmp_path / "results.jsonl.gz", "rt") as file:
        assert {json.loads(line)["instance_id"] for line in file} == {node["instance_id"] for node in nodes}
    pages = NODES_A_PLACE // 50
    assert calls <= 1.2 * len(PLACES) * ((pages if by == "ids" else 1) + pages)
    assert 0 < memory <= 200_000_000


def test_throttling_at_a_tenth_of_the_rate_is_no_error_and_few_calls_more(fleet: Lab, tmp_path: Path) -> None:
    nodes = [{"instance_id": node.node_id, "account_id": node.account, "region": node.region} for node in fleet.nodes()]
    with contextlib.ExitStack() as faults:
        for action in ACTIONS:
            faults.enter_context(fleet.throttle(action, rate=1))
        result, calls, _memory = run(fleet, tmp_path, nodes=nodes)
    assert not result.get("failed") and result["summary"]["succeeded"] == len(nodes) and result["calls"]["throttled"] > 0
    assert calls <= 1.3 * len(PLACES) * (2 * NODES_A_PLACE // 50 + 1)  # with one look at the counters of each place
