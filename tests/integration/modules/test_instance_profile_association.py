# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instance profiles attached, replaced and taken away, in two accounts and regions, with EC2's and IAM's slowness and refusals."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from ansible_collections.fleet.ssm.plugins.modules.instance_profile_association import EXAMPLES
from tests.integration.modules.local import ROLE, Local
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

HUB, OTHER = "111111111111", "222222222222"
REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}
HERE = {"region": REGIONS[0]}
NODE = "FleetNode"
CORE = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
MODULE = "instance_profile_association"
TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}

Launch = Callable[..., list[LabNode]]
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def estate() -> Iterator[Lab]:
    """Two accounts, each with the role FleetNode, and no instance yet."""
    with Lab([]) as lab:
        yield lab


@pytest.fixture
def local(estate: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", estate)
    estate.clear_permissions()
    estate.clear_faults()
    estate.settings(association_seconds=0, iam_seconds=0)


@pytest.fixture
def group() -> str:
    """A tag's value that only one test's instances have."""
    return f"group-{next(numbers)}"


@pytest.fixture
def launch(estate: Lab, group: str) -> Launch:
    """Starts instances without any agent; without a profile unless one is named."""

    def start(count: int = 1, **values: Any) -> list[LabNode]:
        tags = {"Group": values.pop("group", group)}
        chosen = {"kind": "none", "profile": None, "account": HUB, "region": REGIONS[0], "tags": tags, **values}
        return estate.add(*({"name": f"{group}-{next(numbers)}", **chosen} for _each in range(count)))

    return start


def make_profile(lab: Lab, name: str, account: str = HUB) -> None:
    """An instance profile with a role that has no policy."""
    iam = lab.client("iam", account=account)
    iam.create_role(RoleName=f"{name}Role", AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=f"{name}Role")


@pytest.fixture
def app(estate: Lab, group: str) -> str:
    """A profile of other people's, for this test alone."""
    name = f"App-{group}"
    make_profile(estate, name)
    return name


def profiles(lab: Lab, *nodes: LabNode) -> list[str | None]:
    """The names of the profiles that instances have, as EC2 says; those that go are none."""
    found: dict[str, str] = {}
    for account in (HUB, OTHER):
        for region in REGIONS:
            pages = lab.client("ec2", account=account, region=region).get_paginator("describe_iam_instance_profile_associations").paginate()
            entries = [entry for page in pages for entry in page["IamInstanceProfileAssociations"] if entry["State"] == "associated"]
            found.update({entry["InstanceId"]: entry["IamInstanceProfile"]["Arn"].rpartition("/")[2] for entry in entries})
    return [found.get(node.node_id) for node in nodes]


def policies(lab: Lab, role: str, account: str = HUB) -> list[str]:
    return [entry["PolicyArn"] for entry in lab.client("iam", account=account).list_attached_role_policies(RoleName=role)["AttachedPolicies"]]


def by_tag(group: str) -> dict[str, Any]:
    return {"instance_profile": NODE, "filters": {"tag:Group": group}}


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {entry["instance_id"]: entry["action"] for entry in result["instances"]}


def test_a_profile_comes_to_instances_by_tag_in_all_accounts_and_regions(local: Local, launch: Launch, group: str) -> None:
    nodes = [node for account in (HUB, OTHER) for region in REGIONS for node in launch(2, account=account, region=region)]
    stopped, other = launch(state="stopped"), launch(group="another")
    would = local(MODULE, "--check", "--diff", **BOTH, **by_tag(group))
    assert would["changed"] and would["counts"] == {"attach": 9, "failed": 0} and len(would["diff"]) == 9
    assert all(entry["before"] == {"instance_profile": None} and entry["after"] == {"instance_profile": NODE} for entry in would["diff"])
    assert profiles(local.lab, *nodes, *stopped) == [None] * 9

    local.lab.settings(association_seconds=2)
    done = local(MODULE, "--diff", **BOTH, **by_tag(group))
    assert done["instances"] == would["instances"] and done["diff"] == would["diff"] and done["errors"] == []
    assert {(entry["account_id"], entry["account_name"], entry["region"]) for entry in done["instances"]} == {
        (account, name, region) for account, name in ((HUB, "one"), (OTHER, "two")) for region in REGIONS
    }
    assert profiles(local.lab, *nodes, *stopped, *other) == [NODE] * 9 + [None], "it has waited until they were associated"

    local.lab.reset_requests()
    again = local(MODULE, "--diff", **BOTH, **by_tag(group))
    assert not again["changed"] and again["counts"] == {"none": 9, "failed": 0} and again["diff"] == []
    assert {action for action in local.lab.requests().counts if not action.startswith("sts:")} == {
        "ec2:DescribeInstances", "ec2:DescribeIamInstanceProfileAssociations",
    }  # fmt: skip


def test_an_instance_with_another_profile_stops_the_task_with_a_plan(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), (taken,) = launch(), launch(profile=app)
    for arguments in (["--check"], []):
        result = local.fail(MODULE, *arguments, **HERE, **by_tag(group))
        assert f"1 instance cannot get the profile {NODE}: {taken.node_id} in account of " in result["msg"]
        assert f"it has the profile {app}. Set 'other_profile' to augment, replace or skip" in result["msg"] and result["msg"].endswith("Nothing was changed.")
        assert actions(result) == {bare.node_id: "attach", taken.node_id: "refuse"} and not result["changed"]
    assert profiles(local.lab, bare, taken) == [None, app]


@pytest.mark.slow
def test_skip_leaves_other_profiles(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), (taken,) = launch(), launch(profile=app)
    assert actions(local(MODULE, **HERE, **by_tag(group), other_profile="skip")) == {bare.node_id: "attach", taken.node_id: "skip"}
    assert profiles(local.lab, bare, taken) == [NODE, app]


@pytest.mark.parametrize("state", ["running", pytest.param("stopped", marks=pytest.mark.slow)])
def test_replace_puts_it_in_the_place_of_another(local: Local, launch: Launch, group: str, app: str, state: str) -> None:
    (taken,) = launch(profile=app, state=state)
    local.lab.settings(association_seconds=1)
    (entry,) = local(MODULE, **HERE, **by_tag(group), other_profile="replace")["instances"]
    assert (entry["action"], entry["before"], entry["after"]) == ("replace", {"instance_profile": app}, {"instance_profile": NODE})
    assert profiles(local.lab, taken) == [NODE]
    assert not local(MODULE, **HERE, **by_tag(group), other_profile="replace")["changed"]


def test_a_stopped_instance_that_lost_one_profile_is_waited_for_and_what_became_of_it_is_told(local: Local, launch: Launch, group: str, app: str) -> None:
    (taken,) = launch(profile=app, state="stopped")
    local.lab.settings(association_seconds=2)
    impatient = local.fail(MODULE, **HERE, **by_tag(group), other_profile="replace", wait_timeout=0)
    (entry,) = impatient["instances"]
    assert impatient["changed"] and (entry["action"], entry["before"], entry["after"]) == ("detach", {"instance_profile": app}, {"instance_profile": None})
    assert f"Its profile {app} was taken away before" in entry["error"]
    done = local(MODULE, **HERE, **by_tag(group), other_profile="replace", wait=False)
    assert done["counts"] == {"attach": 1, "failed": 0}
    eventually(lambda: profiles(local.lab, taken) == [NODE])


@pytest.mark.slow
def test_augment_adds_policies_to_the_role_that_is_there(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), taken = launch(), launch(2, profile=app)
    options = {**HERE, **by_tag(group), "other_profile": "augment"}
    would = local(MODULE, "--check", **options)
    assert policies(local.lab, f"{app}Role") == []
    done = local(MODULE, **options)
    assert done["counts"] == would["counts"] == {"attach": 1, "augment": 2, "failed": 0}
    assert done["roles"] == [{"account_id": HUB, "role": f"{app}Role", "policies": [CORE], "outsiders": []}]
    shown = next(entry for entry in done["instances"] if entry["action"] == "augment")
    assert (shown["before"]["policies"], shown["after"]) == ([], {"instance_profile": app, "role": f"{app}Role", "policies": [CORE]})
    assert policies(local.lab, f"{app}Role") == [CORE] and profiles(local.lab, bare, *taken) == [NODE, app, app]
    assert not local(MODULE, **options)["changed"]


def test_augment_tells_which_policies_a_role_got_before_one_was_refused(local: Local, launch: Launch, group: str, app: str) -> None:
    launch(profile=app)
    result = local.fail(MODULE, **HERE, **by_tag(group), other_profile="augment", policies=["AmazonSSMManagedInstanceCore", "Typo"])
    (entry,) = result["instances"]
    assert result["changed"] and entry["after"]["policies"] == result["roles"][0]["policies"] == policies(local.lab, f"{app}Role") == [CORE]
    assert "iam:AttachRolePolicy failed with NoSuchEntity" in entry["error"]


def test_augment_says_of_a_profile_that_was_deleted_that_it_has_no_role(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), (orphan,) = launch(), launch(profile=app)
    iam = local.lab.client("iam")
    iam.remove_role_from_instance_profile(InstanceProfileName=app, RoleName=f"{app}Role")
    iam.delete_instance_profile(InstanceProfileName=app)
    result = local.fail(MODULE, **HERE, **by_tag(group), other_profile="augment")
    assert actions(result) == {bare.node_id: "attach", orphan.node_id: "refuse"} and f"its profile {app} was deleted, or has no role" in result["msg"]


@pytest.mark.slow
def test_a_role_that_other_instances_use_is_not_widened_unless_told_so(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), (taken,) = launch(), launch(profile=app)
    (far,), (near,) = launch(profile=app, region="us-west-2", group="other"), launch(profile=app, group="other")
    options = {**HERE, **by_tag(group), "other_profile": "augment"}
    refused = local.fail(MODULE, **options)
    assert f"The role {app}Role of account {HUB} is used by 2 instances that the task is not about" in refused["msg"]
    assert refused["roles"][0]["outsiders"] == sorted([far.node_id, near.node_id]) and "widen_shared_roles" in refused["msg"]
    assert policies(local.lab, f"{app}Role") == [] and profiles(local.lab, bare, taken) == [None, app]
    assert local(MODULE, **options, widen_shared_roles=True)["counts"] == {"attach": 1, "augment": 1, "failed": 0}
    assert policies(local.lab, f"{app}Role") == [CORE]


def test_one_account_that_refuses_leaves_the_others(local: Local, launch: Launch, group: str) -> None:
    (mine,), (theirs,) = launch(), launch(2, account=OTHER)[:1]
    local.lab.deny("ec2:AssociateIamInstanceProfile", principal="FleetOperator")
    result = local.fail(MODULE, **BOTH, **by_tag(group))
    (error,) = result["errors"]
    assert error.startswith("account two, region eu-central-1: ec2:AssociateIamInstanceProfile is not allowed for arn:aws:sts::222222222222:")
    assert "Allow the action ec2:AssociateIamInstanceProfile" in error and result["msg"] == f"{error}\nThe others were done."
    assert result["changed"] and result["counts"] == {"attach": 3, "failed": 2}
    assert [entry["changed"] for entry in result["instances"]] == [True, False, False]
    assert profiles(local.lab, mine, theirs) == [NODE, None]

    local.lab.clear_permissions()
    local.lab.deny("iam:PassRole", principal="FleetOperator")
    assert "iam:PassRole is not allowed for" in local.fail(MODULE, **BOTH, **by_tag(group))["msg"]
    local.lab.clear_permissions()
    local.lab.deny("ec2:DescribeInstances", principal="FleetOperator")
    assert "account two, regions eu-central-1, us-east-1: ec2:DescribeInstances is not allowed" in local.fail(MODULE, **BOTH, **by_tag(group))["msg"]


@pytest.mark.slow
def test_a_profile_that_was_just_made_is_waited_for(local: Local, launch: Launch, group: str) -> None:
    nodes = launch(3)
    local.lab.settings(iam_seconds=7, association_seconds=1)
    make_profile(local.lab, f"New-{group}")
    with pytest.raises(ClientError, match="Invalid IAM Instance Profile name"):
        local.lab.client("ec2", region=REGIONS[0]).associate_iam_instance_profile(
            InstanceId=nodes[0].node_id, IamInstanceProfile={"Name": f"New-{group}"}
        )
    local(MODULE, **HERE, **{**by_tag(group), "instance_profile": f"New-{group}"})
    assert profiles(local.lab, *nodes) == [f"New-{group}"] * 3


@pytest.mark.slow
def test_ec2_may_know_a_profile_later_than_iam(local: Local, launch: Launch, group: str) -> None:
    nodes = launch(2)
    text = {"code": "InvalidParameterValue", "message": "Value (FleetNode) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"}
    local.lab.fault_calls("ec2:AssociateIamInstanceProfile", count=5, **text)
    local(MODULE, **HERE, **by_tag(group))
    assert profiles(local.lab, *nodes) == [NODE] * 2


def test_a_profile_that_does_not_exist_is_told_before_anything_is_changed(local: Local, launch: Launch, group: str) -> None:
    (bare,) = launch()
    options = {**HERE, **by_tag(group), "instance_profile": "Typo", "consistency_timeout": 1}
    result = local.fail(MODULE, **options)
    assert "the instance profile Typo does not exist. Create it with its role first, or correct 'instance_profile'" in result["msg"]
    assert profiles(local.lab, bare) == [None]
    assert local(MODULE, "--check", **options)["counts"] == {"attach": 1, "failed": 0}, "a task before this one may make it"


@pytest.mark.slow
def test_throttling_makes_it_slower_and_loses_nothing(local: Local, launch: Launch, group: str) -> None:
    nodes = launch(30)
    local.lab.throttle("ec2:AssociateIamInstanceProfile", rate=10, burst=2)
    local.lab.throttle("ec2:Describe*", rate=2)
    assert local(MODULE, **HERE, **by_tag(group))["counts"] == {"attach": 30, "failed": 0}
    local.lab.clear_faults()
    assert profiles(local.lab, *nodes) == [NODE] * 30


def most_at_once(lab: Lab, action: str) -> int:
    """How many calls of an action the lab had in hand at once, at most."""
    entries = [entry for entry in lab.requests(entries=True).entries if entry["action"] == action]
    ends = [datetime.fromisoformat(entry["time"]).timestamp() for entry in entries]
    spans = [(end - entry["milliseconds"] / 1000, end) for entry, end in zip(entries, ends, strict=True)]
    # The log's times are those of milliseconds.
    return max(sum(began <= moment < end - 0.01 for began, end in spans) for moment, _unused in spans)


def test_no_more_instances_are_changed_at_once_than_wanted(local: Local, launch: Launch, group: str) -> None:
    for account, region in itertools.product((HUB, OTHER), REGIONS):
        launch(2, account=account, region=region)
    local.lab.fault_calls("ec2:AssociateIamInstanceProfile", delay=0.3)
    local.lab.reset_requests()
    assert local(MODULE, **BOTH, **by_tag(group), max_workers=3)["counts"] == {"attach": 8, "failed": 0}
    assert most_at_once(local.lab, "ec2:AssociateIamInstanceProfile") == 3


def test_no_more_regions_are_looked_at_at_once_than_wanted(local: Local, launch: Launch, group: str) -> None:
    for account in (HUB, OTHER):
        make_profile(local.lab, f"App-{group}", account)
        launch(account=account, profile=f"App-{group}")
    local.lab.fault_calls("ec2:DescribeIamInstanceProfileAssociations", delay=0.2)
    local.lab.reset_requests()
    result = local(MODULE, "--check", **BOTH, **by_tag(group), other_profile="augment", max_workers=2)
    assert result["counts"] == {"augment": 2, "failed": 0}
    assert most_at_once(local.lab, "ec2:DescribeIamInstanceProfileAssociations") == 2


@pytest.mark.slow
def test_a_lost_answer_is_no_failure(local: Local, launch: Launch, group: str, app: str) -> None:
    (bare,), (taken,) = launch(), launch(profile=app)
    for action in ("AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"):
        local.lab.lose_replies(f"ec2:{action}", count=1)
    assert local(MODULE, **HERE, **by_tag(group), other_profile="replace")["counts"] == {"attach": 1, "replace": 1, "failed": 0}
    assert profiles(local.lab, bare, taken) == [NODE, NODE]
    assert local(MODULE, **HERE, **by_tag(group), state="absent")["counts"] == {"detach": 2, "failed": 0}
    assert profiles(local.lab, bare, taken) == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("last_call", ["DescribeIamInstanceProfileAssociations", "AssociateIamInstanceProfile"])
def test_an_instance_that_is_terminated_meanwhile_is_told_and_stops_no_other(local: Local, launch: Launch, group: str, last_call: str) -> None:
    doomed, *others = launch(3)
    looked_at = last_call.startswith("Describe")
    if looked_at:
        local.lab.fault_calls("iam:GetInstanceProfile", delay=8)
    else:
        local.lab.settings(association_seconds=8)

    def end() -> None:
        eventually(lambda: local.lab.requests().counts.get(f"ec2:{last_call}", 0) == (1 if looked_at else 3))
        local.lab.client("ec2", region=REGIONS[0]).terminate_instances(InstanceIds=[doomed.node_id])

    local.lab.reset_requests()
    thread = threading.Thread(target=end)
    thread.start()
    try:
        result = local(MODULE, **HERE, **by_tag(group))
    finally:
        thread.join()
    assert result["counts"] == {"attach": 2, "gone": 1, "failed": 0}
    assert f"{doomed.node_id} in account of" in str(result["warnings"]) and "terminated meanwhile" in str(result["warnings"])
    assert profiles(local.lab, *others) == [NODE] * 2


def test_instances_that_are_gone_or_unknown_are_told_before_anything_is_changed(local: Local, launch: Launch) -> None:
    (bare,), (gone,) = launch(), launch(state="terminated")
    ids = [bare.node_id, gone.node_id, "i-00000000000000000"]
    result = local.fail(MODULE, **HERE, instance_profile=NODE, instance_ids=ids)
    assert f"{gone.node_id} in account of the default credentials" in result["msg"] or f"{gone.node_id} in account of access key" in result["msg"]
    assert "the instance is terminated" in result["msg"] and "1 instance not found" in result["msg"]
    assert profiles(local.lab, bare) == [None]


@pytest.mark.slow
def test_detaching(local: Local, launch: Launch, group: str, app: str) -> None:
    (mine,), (taken,), (bare,) = launch(profile=NODE), launch(profile=app), launch()
    local.lab.settings(association_seconds=1)
    assert local(MODULE, "--check", **HERE, **by_tag(group), state="absent")["counts"] == {"detach": 1, "none": 2, "failed": 0}
    done = local(MODULE, **HERE, **by_tag(group), state="absent")
    assert done["counts"] == {"detach": 1, "none": 2, "failed": 0} and profiles(local.lab, mine, taken, bare) == [None, app, None]
    assert not local(MODULE, **HERE, **by_tag(group), state="absent")["changed"]
    assert local(MODULE, **HERE, filters={"tag:Group": group}, state="absent")["counts"] == {"detach": 1, "none": 2, "failed": 0}
    assert profiles(local.lab, taken) == [None]


@pytest.mark.slow
def test_a_listing_of_several_pages_is_read_to_its_end(local: Local, launch: Launch, group: str) -> None:
    launch(230, profile=NODE)  # the lab gives 100 a page, and 200 ids go into a filter
    assert local(MODULE, **HERE, **by_tag(group))["counts"] == {"none": 230, "failed": 0}


@pytest.mark.slow
def test_the_documentations_examples_run(local: Local, launch: Launch, app: str) -> None:
    (bare,), (taken,), (retired,) = launch(), launch(profile=app), launch(profile=NODE)
    ec2 = local.lab.client("ec2", region=REGIONS[0])
    ec2.create_tags(Resources=[bare.node_id], Tags=[{"Key": "Env", "Value": "prod"}])
    ec2.create_tags(Resources=[retired.node_id], Tags=[{"Key": "Env", "Value": "retired"}])
    tasks = yaml.safe_load(EXAMPLES.replace("i-0123456789abcdef0", taken.node_id).replace("FleetPlatform", "FleetOperator"))
    run = local.controller.tasks(*tasks).check()
    assert [result["changed"] for _name, _host, result in run.tasks()] == [True] * 4
    assert profiles(local.lab, bare, taken, retired) == [NODE, NODE, None]
