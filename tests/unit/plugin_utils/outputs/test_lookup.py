# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where outputs are, when they are looked for again, and what refusals are called."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.faults import Fault, Kind, judge
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.lookup import BUSY_PATIENCE, SIBLING_PATIENCE, Expectation, streams_of
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.s3_address import S3Address, parse_address

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


def node(**values: Any) -> dict[str, Any]:
    return {**{f"{name}_uri": f"s3://b/{name}" for name in ("stdout", "stderr")}, **values}


def test_a_listing_that_is_whole_tells_empty_streams_from_others():
    stdout, stderr = streams_of(node(stdout="x", stderr="", output_truncated=False))
    assert stdout.address and stdout.expectation is Expectation.SURE
    assert stderr.address is None and stderr.text == b""


def test_a_listing_that_is_cut_or_left_out_tells_less():
    assert [stream.expectation for stream in streams_of(node(stdout="x", stderr="", output_truncated=True))] == [Expectation.SURE, Expectation.MAYBE]
    assert all(stream.address and stream.expectation is Expectation.MAYBE for stream in streams_of(node()))


def test_an_object_is_looked_for_more_and_more_slowly_until_its_time_is_over():
    stream = streams_of(node(stdout="x", output_truncated=True))[0]
    now, looks = 100.0, []
    while (due := stream.refused(ABSENT, now, patience=30, sibling=False)) is not None:
        looks.append(round(due - 100, 1))
        now = due
    assert looks == [0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 30.0]
    assert stream.done and stream.fault is ABSENT


def test_a_stream_that_may_be_empty_is_empty_if_it_does_not_come_and_soon_if_the_other_has():
    stdout, stderr = streams_of(node())
    assert stdout.refused(ABSENT, 0.0, patience=0, sibling=False) is None and stdout.length == 0 and stdout.fault is None
    assert stderr.refused(ABSENT, 0.0, patience=30, sibling=True) == 0.5
    assert stderr.refused(ABSENT, SIBLING_PATIENCE, patience=30, sibling=True) is None and stderr.length == 0


@pytest.mark.parametrize("kind", [Kind.DENIED, Kind.NO_BUCKET, Kind.ELSEWHERE, Kind.CREDENTIALS, Kind.OTHER])
def test_what_waiting_does_not_mend_is_not_waited_for(kind):
    stream = streams_of(node())[0]
    assert stream.refused(Fault(kind, ""), 0.0, patience=30, sibling=False) is None and stream.fault is not None


def test_faults_of_the_moment_are_tried_again_whatever_the_patience_for_late_objects():
    stream = streams_of(node())[0]
    busy = Fault(Kind.BUSY, "")
    assert stream.refused(busy, 0.0, patience=0, sibling=False) == 0.5
    assert stream.refused(busy, BUSY_PATIENCE, patience=0, sibling=False) is None and stream.fault is busy
