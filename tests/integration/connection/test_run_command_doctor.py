# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor of the route run_command: its layers, and each of them when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.integration.conftest import BUCKET
from tests.integration.controller import Controller
from tests.lab import Lab

Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def doctor(lab: Lab, bucket: str, controller: Controller) -> Doctor:
    """Its exit status and lines, about a node by this route."""

    def examine(*arguments: str, host: str = "web-1") -> tuple[int, list[str]]:
        done = controller.mux("doctor", host, "--route", "run_command", *arguments)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    return examine


def failure(found: tuple[int, list[str]]) -> str:
    """What it ended with, which must be a failure."""
    status, lines = found
    assert status == 1 and lines[-1].startswith("FAILED:"), lines
    return lines[-1]


def test_a_healthy_node_by_a_bucket_and_events(lab: Lab, doctor: Doctor, topic: str) -> None:
    status, lines = doctor("--bucket", BUCKET, "--events-topic", topic)
    layers = [line.partition(":")[0] for line in lines]
    assert (status, layers) == (
        0, ["libraries", "credentials", "target", "registration", "document", "bucket", "events", "command", "transfer"],
    )  # fmt: skip
    assert lab.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", []) == []
    assert not lab.client("sqs").list_queues(QueueNamePrefix="fleet-ssm-mux-").get("QueueUrls")


@pytest.mark.slow
def test_without_a_bucket_it_says_what_is_refused(doctor: Doctor) -> None:
    status, lines = doctor()
    assert status == 0
    assert any(line.startswith("bucket:") and "24,000 characters" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["ssm:SendCommand", "ssm:ListCommandInvocations", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"])
def test_a_missing_action_is_named(faults: Lab, doctor: Doctor, action: str) -> None:
    faults.deny(action)
    assert action in failure(doctor("--bucket", BUCKET))


@pytest.mark.slow
def test_a_bucket_a_document_and_a_topic_that_are_not_there(doctor: Doctor) -> None:
    assert "the bucket fleet-ssm-nowhere (option bucket) does not exist" in failure(doctor("--bucket", "fleet-ssm-nowhere"))
    assert "document: the Command document Nope (option command_document) does not exist" in failure(doctor("--command-document", "Nope"))
    assert "events: " in failure(doctor("--events-topic", "arn:aws:sns:eu-central-1:111111111111:nope"))


@pytest.mark.slow
def test_a_document_that_cannot_serve(lab: Lab, doctor: Doctor) -> None:
    content = {"schemaVersion": "2.2", "description": "of a test", "parameters": {"commands": {"type": "StringList"}}, "mainSteps": [
        {"action": "aws:runShellScript", "name": "run", "inputs": {"runCommand": "{{ commands }}"}}]}  # fmt: skip
    lab.client("ssm").create_document(Name="Test-NoTime", DocumentType="Command", Content=json.dumps(content))
    assert "Test-NoTime (option command_document) lacks the parameters executionTimeout" in failure(doctor("--command-document", "Test-NoTime"))


@pytest.mark.slow
def test_the_way_between_node_and_bucket(faults: Lab, doctor: Doctor) -> None:
    faults.endpoint_policy({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::of-the-agent/*"}]})
    assert "transfer: " in (said := failure(doctor("--bucket", BUCKET))) and "VPC's endpoint for S3" in said
