# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is made of, without AWS: statuses, marks, requests, targets, results and verdicts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand import status
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.mark import COMMENT_LIMIT, RUN_ID_LIMIT, Mark, digest, is_run_id, room, words
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.outputs import locate
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.progress import Counts, Progress, duration, line
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import BRIEF, SEPARATOR, invocation_record, refused_record
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.request import Window, read_request, share
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.sink import Sink
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.status import Lifecycle
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.targets import chunks, halves, ids_in, read_targets
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.verdict import summary, verdict

PLACE = {"account_id": "1", "account_name": None, "region": "eu-central-1"}
NODE = "i-0123456789abcdef0"


# -- status


@pytest.mark.parametrize(
    ("details", "known", "retry"),
    [
        ("Success", Lifecycle.FINISHED, False),
        ("Failed", Lifecycle.FINISHED, False),
        ("ExecutionTimedOut", Lifecycle.FINISHED, False),
        ("Cancelled", Lifecycle.MAY_HAVE_STARTED, False),
        ("DeliveryTimedOut", Lifecycle.NEVER_DELIVERED, True),
        ("Undeliverable", Lifecycle.NEVER_DELIVERED, True),
        ("Terminated", Lifecycle.NEVER_DELIVERED, False),
        ("AccessDenied", Lifecycle.NEVER_DELIVERED, False),
        ("InvalidPlatform", Lifecycle.NEVER_DELIVERED, False),
    ],
)
def test_a_final_status_says_whether_the_command_came_to_the_node(details: str, known: Lifecycle, retry: bool) -> None:
    found = status.snake(details)
    assert status.is_final(found) and status.lifecycle(found) is known and status.may_retry(found) is retry


@pytest.mark.parametrize("details", ["Pending", "InProgress", "Delayed", "Cancelling", "Something New"])
def test_what_is_open_or_not_known_may_have_started_and_is_not_sent_again(details: str) -> None:
    found = status.snake(details)
    assert not status.is_final(found) and not status.may_retry(found) and status.lifecycle(found) is Lifecycle.MAY_HAVE_STARTED


def test_a_final_status_never_goes_back() -> None:
    assert status.later(None, "pending") == "pending" and status.later("pending", "in_progress") == "in_progress"
    assert status.later("success", "in_progress") == "success" == status.later("success", "failed")
    assert not status.may_retry("unknown") and status.may_retry("not_sent")


# -- mark


def test_a_mark_is_found_again_in_a_comment_of_the_longest_kind() -> None:
    run_id = "r" * RUN_ID_LIMIT
    mark = Mark.of(run_id, 99, ["i-2", "i-1"], digest("what it does"))
    comment = mark.comment("x" * room(run_id))
    assert len(comment) == COMMENT_LIMIT and Mark.read(comment) == mark == Mark.of(run_id, 99, ["i-1", "i-2"], digest("what it does"))
    assert words(comment) == "x" * room(run_id) and Mark.read("no mark") is None
    short = Mark.of(run_id, 99, ["i-1", "i-2"])
    assert Mark.read(short.comment("")) == short != mark
    assert short != Mark.of(run_id, 99, ["i-1"]) and short != Mark.of(run_id, 98, ["i-1", "i-2"])


def test_what_a_run_does_is_its_document_and_parameters() -> None:
    options = [
        {}, {"commands": ["id", "id"]}, {"document_version": "2"}, {"working_directory": "/srv"}, {"platform": "windows"}, {"comment": "x", "max_errors": "0"},
    ]  # fmt: skip
    digests = [digest(*read_request({**DEFAULTS, **each}, "run").texts()) for each in options]
    assert len(set(digests[:-1])) == len(digests) - 1 and digests[-1] == digests[0]


def test_names_of_runs() -> None:
    assert is_run_id("awx-17_b") and not any(is_run_id(bad) for bad in ("", "a b", "a.b", "a]", "x" * 33, "ä"))


# -- request

DEFAULTS: dict[str, Any] = {"commands": ["id"], "platform": "linux", "max_concurrency": "50", "max_errors": "100%"}


