# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathering from the lab's S3: what is late, missing, refused or gone, and going on later."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import INDEX, PENDING, LineFile, read_lines
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.gatherer import Gatherer
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.s3_address import S3Address
from tests.lab import Lab

REGION, ELSEWHERE = "eu-central-1", "us-east-1"
HEAD = {"play": "p", "play_number": 1, "task": "t", "task_number": 1, "action": "fleet.ssm.run_command", "host": "localhost"}
FOLDER = "01-p/001-t"


@pytest.fixture(scope="module")
def aws() -> Iterator[Lab]:
    with Lab([]) as lab:
        yield lab


@pytest.fixture
def bucket(aws: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, and an environment that leads to it."""
    for name, value in aws.env().items():
        monkeypatch.setenv(name, value)
    name = f"outputs-{uuid.uuid4().hex[:12]}"
    aws.client("s3", region=REGION).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    yield name
    aws.clear_permissions()
    aws.clear_faults()


class Run:
    """A run's folder, and what is pending in it."""

    def __init__(self, folder: Path, lab: Lab, bucket: str) -> None:
        self.folder, self.bucket, self._s3 = folder, bucket, lab.client("s3", region=REGION)

    def put(self, node: str, stream: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=f"out/c/{node}/{stream}", Body=content)

    def delete(self, node: str, stream: str) -> None:
        self._s3.delete_object(Bucket=self.bucket, Key=f"out/c/{node}/{stream}")

    def delete_bucket(self) -> None:
        for found in self._s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self._s3.delete_object(Bucket=self.bucket, Key=found["Key"])
        self._s3.delete_bucket(Bucket=self.bucket)

    def node(self, name: str, region: str = REGION, **values: Any) -> dict[str, Any]:
        """A node's result as the module returns it; with no word about the output unless it is given."""
        uris = {f"{stream}_uri": f"https://s3.{region}.amazonaws.com/{self.bucket}/out/c/{name}/{stream}" for stream in ("stdout", "stderr")}
        return {"instance_id": name, "command_id": "c", "status": "success", "rc": 0, "region": REGION, **uris, **values}

    def expect(self, *nodes: Mapping[str, Any], **more: Any) -> None:
        pending = LineFile(self.folder / PENDING)
        pending.write({"folder": FOLDER, "head": HEAD, "nodes": nodes, **more})
        pending.close()

    def gather(self, **options: Any) -> dict[str, Any]:
        gatherer = Gatherer(self.folder, {"connections": 4, "late_seconds": 0, **options})
        try:
            return gatherer.settle()
        finally:
            gatherer.close()

    def lines(self) -> dict[str, dict[str, Any]]:
        """The index, by node; each has one line."""
        lines = [line for line, _end in read_lines(self.folder / INDEX)]
        found = {line["host"]: line for line in lines}
        assert len(found) == len(lines)
        return found

    def output(self, node: str, stream: str = "stdout") -> bytes:
        return (self.folder / FOLDER / node / stream).read_bytes()


@pytest.fixture
def run(tmp_path: Path, aws: Lab, bucket: str) -> Run:
    return Run(tmp_path, aws, bucket)


def test_bytes_come_as_they_are_and_empty_streams_cost_no_call(run: Run) -> None:
    exact = bytes(range(256)) * 4
    run.put("i-1", "stdout", exact)
    run.expect(run.node("i-1", stdout="…", stderr="", output_truncated=False))
    counts = run.gather()
    assert (counts["objects"], counts["bytes"], counts["calls"], counts["incomplete"]) == (1, 1024, 1, 0)
    assert run.output("i-1") == exact and run.output("i-1", "stderr") == b""
    line = run.lines()["i-1"]
    assert line["stdout"] == {"whole": True, "bytes": 1024, "uri": f"s3://{run.bucket}/out/c/i-1/stdout", "file": f"{FOLDER}/i-1/stdout"}
    assert line["status"] == "ok" and line["rc"] == 0 and line["route"] == "run_command" and line["node"]["via"] == "localhost"


def test_a_late_object_is_waited_for(run: Run) -> None:
    run.put("i-2", "stdout", b"in time")
    run.expect(run.node("i-1", stdout="late", output_truncated=True), run.node("i-2"))
    timer = threading.Timer(1.2, run.put, ("i-1", "stdout", b"late, but whole"))
    timer.start()
    counts = run.gather(late_seconds=20)
    timer.join()
    assert run.output("i-1") == b"late, but whole" and counts["late"] == 1 and counts["incomplete"] == 0
    assert run.output("i-2") == b"in time" and run.output("i-2", "stderr") == b""


def test_what_never_comes_is_named_and_what_the_listing_held_is_kept(run: Run) -> None:
    run.expect(run.node("i-1", stdout="the beginning", output_truncated=True))
    assert run.gather(late_seconds=0.6)["incomplete"] == 1
    stdout = run.lines()["i-1"]["stdout"]
    assert stdout["problem"]["kind"] == "absent" and stdout["problem"]["text"].startswith(f"404: s3://{run.bucket}/out/c/i-1/stdout is not there")
    assert not stdout["whole"] and stdout["file"] == f"{FOLDER}/i-1/stdout.cut" and run.output("i-1", "stdout.cut") == b"the beginning"
    assert not (run.folder / FOLDER / "i-1" / "stdout").exists()


def test_a_missing_permission_is_named_and_given_later_gathers_the_rest_alone(run: Run, aws: Lab) -> None:
    for node in ("i-1", "i-2"):
        run.put(node, "stdout", node.encode())
    run.expect(run.node("i-1", stdout="i-1", stderr=""))
    run.gather()
    run.expect(run.node("i-2", stdout="i-2", stderr=""))
    aws.deny("s3:GetObject")
    assert run.gather()["incomplete"] == 1
    problem = run.lines()["i-2"]["stdout"]["problem"]
    assert problem["kind"] == "denied" and problem["text"].startswith(f"403: s3:GetObject on s3://{run.bucket}/out/c/i-2/stdout is not allowed")
    assert "kms:Decrypt" in problem["text"]
    aws.clear_permissions()
    counts = run.gather()
    assert (counts["objects"], counts["calls"]) == (1, 1), "what is there is not read again"
    assert run.output("i-2") == b"i-2" and "problem" not in run.lines()["i-2"]["stdout"]


def test_a_bucket_in_another_region_is_found(run: Run) -> None:
    run.put("i-1", "stdout", b"far away")
    run.expect(run.node("i-1", ELSEWHERE, stdout="far away", stderr=""))
    assert run.gather()["incomplete"] == 0 and run.output("i-1") == b"far away"


def test_a_bucket_that_is_deleted_in_the_middle_ends_the_waiting(run: Run) -> None:
    run.put("i-1", "stdout", b"before")
    run.expect(run.node("i-1", stdout="before", stderr=""), *(run.node(f"i-{number}", stdout="after", stderr="") for number in range(2, 20)))
    timer = threading.Timer(1.0, run.delete_bucket)
    timer.start()
    counts = run.gather(late_seconds=120)
    timer.join()
    assert run.output("i-1") == b"before" and counts["incomplete"] == 18
    problems = {line["stdout"]["problem"]["text"] for line in run.lines().values() if line["host"] != "i-1"}
    assert problems == {f"404: the bucket {run.bucket} does not exist: it was deleted, or the name in 's3_bucket' is wrong."}


def test_results_of_a_large_fleet_are_read_from_their_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    nodes = [run.node(f"i-{number}", stdout=f"{number}\n", stderr="", stdout_uri=None, stderr_uri=None) for number in range(300)]
    path.write_text("".join(json.dumps(node) + "\n" for node in nodes))
    run.expect(path=str(path))
    run.expect(path=str(tmp_path / "gone.jsonl"))
    counts = run.gather()
    assert counts["nodes"] == 300 and counts["calls"] == 0 and run.output("i-299") == b"299\n"
    assert "gone.jsonl on localhost cannot be read here" in run.lines()["localhost"]["problem"]["text"]


def test_a_cut_output_without_a_bucket_is_no_whole_one(run: Run) -> None:
    run.expect(run.node("i-1", stdout="x" * 2500, stderr="", output_truncated=True, stdout_uri=None, stderr_uri=None))
    assert run.gather()["incomplete"] == 1
    assert "s3_bucket" in run.lines()["i-1"]["stdout"]["problem"]["text"] and run.output("i-1", "stdout.cut") == b"x" * 2500


def test_files_are_uploaded_below_a_key(run: Run, aws: Lab) -> None:
    run.put("i-1", "stdout", b"one")
    run.expect(run.node("i-1", stdout="one", stderr=""))
    gatherer = Gatherer(run.folder, {"connections": 4, "late_seconds": 0})
    try:
        gatherer.settle()
        done = gatherer.upload(S3Address(run.bucket, "reports/7/"), everything=True)
        refused = gatherer.upload(S3Address("no-such-bucket", "x"), everything=False)
    finally:
        gatherer.close()
    keys = {found["Key"] for found in aws.client("s3", region=REGION).list_objects_v2(Bucket=run.bucket, Prefix="reports/7/")["Contents"]}
    assert keys == {f"reports/7/{FOLDER}/i-1/stdout", f"reports/7/{FOLDER}/i-1/stderr", "reports/7/index.jsonl"} and done["files"] == 3
    assert refused["files"] == 0 and "the bucket no-such-bucket does not exist" in refused["problem"]
