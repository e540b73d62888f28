# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/bootstrap.yml: an estate of two accounts and two regions comes under management."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import bootstrap as bench
from tests.integration.controller import REPOSITORY, Controller, Run
from tests.integration.modules.local import OTHER_ACCOUNT, ROLE
from tests.integration.modules.test_instance_profile_association import make_profile, profiles
from tests.integration.modules.test_reachability_and_open_ports import make_group, put_behind, tcp
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

HUB, REGIONS = "111111111111", ["eu-central-1", "us-east-1"]
ESTATE = {"regions": REGIONS, "accounts": [{"name": "hub"}, {"name": "other", "role_arn": ROLE}], "filters": {"tag:Estate": "yes"}}

#: How the names of calls begin that change nothing.
READS = ("Describe", "Get", "Head", "List", "AssumeRole")
#: An instance of old whose agent looks for a role only after an hour.
SILENT = {
    "kind": "simulated", "account": HUB, "region": REGIONS[0], "profile": None, "age": 7200, "tags": {"Estate": "yes"}, "options": {"credentials_retry": 3600},
}  # fmt: skip

Bootstrap = Callable[..., Run]


@pytest.fixture
def lab_of_estate() -> Iterator[Lab]:
    with Lab([], settings={"connection_lost_after": 0}) as lab:
        yield lab


@pytest.fixture
def instances(lab_of_estate: Lab) -> list[LabNode]:
    """One in each place that has no profile yet."""
    bare = {"profile": None, "options": {"credentials_retry": 1, "credentials_retry_max": 1}, "tags": {"Estate": "yes"}}
    places = [(account, region) for account in (HUB, OTHER_ACCOUNT) for region in REGIONS]
    return lab_of_estate.add(*({"name": f"{account[0]}-{region}", "account": account, "region": region, **bare} for account, region in places))


@pytest.fixture
def bootstrap(lab_of_estate: Lab, tmp_path: Path) -> Bootstrap:
    controller = Controller(tmp_path / "controller", lab_of_estate.env())
    controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})

    def run(*arguments: str, **variables: Any) -> Run:
        given = {"fleet_estate": ESTATE, "instance_role_name": "Bootstrapped", "bootstrap_wait": 30, "bootstrap_report": str(tmp_path / "report.json")}
        given |= variables
        words = ["-i", str(controller.inventory), str(REPOSITORY / "playbooks" / "bootstrap.yml"), "--extra-vars", json.dumps(given), *arguments]
        return Run.of(controller.start("ansible-playbook", *words))

    return run


def read(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    return found


def actions(report: dict[str, Any]) -> list[str]:
    return sorted(f"{each['action']} {each['account_name']} {each['region']}" for each in report["instances"])


def test_an_estate_comes_under_management(lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path) -> None:
    lab, all_places = lab_of_estate, [f"attach {account} {region}" for account in ("hub", "other") for region in REGIONS]
    bootstrap("--check", "--diff").check()
    plan = read(tmp_path)
    assert plan["before"] == plan["after"] and plan["before"]["never_registered"] == 4
    assert actions(plan) == all_places and profiles(lab, *instances) == [None] * 4
    assert {node["causes"][0]["cause"] for node in plan["remaining"]} == {"no_role"}

    bootstrap().check()
    report = read(tmp_path)
    assert actions(report) == all_places and profiles(lab, *instances) == ["Bootstrapped"] * 4
    assert report["before"]["online"] == 0 and report["after"]["online"] == 4 and report["remaining"] == []


def changes(report: dict[str, Any]) -> dict[str, Any]:
    """All that a report says was changed, or would be, but for the ARNs of what is not there yet."""
    resources = [{key: value for key, value in each.items() if key != "arn"} for each in report["resources"]]
    return {"resources": resources, **{key: report[key] for key in ("instances", "agents", "errors")}}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["profile", "dhmc"])
