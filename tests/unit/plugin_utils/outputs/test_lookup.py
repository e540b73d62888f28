# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where outputs are, when they are looked for again, and what refusals are called."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import BRIEF, SEPARATOR
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.faults import Fault, Kind, judge
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.lookup import BUSY_PATIENCE, NOT_ENDED, Expectation, Part, streams_of
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.s3_address import S3Address, parse_address
from tests.tools.node_result import node_result

ADDRESS = S3Address("b", "k", "eu-west-1")
ABSENT = Fault(Kind.ABSENT, "not there")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://s3.eu-west-1.amazonaws.com/b/p/c/i-1/awsrunShellScript/step/stdout", ("b", "p/c/i-1/awsrunShellScript/step/stdout", "eu-west-1")),
        ("https://s3-us-gov-west-1.amazonaws.com/b/k", ("b", "k", "us-gov-west-1")),
        ("https://s3.amazonaws.com/b/a%20b", ("b", "a b", None)),
        ("https://s3.cn-north-1.amazonaws.com.cn/b/k", ("b", "k", "cn-north-1")),
        ("https://my.bucket.s3.dualstack.eu-west-1.amazonaws.com/k/x", ("my.bucket", "k/x", "eu-west-1")),
        ("s3://b/a b/ü?x#y", ("b", "a b/ü?x#y", None)),
        ("s3://b", ("b", "", None)),
    ],
)  # fmt: skip
def test_addresses(text, address):
    found = parse_address(text)
    assert found is not None and (found.bucket, found.key, found.region) == address


@pytest.mark.parametrize("text", ["", "https://example.com/b/k", "https://s3.evil.com/b/k", "https://s3.amazonaws.com/b", "/b/k", "ftp://s3.amazonaws.com/b/k"])
def test_other_urls_are_no_addresses(text):
    assert parse_address(text) is None


class Refusal(Exception):
    """What botocore's ClientError has."""

    def __init__(self, code: str, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.response: dict[str, Any] = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}}


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (Refusal("NoSuchKey", 404), Kind.ABSENT, "404: s3://b/k is not there"),
        (Refusal("NoSuchBucket", 404), Kind.NO_BUCKET, "404: the bucket b does not exist"),
        (Refusal("AccessDenied", 403), Kind.DENIED, "403: s3:GetObject on s3://b/k is not allowed"),
        (Refusal("PermanentRedirect", 301, {"x-amz-bucket-region": "us-east-2"}), Kind.ELSEWHERE, "301: the bucket b is in us-east-2, and not in eu-west-1"),
        (Refusal("AuthorizationHeaderMalformed", 400), Kind.ELSEWHERE, "not in eu-west-1: set 's3_region'"),
        (Refusal("SlowDown", 503), Kind.BUSY, "throttled (SlowDown)"),
        (Refusal("InternalError", 500), Kind.BUSY, "for the moment"),
        (Refusal("ExpiredToken", 400), Kind.CREDENTIALS, "expired"),
        (Refusal("InvalidObjectState", 403), Kind.DENIED, "403"),
        (Refusal("Strange", 418), Kind.OTHER, "failed with Strange"),
    ],
)
def test_refusals_are_named(error, kind, words):
    fault = judge(error, ADDRESS, readable=False)
    assert fault.kind is kind and words in fault.text


def test_a_403_in_a_readable_bucket_may_be_an_absence():
    fault = judge(Refusal("AccessDenied", 403), ADDRESS, readable=True)
    assert fault.kind is Kind.ABSENT and "s3:ListBucket" in fault.text


FULL = "x" * BRIEF
FOLDER = "https://s3.eu-west-1.amazonaws.com/b"


def expectations(*outputs: str, status: str = "Success", brief: bool = True) -> list[list[str]]:
    """Of both streams: steps that are looked for, and how sure their objects are."""
    streams = streams_of(node_result("i-1", *outputs, folder=FOLDER, status=status, brief=brief))
    return [[f"{part.address.key.partition('/')[0]} {part.expectation.name}" for part in stream.parts] for stream in streams]


@pytest.mark.parametrize("brief", [True, False])
def test_a_result_tells_empty_streams_from_others(brief):
    assert expectations("x", brief=brief) == [["1 SURE"], []]
    assert expectations(f"{SEPARATOR}x", brief=brief) == [[], ["1 SURE"]]
    assert expectations("x", "", f"y{SEPARATOR}z", brief=brief) == [["1 SURE", "3 SURE"], ["3 SURE"]]
    assert [stream.length for stream in streams_of(node_result("i-1", "", folder=FOLDER, brief=brief))] == [0, 0]


def test_where_stdout_fills_the_listing_nothing_is_known_of_stderr():
    assert expectations(FULL, "y") == [["1 SURE", "2 SURE"], ["1 MAYBE"]]
    assert expectations("x\n---Output truncated---") == [["1 SURE"], []]  # by the agent, which shows some of each
    put_together = {**node_result("i-1", FULL, folder=FOLDER), "output_truncated": False}  # by the module
    assert streams_of(put_together)[1].parts == [] and streams_of(put_together)[1].length == 0


def test_an_empty_text_is_none_before_the_end():
    assert expectations("", status="InProgress") == [["1 OPEN"], ["1 OPEN"]]
    assert expectations("", status="Cancelled") == [[], []]
    assert all(stream.fault and stream.length is None for stream in streams_of(node_result("i-1", "", status="InProgress")))


def part(expectation: Expectation = Expectation.SURE) -> Part:
    return Part(ADDRESS, expectation)


def test_an_object_is_looked_for_more_and_more_slowly_until_its_time_is_over():
    sure, now, looks = part(), 100.0, []
    while (due := sure.refused(ABSENT, now, patience=30)) is not None:
        looks.append(round(due - 100, 1))
        now = due
    assert looks == [0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 30.0]
    assert sure.done and sure.fault is ABSENT


def test_a_stream_that_may_be_empty_is_empty_if_it_does_not_come_but_not_before_the_end():
    maybe, still = part(Expectation.MAYBE), part(Expectation.OPEN)
    assert maybe.refused(ABSENT, 0.0, patience=30) == 0.5
    assert maybe.refused(ABSENT, 30.0, patience=30) is None and maybe.length == 0 and maybe.fault is None
    assert still.refused(ABSENT, 0.0, patience=0) is None and still.fault is not None and NOT_ENDED in still.fault.text


@pytest.mark.parametrize("kind", [Kind.DENIED, Kind.NO_BUCKET, Kind.ELSEWHERE, Kind.CREDENTIALS, Kind.OTHER])
def test_what_waiting_does_not_mend_is_not_waited_for(kind):
    maybe = part(Expectation.MAYBE)
    assert maybe.refused(Fault(kind, ""), 0.0, patience=30) is None and maybe.fault is not None


def test_faults_of_the_moment_are_tried_again_whatever_the_patience_for_late_objects():
    maybe, busy = part(Expectation.MAYBE), Fault(Kind.BUSY, "")
    assert maybe.refused(busy, 0.0, patience=0) == 0.5
    assert maybe.refused(busy, BUSY_PATIENCE, patience=0) is None and maybe.fault is busy
