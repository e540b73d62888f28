# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in full from S3: what is known of stderr where stdout alone fills the listing."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.outputs import Outputs
from ansible_collections.fleet.ssm.plugins.module_utils.runcommand.record import BRIEF, SEPARATOR, Record, invocation_record
from tests.unit.module_utils.api import Api, refusal
from tests.unit.module_utils.runcommand.service import caller

WHOLE = "the whole output\n" * 200
PLACE = {"account_id": "1", "account_name": None, "region": "eu-central-1"}
URL = "https://s3.eu-central-1.amazonaws.com/b/c/i-1/awsrunShellScript/0.awsrunShellScript/"


class Store:
    """S3 and GetCommandInvocation.

    :param missing: with which code S3 answers for an object that is not there: 403 AccessDenied to those who may not list the bucket.
    :param late: how often stderr is not there yet.
    :param told: what GetCommandInvocation has of stderr; None: it is denied.
    """

    def __init__(self, *, stdout: str = WHOLE, stderr: str = "", missing: str = "NoSuchKey", late: int = 0, told: str | None = "") -> None:
        self.calls: list[str] = []
        self._objects = {"stdout": stdout, "stderr": stderr}
        self._missing, self._late, self._told = missing, late, told

    def get_object(self, *, Bucket: str, Key: str) -> str:
        stream = Key.rpartition("/")[2]
        self.calls.append(stream)
        if not self._objects[stream] or (stream == "stderr" and self.calls.count(stream) <= self._late):
            raise refusal("GetObject", self._missing, status=403 if self._missing == "AccessDenied" else 404)
        return self._objects[stream]

    def get_command_invocation(self, **_parameters: Any) -> dict[str, Any]:
        self.calls.append("GetCommandInvocation")
        if self._told is None:
            raise refusal("GetCommandInvocation", "AccessDeniedException")
        return {"StandardOutputContent": WHOLE, "StandardErrorContent": self._told}


def complete(api: Api, store: Store, output: str = WHOLE[:BRIEF], times: int = 1, name: str = "aws:runShellScript") -> Record:
    """The record of a node whose output is cut in the listing, after its completion."""
    step = {"Name": name, "StatusDetails": "Success", "Output": output, "StandardOutputUrl": f"{URL}stdout", "StandardErrorUrl": f"{URL}stderr"}
    entry = {"InstanceId": "i-1", "CommandId": "c" * 36, "Status": "Success", "StatusDetails": "Success", "RequestedDateTime": 1.0, "CommandPlugins": [step]}
    outputs = Outputs(caller(api, store), full=True)
    for _time in range(times):
        record = invocation_record(entry, PLACE)
        outputs.complete(record, entry)
    return record


def streams(record: Record) -> tuple[str, str, bool, bool]:
    return record["stdout"], record["stderr"], record["output_truncated"], "output_error" in record


@pytest.mark.parametrize("missing", ["NoSuchKey", "AccessDenied"])
def test_an_empty_stderr_has_no_object_which_s3_says_to_nobody_who_may_not_list(api: Api, missing: str) -> None:
    store = Store(missing=missing)
    assert streams(complete(api, store)) == (WHOLE, "", False, False)
    assert store.calls == ["stdout", "stderr", "GetCommandInvocation"]


def test_where_the_agent_has_cut_it_would_have_shown_some_of_stderr(api: Api) -> None:
    store = Store()
    assert streams(complete(api, store, f"{WHOLE[:2300]}\n---Output truncated---")) == (WHOLE, "", False, False) and store.calls == ["stdout"]


def test_a_late_stderr_is_waited_for_if_there_is_one(api: Api) -> None:
    assert streams(complete(api, Store(stderr="no\n", late=3, told="no\n"))) == (WHOLE, "no\n", False, False)
    store = Store(stderr="no\n")
    assert streams(complete(api, store)) == (WHOLE, "no\n", False, False) and store.calls == ["stdout", "stderr"]


def test_without_permission_to_ask_whether_there_is_one_it_is_looked_for_once(api: Api) -> None:
    store = Store(told=None)
    assert streams(complete(api, store, times=3)) == (WHOLE, "", False, False) and store.calls.count("GetCommandInvocation") == 1


@pytest.mark.parametrize("output", [f"x{SEPARATOR}{'e' * BRIEF}"[:BRIEF], f"{'x' * (BRIEF - len(SEPARATOR))}{SEPARATOR}"])
def test_a_stream_that_cannot_be_had_leaves_the_other_one_whole(api: Api, output: str) -> None:
    store = Store(missing="AccessDenied")
    record = complete(api, store, output)
    assert streams(record) == (WHOLE, output.partition(SEPARATOR)[2], True, True)
    assert "s3:GetObject is not allowed for" in record["output_error"] and "s3:ListBucket" in record["output_error"]


def test_a_step_whose_name_the_service_does_not_take_is_not_asked_for(api: Api) -> None:
    store = Store()
    assert streams(complete(api, store, name="one")) == (WHOLE, "", False, False) and store.calls == ["stdout", "stderr"]
