# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in full from S3, where something is wrong with them. Nodes only say that they have written much; the objects are the tests' own."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.modules.fleet import ECHO, REGION, REGIONS, ids
from tests.integration.modules.local import Local

WHOLE = "the whole output\n" * 200


class Store:
    """A bucket, and runs of the module that read outputs from it."""

    def __init__(self, local: Local, region: str) -> None:
        self.local, self.name = local, f"outputs-{uuid.uuid4().hex[:12]}"
        self.nodes = ids(local.lab, "wordy")
        self.s3 = local.lab.client("s3", region=region)
        self.s3.create_bucket(Bucket=self.name, **({} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}))
        self._executor = ThreadPoolExecutor(1)

    def start(self, **options: Any) -> Future[dict[str, Any]]:
        """A run on all nodes."""
        given = {**ECHO, "region": REGION, "tags": {"Role": "wordy"}, "s3_bucket": self.name, "s3_prefix": "runs", "output": "full", **options}
        return self._executor.submit(self.local, "run_command", **given)

    def command(self, run: Future[dict[str, Any]]) -> str:
        """The id of its command, once it is sent."""
        ssm = self.local.lab.client("ssm", region=REGION)
        while True:
            found = [entry["CommandId"] for entry in ssm.list_commands()["Commands"] if entry["OutputS3BucketName"] == self.name]
            if found:
                return str(found[0])
            self.local.pause_while(run)

    def put(self, command_id: str, *nodes: str) -> None:
        """What the agents of these nodes upload."""
        for node in nodes:
            key = f"runs/{command_id}/{node}/awsrunShellScript/0.awsrunShellScript/stdout"
            self.s3.put_object(Bucket=self.name, Key=key, Body=WHOLE.encode())


@pytest.fixture
def store(on_fleet: Local) -> Iterator[Store]:
    yield Store(on_fleet, REGION)


def whole(result: dict[str, Any]) -> list[bool]:
    """Of each node, whether its output is there in full."""
    return [node["stdout"] == WHOLE and node["stderr"] == "" and not node["output_truncated"] and "output_error" not in node for node in result["nodes"]]


@pytest.mark.parametrize("seconds", [1.5, pytest.param(30.0, marks=pytest.mark.slow)])
def test_objects_that_are_late_are_waited_for(store: Store, seconds: float) -> None:
    run = store.start()
    command = store.command(run)
    timer = threading.Timer(seconds, store.put, (command, *store.nodes))
    timer.start()
    result = run.result()
    timer.join()
    assert whole(result) == [True] * 4 and result["summary"]["succeeded"] == 4


@pytest.mark.slow
def test_objects_that_never_come_are_waited_for_once_and_named(store: Store) -> None:
    run = store.start()
    began = time.monotonic()
    store.put(store.command(run), *store.nodes[2:])
    result = run.result()
    nodes = {node["instance_id"]: node for node in result["nodes"]}
    assert whole({"nodes": [nodes[node] for node in store.nodes[2:]]}) == [True, True]
    for node in store.nodes[:2]:
        assert f"s3://{store.name}/runs/" in nodes[node]["output_error"] and "NoSuchKey" in nodes[node]["output_error"]
        assert nodes[node]["status"] == "success" and len(nodes[node]["stdout"]) == 2500 and nodes[node]["output_truncated"]
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_missing_permission_is_named(store: Store) -> None:
    store.local.lab.deny("s3:GetObject")
    result = store.start().result()
    assert whole(result) == [False] * 4 and result["summary"]["succeeded"] == 4
    assert all("s3:GetObject is not allowed for" in node["output_error"] for node in result["nodes"])


@pytest.mark.slow
def test_a_bucket_that_is_deleted_in_the_middle(store: Store) -> None:
    run = store.start()
    store.command(run)
    store.s3.delete_bucket(Bucket=store.name)
    result = run.result()
    assert result["summary"]["succeeded"] == 4 and all("NoSuchBucket" in node["output_error"] for node in result["nodes"])


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"s3_region": REGIONS[1]}])
def test_a_bucket_in_another_region_is_found_and_faults_of_s3_are_borne(on_fleet: Local, options: dict[str, Any]) -> None:
    store = Store(on_fleet, REGIONS[1])
    on_fleet.lab.fault_calls("s3:GetObject", status=503, count=1)
    run = store.start(**options)
    store.put(store.command(run), *store.nodes)
    assert whole(run.result()) == [True] * 4