def test_a_request_as_the_service_takes_it() -> None:
    notification = {"topic_arn": "arn:t", "role_arn": "arn:r", "events": ["timed_out"], "type": "invocation"}
    more = {"s3_bucket": "b", "s3_prefix": "p", "cloudwatch_log_group": "g", "notification": notification}
    options = {"comment": "why", "working_directory": "/srv", "execution_timeout": 60, "delivery_timeout": 120, **more}
    request = read_request({**DEFAULTS, **options}, "run")
    mark = Mark.of("run", 0, [NODE])
    assert request.to_api(mark, {"InstanceIds": [NODE]}, "10%", "100%") == {
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["id"], "workingDirectory": ["/srv"], "executionTimeout": ["60"]},
        "Comment": f"why [fssm:run.0.{mark.what}]",
        "TimeoutSeconds": 120,
        "MaxConcurrency": "10%",
        "MaxErrors": "100%",
        "InstanceIds": [NODE],
        "OutputS3BucketName": "b",
        "OutputS3KeyPrefix": "p",
        "CloudWatchOutputConfig": {"CloudWatchOutputEnabled": True, "CloudWatchLogGroupName": "g"},
        "ServiceRoleArn": "arn:r",
        "NotificationConfig": {"NotificationArn": "arn:t", "NotificationEvents": ["TimedOut"], "NotificationType": "Invocation"},
    }
    assert read_request({**DEFAULTS, "platform": "windows"}, "run").document == "AWS-RunPowerShellScript"
    assert read_request({**DEFAULTS, "commands": None, "document": "X", "parameters": {"a": [1, True]}}, "run").parameters == {"a": ["1", "true"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"commands": None}, "Nothing to run"),
        ({"execution_timeout": 4}, "'execution_timeout' must be 5 to 172800"),
        ({"delivery_timeout": 29}, "'delivery_timeout' must be 30 to 2592000"),
        ({"max_concurrency": "0"}, "'max_concurrency' must be"),
        ({"max_concurrency": "101%"}, "'max_concurrency' must be"),
        ({"max_errors": "-1"}, "'max_errors' must be"),
        ({"comment": "x" * 90}, "'comment' has 90 characters"),
        ({"s3_prefix": "p"}, "'s3_prefix' needs 's3_bucket'"),
        ({"parameters": {"commands": ["x"]}}, "'parameters' has commands"),
        ({"parameters": {"a": {"b": 1}}}, "'parameters.a' must be a string"),
    ],
)
def test_requests_that_cannot_be_meant(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        read_request({**DEFAULTS, **options}, "run")


@pytest.mark.parametrize(
    ("given", "nodes", "each", "at_once"),
    [("50", 50, "50", 9), ("10%", 450, "10%", 9), ("20", 150, "20", 1), ("50", 150, "50", 1), ("170", 450, "50", 3), ("170", 170, "170", 9)],
)
def test_a_number_at_once_holds_for_all_commands_of_a_place(given: str, nodes: int, each: str, at_once: int) -> None:
    found = Window.of(given, "100%", nodes)
    assert found.max_concurrency == each and not found.serial
    assert [found.admits(50, [50] * number) for number in (at_once - 1, 9)] == [True, at_once == 9]


def test_parts_of_a_command_go_together_as_far_as_their_nodes_fit() -> None:
    assert Window.of("30", "100%", 50).admits(12, [12]) and not Window.of("30", "100%", 50).admits(25, [25])


@pytest.mark.parametrize(("max_errors", "serial"), [("0", True), ("99", True), ("100", False), ("5%", False)])
def test_with_a_number_of_errors_one_command_follows_the_other(max_errors: str, serial: bool) -> None:
    found = Window.of("100%", max_errors, 100)
    assert found.serial is serial and found.admits(50, []) and found.admits(50, [50]) is not serial


@pytest.mark.parametrize(("given", "nodes", "each"), [("10%", 1000, "50"), ("1%", 1000, "10"), ("10%", 40, "4"), ("1%", 40, "1"), ("100%", 100, "100%")])
def test_a_percentage_at_once_is_one_of_all_nodes_then(given: str, nodes: int, each: str) -> None:
    assert Window.of(given, "3", nodes).max_concurrency == each


def test_what_a_limit_comes_to() -> None:
    assert (share("3", 100), share("5%", 100), share("0%", 9), share("100%", 7)) == (3, 5, 0, 7)


# -- targets


def test_targets() -> None:
    found = read_targets({"tags": {"Role": ["web", "db"], "Env": "prod"}})
    assert found.to_api() == [{"Key": "tag:Role", "Values": ["web", "db"]}, {"Key": "tag:Env", "Values": ["prod"]}] and found.group is None
    assert read_targets({"resource_group": "g", "resource_types": ["T"]}).group == "g"
    named = read_targets({"nodes": [{"instance_id": NODE, "account_id": 1, "region": "r", "x": 1}, {"instance_id": NODE, "account_id": "1", "region": "r"}]})
    assert [(node.node_id, node.account_id, node.region) for node in named.named] == [(NODE, "1", "r")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "No node is named"),
        ({"instance_ids": ["web-1"]}, "no ids of nodes"),
        ({"nodes": [{"id": NODE}]}, r"nodes\[1\] has no 'instance_id'"),
        ({"tags": {str(n): "x" for n in range(6)}}, "'tags' has 6 names"),
        ({"tags": {"a": [str(n) for n in range(51)]}}, "has 51 values"),
        ({"tags": {"a": {}}}, "'tags.a' needs a value"),
    ],
)
def test_targets_that_cannot_be_meant(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        read_targets(options)


def test_pieces() -> None:
    ids = [f"i-{number:017x}" for number in range(120)]
    assert [len(chunk) for chunk in chunks(ids)] == [50, 50, 20] and halves(ids[:3]) == [(ids[0],), (ids[1], ids[2])] and halves(ids[:1]) == [(ids[0],)]
    assert ids_in(f"Instances [[{ids[3]}, i-00000000]] not in a valid state", ids) == [ids[3]]


# -- results


def entry(*steps: dict[str, Any], details: str = "Success") -> dict[str, Any]:
    return {"InstanceId": NODE, "CommandId": "c", "Status": "Success", "StatusDetails": details, "RequestedDateTime": 1.0, "CommandPlugins": list(steps)}


def test_a_result_of_several_steps_tells_of_the_first_that_failed() -> None:
    good = {"Name": "a", "StatusDetails": "Success", "ResponseCode": 0, "Output": "one\n", "ResponseStartDateTime": 2.0, "ResponseFinishDateTime": 3.0}
    bad = {**good, "Name": "b", "StatusDetails": "Failed", "ResponseCode": 7, "Output": f"two{SEPARATOR}no\n", "StandardOutputUrl": "u"}
    record = invocation_record(entry(good, bad, {**good, "ResponseCode": 0}, details="Failed"), PLACE)
    assert (record["status"], record["rc"], record["stdout"], record["stderr"], record["stdout_uri"]) == ("failed", 7, "one\ntwoone\n", "no\n", "u")
    assert record["started_at"] == "1970-01-01T00:00:02Z" and record["output_truncated"] is False
    steps = [tuple(step[key] for key in ("name", "status", "rc", "stdout_uri", "stdout_empty", "stderr_empty")) for step in record["steps"]]
    assert steps == [("a", "success", 0, None, False, True), ("b", "failed", 7, "u", False, False), ("a", "success", 0, None, False, True)]
    assert invocation_record(entry({**good, "Output": "x" * BRIEF}), PLACE)["output_truncated"]
    for output in ("x\n---Output truncated---", f"x\n---Output truncated---{SEPARATOR}y", f"x{SEPARATOR}y\n---Error truncated----"):
        assert invocation_record(entry({**good, "Output": output}), PLACE)["output_truncated"]
    assert "stdout" not in invocation_record(entry(good), PLACE, output=False)
    assert invocation_record(entry({"Name": "a", "StatusDetails": "Pending", "ResponseCode": -1}), PLACE)["rc"] is None
    assert refused_record(NODE, PLACE, "not_sent", "why").keys() >= {"command_id", "rc", "msg", "status"}


def test_urls_of_outputs() -> None:
    assert locate("https://s3.eu-central-1.amazonaws.com/b/p/c/i-1/awsrunShellScript/0.awsrunShellScript/stdout") == (
        "eu-central-1", "b", "p/c/i-1/awsrunShellScript/0.awsrunShellScript/stdout",
    )  # fmt: skip
    assert locate("") is None


def test_a_sink_keeps_failures_rather_than_successes_and_a_file_has_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl.gz"
    with_file, without = Sink(str(path), keep=2), Sink(keep=2)
    records = [{"instance_id": str(number), "status": word, **PLACE} for number, word in enumerate(["success", "success", "failed", "failed", "failed"])]
    for record in records:
        with_file.add(record)
        without.add(record)
    with_file.close()
    assert [record["instance_id"] for record in without.kept()] == ["2", "3"] == [record["instance_id"] for record in with_file.kept()]
    assert (without.left_out, with_file.left_out) == (3, 1) and without.counts == {"success": 2, "failed": 3}
    with gzip.open(path, "rt") as file:
        assert [json.loads(text) for text in file] == records


def test_a_new_file_of_results_is_its_owners_alone_and_memory_has_the_beginning_of_outputs(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = Sink(str(path))
    sink.add({"instance_id": "1", "status": "failed", **PLACE, "stdout": "x" * 9000, "stderr": "short", "output_truncated": False})
    sink.add({"instance_id": "2", "status": "failed", **PLACE, "stdout": "short", "stderr": "", "output_truncated": False})
    sink.close()
    assert path.stat().st_mode & 0o777 == 0o600 and [len(json.loads(line)["stdout"]) for line in path.read_text().splitlines()] == [9000, 5]
    assert [(len(record["stdout"]), record["stderr"], record["output_truncated"]) for record in sink.kept()] == [(BRIEF, "short", True), (5, "", False)]
    path.chmod(0o640)
    Sink(str(path)).close()
    assert path.stat().st_mode & 0o777 == 0o640


# -- verdict


@pytest.mark.parametrize(
    ("counts", "success", "ratio", "said"),
    [
        ({"success": 3}, "all", 0.0, None),
        ({"success": 3, "failed": 1}, "all", 0.0, "1 of 4 nodes did not succeed: 1 failed."),
        ({"success": 99, "failed": 1}, "ratio", 0.01, None),
        ({"success": 98, "failed": 1, "undeliverable": 1}, "ratio", 0.01, "The error ratio is 0.02, more than 0.01: of 100 nodes 1 failed, 1 undeliverable."),
        ({"success": 1, "failed": 9}, "any", 0.0, None),
        ({"failed": 9}, "any", 0.0, "None of 9 nodes succeeded: 9 failed."),
        ({}, "all", 0.0, "No node matches"),
    ],
)
def test_verdicts(counts: dict[str, int], success: str, ratio: float, said: str | None) -> None:
    found = verdict(summary(counts), success=success, max_error_ratio=ratio, refusals=())
    assert found is None if said is None else found is not None and found.startswith(said)


def test_a_place_that_refused_fails_the_run_unless_any_success_is_enough() -> None:
    good = summary({"success": 3})
    assert verdict(good, success="all", max_error_ratio=0, refusals=["no"]) == "no" == verdict(good, success="ratio", max_error_ratio=1, refusals=["no"])
    assert verdict(good, success="any", max_error_ratio=0, refusals=["no"]) is None


# -- progress


def test_rate_and_estimate_follow_the_last_half_minute() -> None:
    progress = Progress(0.0)
    assert progress.look(Counts(100, 0, 0), 0.0)["left"] is None
    for second in range(1, 11):
        shown = progress.look(Counts(100, second * 2, 1), float(second))
    assert (shown["rate"], shown["left"], shown["seconds"]) == (2.0, 40, 10.0)
    assert line(shown) == "20 of 100 nodes done, 1 failed, 2 a second, about 40 s left"
    for second in range(11, 100):
        shown = progress.look(Counts(100, 20, 1), float(second))
    assert shown["rate"] == 0.0 and shown["left"] is None
    assert progress.look(Counts(100, 100, 1), 100.0)["left"] == 0
    assert [duration(seconds) for seconds in (5, 200, 7500)] == ["5 s", "3 min 20 s", "2 h 5 min"]
