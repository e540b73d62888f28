# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policies of whoever runs the role: they allow the calls that the role really makes, in the store's account and in the others, and no more."""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.output_store.deployment import BUCKET, HOME, HUB, NAME, OTHER, Deployment
from tests.integration.test_policies import actions, denied, policy, without
from tests.lab import Lab
from tests.lab.dispatch import iam_action

EVERYTHING: dict[str, Any] = {
    "output_store_relay": True, "output_store_relay_bucket": f"{BUCKET}-relayed", "output_store_encryption": "kms", "output_store_tags": {"Team": "fleet"},
}  # fmt: skip
STEPS = ("output-store-hub", "output-store-member")


@pytest.fixture(scope="module")
def accounts() -> Iterator[Lab]:
    """Two accounts without nodes."""
    with Lab([]) as lab:
        yield lab


@pytest.fixture
def empty(accounts: Lab, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(accounts, tmp_path)
    yield deployment
    accounts.clear_permissions()
    deployment.apply(**EVERYTHING, output_store_state="absent", output_store_purge=True)
    kms = accounts.client("kms", region=HOME)
    if f"alias/{NAME}" in [alias["AliasName"] for alias in kms.list_aliases()["Aliases"]]:  # the role leaves its key, so the next one would make none
        kms.delete_alias(AliasName=f"alias/{NAME}")


def put_in_force(lab: Lab, *, less: str = "") -> None:
    """The hub's operator has both policies in the account of the store, and the second one in the other."""
    lab.clear_permissions()
    for account, names in ((HUB, STEPS), (OTHER, STEPS[1:])):
        for name in names:
            lab.policy(without(policy(name, account), less), principal=f"arn:aws:sts::{account}:assumed-role/FleetOperator/*")


def spoil(lab: Lab) -> None:
    """Change by hand what the role changes back by calls that it does not need otherwise."""
    s3 = lab.client("s3", region=HOME)
    s3.put_object(Bucket=BUCKET, Key=f"{HUB}/note", Body=b"x")  # for whoever purges
    function, code = lab.client("lambda", region=HOME), io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("other.py", "")
    function.update_function_code(FunctionName=NAME, ZipFile=code.getvalue())
    function.remove_permission(FunctionName=NAME, StatementId="events")
    function.add_permission(FunctionName=NAME, StatementId="events", Action="lambda:InvokeFunction", Principal="events.amazonaws.com", SourceArn="arn:aws:x")
    statement = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for account, role in ((HUB, "function"), (HUB, "events"), (OTHER, "events")):
        lab.client("iam", account=account).update_assume_role_policy(RoleName=f"{NAME}-{role}", PolicyDocument=trust)


def life(deployment: Deployment, *, less: str = "") -> None:
    """All that the role does, by someone who has the policies."""
    put_in_force(deployment.lab, less=less)
    deployment.apply(**EVERYTHING)
    deployment.lab.clear_permissions()
    spoil(deployment.lab)
    put_in_force(deployment.lab, less=less)
    readers = [f"arn:aws:iam::{OTHER}:role/FleetOperator"]
    deployment.apply(**{**EVERYTHING, "output_store_tags": {"Team": "other"}}, output_store_readers=readers, output_store_memory=512)
    deployment.apply(**EVERYTHING, output_store_state="absent", output_store_purge=True)


@pytest.mark.slow
def test_the_policies_allow_the_calls_that_are_made_and_no_more(empty: Deployment) -> None:
    empty.lab.reset_requests()
    life(empty)
    assert not denied(empty.lab)
    called = defaultdict(set)
    for entry in empty.lab.requests(entries=True).entries:
        if ":assumed-role/FleetOperator/" in entry["principal"] and not entry["action"].startswith("sts:"):
            called[entry["account"]].add(iam_action(entry["action"]).lower())
    hub, member = ({action.lower() for action in actions(policy(name))} for name in STEPS)
    assert called[OTHER] == member - {"iam:passrole"}  # which is no call
    assert called[HUB] == (hub | member) - {"iam:passrole"}


def test_what_is_of_others_is_not_touched(empty: Deployment) -> None:
    put_in_force(empty.lab)
    for other in ({"output_store_bucket": "of-others"}, {"output_store_name": "of-others"}):
        with pytest.raises(AssertionError, match="is not allowed"):
            empty.apply(check=True, **other)


def test_the_policies_of_other_keys_are_out_of_reach() -> None:
    """The lab does not look at conditions."""
    (statement,) = (each for each in policy(STEPS[0])["Statement"] if "kms:PutKeyPolicy" in each["Action"])
    assert statement["Action"] == "kms:PutKeyPolicy" and statement["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/{NAME}"}}


@pytest.mark.parametrize("action", sorted(actions(policy(STEPS[0])) | actions(policy(STEPS[1]))))
@pytest.mark.slow
def test_without_an_action_the_role_fails_and_names_it(empty: Deployment, action: str) -> None:
    with pytest.raises(AssertionError) as caught:
        life(empty, less=action)
    assert f"{action} is not allowed".lower() in str(caught.value).lower()