def test_check_mode_says_what_a_run_does(lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path, mode: str) -> None:
    lab = lab_of_estate
    lab.settings(latest_agent="3.3.0.0")
    make_profile(lab, "App")
    old = {**SILENT, "name": "old", "agent_version": "3.1.0.0", "options": {"available_version": "3.3.0.0"}}
    named, *_others = lab.add({**old, "profile": "FleetNode"}, {**SILENT, "name": "taken", "profile": "App"}, {**SILENT, "name": "off", "state": "stopped"})
    refused = {"name": "closed", "role_arn": f"arn:aws:iam::{OTHER_ACCOUNT}:role/Nobody"}
    given = {
        "fleet_estate": {**ESTATE, "accounts": [*ESTATE["accounts"], refused]}, "instance_role_mode": mode, "instance_role_other_profile": "replace",
        "instance_role_activations": [{"name": "berlin", "parameter": "/fleet/berlin"}], "instance_role_log_group": "/fleet",
        "output_store_bucket": f"planned-{mode}", "output_store_region": REGIONS[0], "output_store_regions": REGIONS,
        "output_store_accounts": ESTATE["accounts"], "output_store_account_ids": [HUB, OTHER_ACCOUNT], "output_store_encryption": "kms",
        "bootstrap_update_agents": True, "agent_timeout": 5, "bootstrap_wait": 1,
    }  # fmt: skip
    lab.reset_requests()
    assert bootstrap("--check", **given).returncode
    assert not {action for action in lab.requests().counts if not action.partition(":")[2].startswith(READS)}
    plan = changes(read(tmp_path))
    assert bootstrap(**given).returncode
    assert changes(read(tmp_path)) == plan
    kinds = {each["kind"] for each in plan["resources"] if each["action"] == "create"}
    assert kinds >= {"role", "activation", "bucket", "key", "function", "instance_profile" if mode == "profile" else "service_setting"}
    assert plan["agents"] == [named.node_id] and len(plan["errors"]) == 1 and "account closed" in plan["errors"][0]
    assert Counter(each["action"] for each in plan["instances"]) == ({"attach": 5, "replace": 2} if mode == "profile" else {})


@pytest.mark.slow
def test_a_second_run_changes_nothing(instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path) -> None:
    bootstrap().check()
    bootstrap().check()
    again = read(tmp_path)
    assert again["before"]["online"] == again["after"]["online"] == len(instances)
    assert {each["action"] for each in again["resources"] + again["instances"]} == {"none"}


@pytest.mark.slow
def test_an_account_that_refuses_stops_no_other_and_is_told(lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path) -> None:
    lab_of_estate.deny("iam:CreateRole", principal="FleetOperator")
    run = bootstrap(bootstrap_wait=2, instance_role_consistency_timeout=5)
    assert run.returncode
    report = read(tmp_path)
    assert sum("iam:CreateRole" in error for error in report["errors"]) == 1
    assert {(each["account_name"], each["changed"]) for each in report["instances"]} == {("hub", True), ("other", False)}
    assert profiles(lab_of_estate, *instances) == ["Bootstrapped"] * 2 + [None] * 2
    # Two seconds are less than the back-off of an agent that had no role until now.
    assert all(node["causes"][0]["cause"] == "no_role" for node in report["remaining"] if node["account_name"] == "other")


@pytest.mark.slow
def test_throttling_and_an_iam_that_tells_only_after_15_seconds_lose_nothing(
    lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path
) -> None:
    lab_of_estate.settings(iam_seconds=15, association_seconds=3)
    for service in ("iam", "ec2", "ssm", "sts"):
        lab_of_estate.throttle(f"{service}:*", rate=3, burst=2)
    bootstrap(bootstrap_wait=120).check()
    lab_of_estate.clear_faults()
    report = read(tmp_path)
    assert report["after"]["online"] == len(instances) and report["remaining"] == report["errors"] == []
    assert profiles(lab_of_estate, *instances) == ["Bootstrapped"] * 4


