# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of 10 accounts and 2 regions: calls near the least that are possible, memory that does not grow with it, and throttling."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.fleet import by_id, by_tag, least, run, simulated, throttled
from tests.lab import Lab

NODES = 10_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fleet() -> Iterator[Lab]:
    with simulated(NODES) as lab:
        yield lab


@pytest.mark.parametrize("by", ["tags", "ids"])
def test_calls_and_memory(fleet: Lab, tmp_path: Path, by: str) -> None:
    found = run(fleet, tmp_path, **(by_id(fleet) if by == "ids" else by_tag()))
    assert found.result["summary"]["succeeded"] == NODES
    with gzip.open(tmp_path / "results.jsonl.gz", "rt") as file:
        assert {json.loads(line)["instance_id"] for line in file} == {node.node_id for node in fleet.nodes()}
    assert found.calls <= 1.2 * least(NODES, ids=by == "ids")
    assert 0 < found.memory_mb <= 200


@pytest.mark.parametrize("rate", [1.0, 0.7])
def test_throttling_at_a_tenth_of_the_rate_is_no_error_and_few_calls_more(fleet: Lab, tmp_path: Path, rate: float) -> None:
    found = throttled(fleet, tmp_path, rate)
    assert not found.result.get("failed") and found.result["summary"]["succeeded"] == NODES and found.result["calls"]["throttled"] > 0
    assert found.calls <= 1.3 * least(NODES, ids=True)
