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

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import SEPARATOR
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import INDEX, PENDING, LineFile, read_lines
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.gatherer import Gatherer
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.s3_address import S3Address
from tests.lab import Lab
from tests.tools.node_result import node_result

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

    def put(self, node: str, stream: str, content: bytes, step: int = 1) -> None:
        self._s3.put_object(Bucket=self.bucket, Key=f"out/c/{node}/{step}/{stream}", Body=content)

    def delete_bucket(self) -> None:
        for found in self._s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self._s3.delete_object(Bucket=self.bucket, Key=found["Key"])
        self._s3.delete_bucket(Bucket=self.bucket)

    def node(self, name: str, *outputs: str, region: str = REGION, **values: Any) -> dict[str, Any]:
        """A node's result as the module returns it, by what the listing has of each step."""
        return node_result(name, *outputs, folder=f"https://s3.{region}.amazonaws.com/{self.bucket}/out/c/{name}", **values)

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
    run.expect(run.node("i-1", "…"))
    counts = run.gather()
    assert (counts["objects"], counts["bytes"], counts["calls"], counts["incomplete"]) == (1, 1024, 1, 0)
    assert run.output("i-1") == exact and run.output("i-1", "stderr") == b""
    line = run.lines()["i-1"]
    assert line["stdout"] == {"whole": True, "bytes": 1024, "uris": [f"s3://{run.bucket}/out/c/i-1/1/stdout"], "file": f"{FOLDER}/i-1/stdout"}
    assert line["status"] == "ok" and line["rc"] == 0 and line["route"] == "run_command" and line["node"]["via"] == "localhost"


def test_a_late_object_is_waited_for(run: Run) -> None:
    run.put("i-2", "stdout", b"in time")
    run.expect(run.node("i-1", "late"), run.node("i-2", "in time", brief=False))
    timer = threading.Timer(1.2, run.put, ("i-1", "stdout", b"late, but whole"))
    timer.start()
    counts = run.gather(late_seconds=20)
    timer.join()
    assert run.output("i-1") == b"late, but whole" and counts["late"] == 1 and counts["incomplete"] == 0
    assert run.output("i-2") == b"in time" and run.output("i-2", "stderr") == b""


def test_the_outputs_of_several_steps_are_one_after_another_and_steps_without_output_are_normal(run: Run) -> None:
    for step, text in ((1, b"first\n" * 1000), (3, b"third\n" * 1000)):
        run.put("i-1", "stdout", text, step)
    run.put("i-1", "stderr", b"no\n", 3)
    cut = "\n---Output truncated---"  # by the agent, which shows some of each stream
    run.expect(run.node("i-1", f"first{cut}", "", f"third{cut}{SEPARATOR}no\n"), run.node("i-2", "", ""))
    counts = run.gather(late_seconds=20)
    assert run.output("i-1") == b"first\n" * 1000 + b"third\n" * 1000 and run.output("i-1", "stderr") == b"no\n"
    assert (counts["calls"], counts["incomplete"], counts["late"]) == (3, 0, 0)
    assert run.lines()["i-1"]["stdout"]["uris"] == [f"s3://{run.bucket}/out/c/i-1/{step}/stdout" for step in (1, 3)]
    assert run.output("i-2") == b"" == run.output("i-2", "stderr") and {path.name for path in run.folder.rglob("std*")} == {"stdout", "stderr"}


def test_of_several_steps_none_may_be_missing(run: Run) -> None:
    run.put("i-1", "stdout", b"second\n", 2)
    run.expect(run.node("i-1", "first\n", "second\n"))
    assert run.gather()["incomplete"] == 1
    assert "/out/c/i-1/1/stdout is not there" in run.lines()["i-1"]["stdout"]["problem"]["text"]
    assert run.output("i-1", "stdout.cut") == b"first\nsecond\n" and {path.name for path in run.folder.rglob("std*")} == {"stdout.cut", "stderr"}
    run.put("i-1", "stdout", b"first\n", 1)
    assert run.gather()["incomplete"] == 0 and run.output("i-1") == b"first\nsecond\n"


def test_what_a_command_wrote_that_had_not_ended_is_gathered_later(run: Run) -> None:
    run.expect(run.node("i-1", "", status="InProgress"), node_result("i-2", "", status="InProgress"))
    assert run.gather()["incomplete"] == 2
    for node in ("i-1", "i-2"):
        line = run.lines()[node]
        assert line["status"] == "unfinished" and not line["stdout"]["whole"] and "had not ended" in line["stdout"]["problem"]["text"]
    run.put("i-1", "stdout", b"after all\n")
    run.gather()
    assert run.output("i-1") == b"after all\n" and run.lines()["i-1"]["stdout"]["whole"]