@pytest.mark.slow
def test_instances_that_are_terminated_meanwhile_are_not_waited_for(
    lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path
) -> None:
    """One before it gets its profile, and one before its agent has found it."""
    lab, first = lab_of_estate, instances[0]
    (second,) = lab.add({**SILENT, "name": "late"})
    lab.fault_calls("ec2:AssociateIamInstanceProfile", delay=6, account=HUB)
    lab.reset_requests()

    def end() -> None:
        looks = "ec2:DescribeIamInstanceProfileAssociations"
        eventually(lambda: lab.requests().counts.get(looks, 0) == len(instances), seconds=300)
        lab.client("ec2", region=first.region).terminate_instances(InstanceIds=[first.node_id])
        eventually(lambda: profiles(lab, second) == ["Bootstrapped"], seconds=300)
        lab.client("ec2", region=second.region).terminate_instances(InstanceIds=[second.node_id])

    thread = threading.Thread(target=end)
    thread.start()
    began = time.monotonic()
    try:
        bootstrap(bootstrap_wait=900).check()
    finally:
        thread.join()
    report = read(tmp_path)
    assert time.monotonic() - began < 600
    assert {each["action"] for each in report["instances"] if each["instance_id"] == first.node_id} == {"gone"}
    assert report["after"]["online"] == 3 and report["remaining"] == report["errors"] == []


@pytest.mark.slow
def test_why_an_agent_did_not_come_in_time_is_told(lab_of_estate: Lab, bootstrap: Bootstrap, tmp_path: Path) -> None:
    late, deaf = lab_of_estate.add({**SILENT, "name": "late"}, {**SILENT, "name": "deaf", "kind": "none", "profile": "FleetNode"})
    lab_of_estate.client("ec2", region=deaf.region).modify_instance_metadata_options(InstanceId=deaf.node_id, HttpEndpoint="disabled")
    shown = bootstrap(bootstrap_wait=2, instance_role_other_profile="skip").check().result("Show it")["msg"]
    remaining = {node["instance_id"]: node["causes"][0] for node in read(tmp_path)["remaining"]}
    assert {node_id: cause["cause"] for node_id, cause in remaining.items()} == {late.node_id: "agent_back_off", deaf.node_id: "metadata_disabled"}
    told = shown[shown.index("Remaining, by the likeliest cause") :]
    assert f"  agent_back_off: 1: {late.node_id}" in told and f"    {remaining[late.node_id]['sentence']} {remaining[late.node_id]['remedy']}" in told
    assert f"  metadata_disabled: 1: {deaf.node_id}" in told


@pytest.mark.slow
def test_ports_that_are_open_to_everybody_are_told_and_closed_once_the_node_answers(
    lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path
) -> None:
    node, door = instances[0], make_group(lab_of_estate, tcp(22), account=HUB, region=REGIONS[0])
    put_behind(lab_of_estate, node, door)
    line = f"  hub {REGIONS[0]} {door}: 22 from 0.0.0.0/0"
    shown = bootstrap("--check", bootstrap_close_ports=True).check().result("Show it")["msg"]
    told = shown[shown.index("Open to everybody") + 1]
    assert told == f"{line}: used by instances that do not answer over Systems Manager: {node.node_id}"
    shown = bootstrap(bootstrap_close_ports=True).check().result("Show it")["msg"]
    assert shown[shown.index("Open to everybody") + 1] == f"{line}, closed"
    (rule,) = read(tmp_path)["open_ports"]
    assert rule["changed"] and rule["instance_ids"] == [node.node_id]
    assert "Open to everybody" not in bootstrap("--check").check().result("Show it")["msg"]


@pytest.mark.slow
def test_whatever_keeps_it_from_looking_at_ports_is_in_the_report(bootstrap: Bootstrap, tmp_path: Path) -> None:
    run = bootstrap(bootstrap_close_ports="perhaps")
    assert run.returncode and any("perhaps" in error for error in read(tmp_path)["errors"])


@pytest.mark.slow
def test_an_estate_in_which_nothing_is_found_is_told(bootstrap: Bootstrap, tmp_path: Path) -> None:
    shown = bootstrap(bootstrap_wait=300).check().result("Show it")["msg"]
    assert any(line.startswith("No instance was found") for line in shown) and read(tmp_path)["remaining"] == []


#: Enough for what each region costs by itself to weigh little.
FLEET = 600


@pytest.mark.slow
def test_a_fleet_comes_under_management_with_few_calls_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    with bench.estate(FLEET) as lab:
        outcome = bench.run(lab, tmp_path)
        report = outcome.report
        assert report["before"]["never_registered"] == report["after"]["online"] == FLEET and report["remaining"] == report["errors"] == []
        assert Counter(each["action"] for each in report["instances"]) == {"attach": FLEET}
        assert outcome.counts["ec2:AssociateIamInstanceProfile"] == FLEET
        assert outcome.calls <= bench.RATIO_LIMIT * bench.least_calls(FLEET), outcome.counts

        again = bench.run(lab, tmp_path)
        assert again.report["before"] == again.report["after"] == report["after"]
        assert {each["action"] for each in again.report["instances"] + again.report["resources"]} == {"none"}
        assert not {action for action in again.counts if not action.partition(":")[2].startswith(READS)}


@pytest.mark.slow
def test_a_machine_that_ssh_does_not_reach_and_an_agent_that_stays_old_are_told_and_end_nothing(
    lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path
) -> None:
    lab_of_estate.settings(latest_agent="3.4.0.0")
    machines = tmp_path / "machines.yml"
    machines.write_text(json.dumps({"bootstrap_ssh": {"hosts": {"edge-1": {"ansible_host": "127.0.0.1", "ansible_port": 1}}}}), encoding="utf-8")
    run = bootstrap("-i", str(machines), bootstrap_update_agents=True, agent_timeout=5)
    report = read(tmp_path)
    assert run.returncode and report["after"]["outdated"] == len(instances)
    assert any(error.startswith("edge-1: the agent could not be installed by ssh") for error in report["errors"])
    assert any("have their old agent" in error for error in report["errors"])


def allowed(lab: Lab) -> list[str]:
    """Where nodes of the other account may put and encrypt outputs."""
    policy = lab.client("iam", account=OTHER_ACCOUNT).get_role_policy(RoleName="Bootstrapped", PolicyName="fleet.ssm-outputs")["PolicyDocument"]
    return [statement["Resource"] for statement in policy["Statement"]]


@pytest.mark.slow
def test_nodes_may_write_to_an_output_store_and_one_that_is_refused_stops_nothing_else(
    lab_of_estate: Lab, instances: list[LabNode], bootstrap: Bootstrap, tmp_path: Path
) -> None:
    store = {
        "output_store_bucket": "bootstrap-outputs", "output_store_region": REGIONS[0], "output_store_regions": REGIONS,
        "output_store_accounts": ESTATE["accounts"], "output_store_account_ids": [HUB, OTHER_ACCOUNT],
    }  # fmt: skip
    lab_of_estate.settings(node_policies=True)
    lab_of_estate.deny("s3:CreateBucket")
    run = bootstrap(**store)
    report = read(tmp_path)
    assert run.returncode and any("s3:CreateBucket" in error for error in report["errors"])
    assert report["after"]["online"] == len(instances) and profiles(lab_of_estate, *instances) == ["Bootstrapped"] * 4
    lab_of_estate.clear_permissions()

    bootstrap(**store).check()
    assert {(each["kind"], each["action"]) for each in read(tmp_path)["resources"]} >= {("bucket", "create"), ("function", "create"), ("role", "none")}
    assert allowed(lab_of_estate) == [f"arn:aws:s3:::bootstrap-outputs/{OTHER_ACCOUNT}/*"]

    encrypted = {**store, "output_store_encryption": "kms"}
    bootstrap(**encrypted).check()
    key = lab_of_estate.client("kms", region=REGIONS[0]).describe_key(KeyId="alias/fleet-ssm-outputs")["KeyMetadata"]["Arn"]
    assert allowed(lab_of_estate)[1:] == [key]
    (node,) = (each for each in instances if (each.account, each.region) == (OTHER_ACCOUNT, REGIONS[1]))
    ssm, s3 = lab_of_estate.client("ssm", account=node.account, region=node.region), lab_of_estate.client("s3", region=REGIONS[0])
    ssm.send_command(
        InstanceIds=[node.node_id], DocumentName="AWS-RunShellScript", Parameters={"commands": ["echo hello"]},
        OutputS3BucketName="bootstrap-outputs", OutputS3KeyPrefix=node.account, OutputS3Region=REGIONS[0],
    )  # fmt: skip
    eventually(lambda: s3.list_objects_v2(Bucket="bootstrap-outputs", Prefix=f"{node.account}/").get("Contents"))

    lab_of_estate.deny("s3:GetBucketPolicy")
    run = bootstrap(**encrypted)
    assert run.returncode and any("the key of the output store is not known" in error for error in read(tmp_path)["errors"])
    assert allowed(lab_of_estate)[1:] == [key], "what nodes may do is not taken from them"