def test_stderr_of_which_nothing_is_known_is_waited_for(run: Run) -> None:
    full = "x" * 2500  # all that the listing holds
    run.put("i-1", "stdout", full.encode() * 2)
    run.expect(run.node("i-1", full))
    timer = threading.Timer(3.0, run.put, ("i-1", "stderr", b"late"))
    timer.start()
    counts = run.gather(late_seconds=20)
    timer.join()
    assert run.output("i-1", "stderr") == b"late" and counts["incomplete"] == 0


def test_what_never_comes_is_named_and_what_the_listing_held_is_kept(run: Run) -> None:
    run.expect(run.node("i-1", "the beginning"))
    assert run.gather(late_seconds=0.6)["incomplete"] == 1
    stdout = run.lines()["i-1"]["stdout"]
    assert stdout["problem"]["kind"] == "absent" and stdout["problem"]["text"].startswith(f"404: s3://{run.bucket}/out/c/i-1/1/stdout is not there")
    assert not stdout["whole"] and stdout["file"] == f"{FOLDER}/i-1/stdout.cut" and run.output("i-1", "stdout.cut") == b"the beginning"
    assert not (run.folder / FOLDER / "i-1" / "stdout").exists()


def test_a_missing_permission_is_named_and_given_later_gathers_the_rest_alone(run: Run, aws: Lab) -> None:
    for node in ("i-1", "i-2"):
        run.put(node, "stdout", node.encode())
    run.expect(run.node("i-1", "i-1"))
    run.gather()
    run.expect(run.node("i-2", "i-2"))
    aws.deny("s3:GetObject")
    assert run.gather()["incomplete"] == 1
    problem = run.lines()["i-2"]["stdout"]["problem"]
    assert problem["kind"] == "denied" and problem["text"].startswith(f"403: s3:GetObject on s3://{run.bucket}/out/c/i-2/1/stdout is not allowed")
    assert "kms:Decrypt" in problem["text"]
    aws.clear_permissions()
    counts = run.gather()
    assert (counts["objects"], counts["calls"]) == (1, 1), "what is there is not read again"
    assert run.output("i-2") == b"i-2" and "problem" not in run.lines()["i-2"]["stdout"]


def test_a_bucket_in_another_region_is_found(run: Run) -> None:
    run.put("i-1", "stdout", b"far away")
    run.expect(run.node("i-1", "far away", region=ELSEWHERE))
    assert run.gather()["incomplete"] == 0 and run.output("i-1") == b"far away"


def test_a_bucket_that_is_deleted_in_the_middle_ends_the_waiting(run: Run) -> None:
    run.put("i-1", "stdout", b"before")
    run.expect(run.node("i-1", "before"), *(run.node(f"i-{number}", "after") for number in range(2, 20)))
    timer = threading.Timer(1.0, run.delete_bucket)
    timer.start()
    counts = run.gather(late_seconds=120)
    timer.join()
    assert run.output("i-1") == b"before" and counts["incomplete"] == 18
    problems = {line["stdout"]["problem"]["text"] for line in run.lines().values() if line["host"] != "i-1"}
    assert problems == {f"404: the bucket {run.bucket} does not exist: it was deleted, or the name in 's3_bucket' is wrong."}


def test_results_of_a_large_fleet_are_read_from_their_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    nodes = [node_result(f"i-{number}", f"{number}\n") for number in range(300)]
    path.write_text("".join(json.dumps(node) + "\n" for node in nodes))
    run.expect(path=str(path))
    run.expect(path=str(tmp_path / "gone.jsonl"))
    counts = run.gather()
    assert counts["nodes"] == 300 and counts["calls"] == 0 and run.output("i-299") == b"299\n"
    assert "gone.jsonl on localhost cannot be read here" in run.lines()["localhost"]["problem"]["text"]


def test_a_cut_output_without_a_bucket_is_no_whole_one(run: Run) -> None:
    run.expect(node_result("i-1", "x" * 2500))
    assert run.gather()["incomplete"] == 1
    assert "s3_bucket" in run.lines()["i-1"]["stdout"]["problem"]["text"] and run.output("i-1", "stdout.cut") == b"x" * 2500


@pytest.mark.parametrize("other", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_files_are_uploaded_below_a_key(run: Run, aws: Lab, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.delenv(other)  # either one tells the region
    run.put("i-1", "stdout", b"one")
    run.expect(run.node("i-1", "one"))
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
