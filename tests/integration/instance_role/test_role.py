# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role, in two accounts and two regions, with what goes wrong there."""

from __future__ import annotations

import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import Controller, Run
from tests.integration.modules.local import OTHER_ACCOUNT, ROLE
from tests.integration.modules.test_instance_profile_association import CORE, make_profile, policies, profiles
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

HUB, REGIONS = "111111111111", ["eu-central-1", "us-east-1"]
ESTATE = {"regions": REGIONS, "accounts": [{"name": "hub"}, {"name": "other", "role_arn": ROLE}]}
BOUNDARY = "arn:<partition>:iam::<account>:policy/Boundary"
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def company() -> Iterator[Lab]:
    with Lab([], settings={"connection_lost_after": 0}) as lab:
        yield lab


class Estate:
    """The role with a name and instances of this test's own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.name = lab, f"Node{next(numbers)}"
        self._controller = Controller(folder, lab.env())
        self._controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})

    def launch(self, account: str = HUB, region: str = REGIONS[0], **values: Any) -> LabNode:
        chosen = {"kind": "simulated", "profile": None, "account": account, "region": region, "tags": {"Fleet": self.name}, **values}
        (node,) = self.lab.add({"name": f"{self.name}-{next(numbers)}", **chosen})
        return node

    def everywhere(self, **values: Any) -> list[LabNode]:
        return [self.launch(account, region, **values) for account in (HUB, OTHER_ACCOUNT) for region in REGIONS]

    def run(self, *arguments: str, **variables: Any) -> Run:
        """The role, with variables whose names go without its own."""
        estate = {**ESTATE, "filters": {"tag:Fleet": self.name}}
        given = {"estate": estate, "name": self.name, "network": "ignore", "open_ports": "ignore", **variables}
        role = {"role": "fleet.ssm.instance_role", **{f"instance_role_{name}": value for name, value in given.items()}}
        show = {"name": "report", "ansible.builtin.debug": {"var": "instance_role_report"}, "when": "instance_role_report is defined"}
        return self._controller.playbook([{"hosts": "localhost", "gather_facts": False, "roles": [role], "tasks": [show]}], *arguments)

    def iam(self, account: str = HUB) -> Any:
        return self.lab.client("iam", account=account)


@pytest.fixture
def estate(company: Lab, tmp_path: Path) -> Iterator[Estate]:
    yield Estate(company, tmp_path / "controller")
    company.clear_permissions()
    company.clear_faults()
    company.settings(association_seconds=0, iam_seconds=0)


def report(run: Run) -> dict[str, Any]:
    """What the role says it has found and done."""
    facts = [result.get("ansible_facts", {}) for _task, _host, result in run.tasks()]
    found: dict[str, Any] = next((each["instance_role_report"] for each in facts if "instance_role_report" in each), {})
    assert found, run.stdout
    return found


def actions(run: Run) -> set[str]:
    """What was done, or would be, with roles, profiles and settings."""
    return {f"{each['action']} {each['kind']} {each['account_name']}" for each in report(run)["resources"]}


def changes(lab: Lab) -> list[str]:
    """Calls since the last look that change something."""
    reads = ("Get", "List", "Describe", "AssumeRole")
    return [action for action in lab.requests().counts if not action.partition(":")[2].startswith(reads)]


def test_instances_of_all_accounts_get_the_role_and_a_second_run_changes_nothing(estate: Estate) -> None:
    nodes = [*estate.everywhere(), estate.launch(state="stopped")]
    estate.lab.reset_requests()
    would = estate.run("--check", "--diff", boundary=BOUNDARY, path="/fleet/", tags={"Team": "platform"}).check()
    assert changes(estate.lab) == [], "nothing is there yet, and nothing was made"
    assert actions(would) == {f"create {kind} {name}" for kind in ("role", "instance_profile") for name in ("hub", "other")}
    assert [each["action"] for each in report(would)["instances"]] == ["attach"] * 5

    for account in (HUB, OTHER_ACCOUNT):
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
        estate.iam(account).create_policy(PolicyName="Boundary", PolicyDocument=document)
    run = estate.run("--diff", boundary=BOUNDARY, path="/fleet/", tags={"Team": "platform"}).check()
    assert actions(run) == actions(would) and report(run)["errors"] == []
    assert [(each["action"], each["changed"]) for each in report(run)["instances"]] == [("attach", True)] * 5
    assert profiles(estate.lab, *nodes) == [estate.name] * 5
    for account in (HUB, OTHER_ACCOUNT):
        role = estate.iam(account).get_role(RoleName=estate.name)["Role"]
        assert role["Path"] == "/fleet/" and role["Tags"] == [{"Key": "Team", "Value": "platform"}]
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == f"arn:aws:iam::{account}:policy/Boundary"
        instances, machines = role["AssumeRolePolicyDocument"]["Statement"]
        assert instances == {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        assert machines["Principal"] == {"Service": "ssm.amazonaws.com"} and machines["Condition"]["StringEquals"] == {"aws:SourceAccount": account}
        assert policies(estate.lab, estate.name, account) == [CORE]

    again = estate.run("--diff", boundary=BOUNDARY, path="/fleet/", tags={"Team": "platform"}).check()
    assert again.stats["localhost"]["changed"] == 0


@pytest.mark.slow
def test_policies_come_and_go_and_those_of_others_stay(estate: Estate) -> None:
    estate.launch()
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
    everything = {
        "base": "narrow", "output_bucket": "company-outputs", "output_key_arn": "arn:aws:kms:eu-central-1:111111111111:key/1",
        "session_key_arn": "arn:aws:kms:eu-central-1:111111111111:key/2", "log_group": "/fleet/*", "policies": {"mine": document},
        "managed_policies": ["CloudWatchAgentServerPolicy"],
    }  # fmt: skip
    estate.run(**everything).check()
    iam, name = estate.iam(), estate.name
    assert set(iam.list_role_policies(RoleName=name)["PolicyNames"]) == {"fleet.ssm", "fleet.ssm-outputs", "fleet.ssm-sessions", "fleet.ssm-logs", "mine"}
    outputs = iam.get_role_policy(RoleName=name, PolicyName="fleet.ssm-outputs")["PolicyDocument"]["Statement"]
    assert outputs[0]["Resource"] == "arn:aws:s3:::company-outputs/111111111111/*" and outputs[1]["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    logs = iam.get_role_policy(RoleName=name, PolicyName="fleet.ssm-logs")["PolicyDocument"]["Statement"]
    assert logs[0]["Resource"] == ["arn:aws:logs:*:111111111111:log-group:/fleet/*"]
    assert policies(estate.lab, name) == ["arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy"]
    assert estate.run(**everything).check().stats["localhost"]["changed"] == 0

    iam.put_role_policy(RoleName=name, PolicyName="theirs", PolicyDocument=json.dumps(document))
    estate.run().check()
    assert set(iam.list_role_policies(RoleName=name)["PolicyNames"]) == {"mine", "theirs"}
    assert sorted(policies(estate.lab, name)) == sorted([CORE, "arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy"])
    would = estate.run("--check", purge=True).check()
    assert would.stats["localhost"]["changed"] == 1
    estate.run(purge=True).check()
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == [] and policies(estate.lab, name) == [CORE]
    moved = estate.run(path="/elsewhere/")
    assert moved.returncode and "has the path /, and IAM changes no paths. Remove it first, or set the path to /." in moved.stdout


@pytest.mark.slow
def test_an_account_that_refuses_leaves_the_other_and_is_told_at_the_end(estate: Estate) -> None:
    nodes = estate.everywhere()
    estate.lab.deny("iam:CreateRole", principal="FleetOperator")
    run = estate.run(consistency_timeout=1)
    assert run.returncode
    told = report(run)["errors"]
    assert told[0].startswith("account other") and "The others were done." not in told
    assert f"role {estate.name}: iam:CreateRole is not allowed for arn:aws:sts::{OTHER_ACCOUNT}:" in told[0]
    assert profiles(estate.lab, *nodes) == [estate.name] * 2 + [None] * 2
    assert actions(run) == {"create role hub", "create instance_profile hub", "none role other", "none instance_profile other"}
    estate.lab.clear_permissions()
    estate.lab.deny("iam:GetRole", principal="FleetOperator")
    refused = estate.run(consistency_timeout=1)
    assert refused.returncode and f"role {estate.name}: iam:GetRole is not allowed" in "\n".join(report(refused)["errors"])
    assert actions(refused) == {"none role hub", "none instance_profile hub"}
    estate.lab.clear_permissions()
    estate.run().check()
    assert profiles(estate.lab, *nodes) == [estate.name] * 4


@pytest.mark.slow
def test_iam_tells_everyone_only_after_15_seconds(estate: Estate) -> None:
    nodes = estate.everywhere()
    estate.lab.settings(iam_seconds=15)
    began = time.monotonic()
    parameter = f"/fleet/{estate.name}"
    run = estate.run(activations=[{"name": estate.name, "parameter": parameter}]).check()
    assert profiles(estate.lab, *nodes) == [estate.name] * 4 and time.monotonic() - began >= 15
    assert "create activation hub" in actions(run)


@pytest.mark.slow
def test_an_instance_that_is_terminated_meanwhile_stops_no_other(estate: Estate) -> None:
    doomed, *others = estate.everywhere()
    estate.lab.settings(association_seconds=8)
    estate.lab.reset_requests()

    def end() -> None:
        eventually(lambda: estate.lab.requests().counts.get("ec2:AssociateIamInstanceProfile", 0) == 4)
        doomed.terminate()

    thread = threading.Thread(target=end)
    thread.start()
    try:
        run = estate.run().check()
    finally:
        thread.join()
    assert sorted(each["action"] for each in report(run)["instances"]) == ["attach"] * 3 + ["gone"]
    assert profiles(estate.lab, *others) == [estate.name] * 3


@pytest.mark.slow
def test_throttling_makes_it_slower_and_loses_nothing(estate: Estate) -> None:
    nodes = [node for _each in range(3) for node in estate.everywhere()]
    estate.lab.throttle("iam:*", rate=3, burst=2)
    estate.lab.throttle("ec2:*", rate=3, burst=2)
    estate.run(network="report", open_ports="report").check()
    estate.lab.clear_faults()
    assert profiles(estate.lab, *nodes) == [estate.name] * 12


@pytest.mark.slow
def test_instances_with_another_profile_are_your_choice(estate: Estate) -> None:
    make_profile(estate.lab, f"App{estate.name}")
    bare, taken = estate.launch(), estate.launch(profile=f"App{estate.name}")
    stopped = estate.run()
    assert stopped.returncode and f"it has the profile App{estate.name}" in stopped.stdout and profiles(estate.lab, bare) == [None]
    run = estate.run(other_profile="augment").check()
    assert report(run)["roles"][0]["policies"] == [CORE] and profiles(estate.lab, bare, taken) == [estate.name, f"App{estate.name}"]
    at_rest = estate.launch(profile=f"App{estate.name}", state="stopped")
    estate.lab.settings(association_seconds=2)
    estate.run(other_profile="replace", wait_timeout=0).check()
    eventually(lambda: profiles(estate.lab, bare, taken, at_rest) == [estate.name] * 3)


@pytest.mark.slow
def test_the_default_host_management_configuration_touches_no_instance(estate: Estate) -> None:
    node = estate.launch()
    setting = "/ssm/managed-instance/default-ec2-instance-management-role"

    def settings() -> set[str]:
        clients = (estate.lab.client("ssm", account=account, region=region) for account in (HUB, OTHER_ACCOUNT) for region in REGIONS)
        return {client.get_service_setting(SettingId=setting)["ServiceSetting"]["SettingValue"] for client in clients}

    estate.run("--check", mode="dhmc", path="/fleet/").check()
    assert settings() == {"$None"}
    estate.run(mode="dhmc", path="/fleet/").check()
    assert settings() == {f"fleet/{estate.name}"} and profiles(estate.lab, node) == [None]
    assert policies(estate.lab, estate.name) == ["arn:aws:iam::aws:policy/AmazonSSMManagedEC2InstanceDefaultPolicy"]
    role = estate.iam().get_role(RoleName=estate.name)["Role"]
    _instances, by_default = role["AssumeRolePolicyDocument"]["Statement"]
    assert by_default == {"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"}
    assert estate.run(mode="dhmc", path="/fleet/").check().stats["localhost"]["changed"] == 0

    other = estate.run(mode="dhmc", path="/fleet/", name=f"Other{estate.name}")
    assert other.returncode and f"is fleet/{estate.name} already" in other.stdout and settings() == {f"fleet/{estate.name}"}
    kept = estate.run(mode="dhmc", path="/fleet/", name=f"Other{estate.name}", state="absent")
    assert settings() == {f"fleet/{estate.name}"}, kept.stdout
    estate.run(mode="dhmc", path="/fleet/", state="absent").check()
    assert settings() == {"$None"}


@pytest.mark.slow
@pytest.mark.parametrize("action", ["ssm:GetServiceSetting", "iam:PassRole"])
def test_an_account_that_refuses_the_default_configuration_leaves_the_other(estate: Estate, action: str) -> None:
    estate.lab.deny(action, principal="FleetOperator")
    run = estate.run(mode="dhmc")
    told = report(run)["errors"]
    assert run.returncode and len(told) == 1 and told[0].startswith("account other, regions eu-central-1, us-east-1: "), told
    assert f"{action} is not allowed for arn:aws:sts::{OTHER_ACCOUNT}:" in told[0] and f"Allow the action {action}" in told[0]
    assert told[0] in run.result("fleet.ssm.instance_role : Say what was refused or is wrong")["msg"]
    done = [f"{each['action']} {each['account_name']} {each['region']}" for each in report(run)["resources"] if each["kind"] == "service_setting"]
    refused = [] if action == "ssm:GetServiceSetting" else [f"none other {region}" for region in REGIONS]
    assert sorted(done) == [f"create hub {region}" for region in REGIONS] + refused
    estate.lab.clear_permissions()
    assert estate.run(mode="dhmc").check().stats["localhost"]["changed"] == 1
    estate.run(mode="dhmc", state="absent").check()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["ssm:CreateActivation", "ssm:PutParameter"])
def test_an_account_that_refuses_an_activation_leaves_those_of_others(estate: Estate, action: str) -> None:
    entries = [{"name": f"{estate.name}-{account}", "account": account, "parameter": f"/fleet/{estate.name}"} for account in ("other", "hub")]
    estate.lab.deny(action, principal="FleetOperator")
    run = estate.run(attach=False, activations=entries)
    told = report(run)["errors"]
    assert run.returncode and len(told) == 1 and told[0].startswith(f"account other, region eu-central-1: activation {estate.name}-other: "), told
    assert f"{action} is not allowed for arn:aws:sts::{OTHER_ACCOUNT}:" in told[0] and f"Allow the action {action}" in told[0]
    assert {"create role other", "create role hub", "create activation hub"} <= actions(run)
    there = [estate.lab.client("ssm", account=account, region=REGIONS[0]).describe_activations()["ActivationList"] for account in (HUB, OTHER_ACCOUNT)]
    ours = [[entry for entry in listed if entry["IamRole"].endswith(estate.name)] for listed in there]
    assert [len(listed) for listed in ours] == [1, 0], "nothing is left of one whose code could not be kept"


def register(lab: Lab, activation: dict[str, str]) -> str:
    """What a machine's agent does with an activation."""
    given = {"ActivationId": activation["activation_id"], "ActivationCode": activation["activation_code"], "Fingerprint": "f"}
    headers = {"X-Amz-Target": "AmazonSSM.RegisterManagedInstance", "Content-Type": "application/x-amz-json-1.1"}
    with urllib.request.urlopen(urllib.request.Request(lab.api_url, json.dumps(given).encode(), headers)) as answer:
        return str(json.loads(answer.read())["InstanceId"])


@pytest.mark.slow
def test_machines_outside_ec2_register_with_an_activation_that_is_used_again(estate: Estate) -> None:
    parameter = f"/fleet/{estate.name}"
    entry = {"name": estate.name, "parameter": parameter, "registrations": 2, "tags": {"Site": "berlin"}, "node_name": "edge", "region": "us-east-1"}
    ssm = estate.lab.client("ssm", region="us-east-1")

    def known() -> dict[str, str]:
        found: dict[str, str] = json.loads(ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
        return found

    would = estate.run("--check", attach=False, activations=[entry]).check()
    assert "create activation hub" in actions(would) and ssm.describe_activations()["ActivationList"] == []
    elsewhere = {**ESTATE, "accounts": [{"name": "hub", "regions": REGIONS[:1]}, ESTATE["accounts"][1]], "filters": {"tag:Fleet": estate.name}}
    run = estate.run("--diff", attach=False, activations=[entry], estate=elsewhere).check()
    first = known()
    assert first["region"] == "us-east-1" and first["activation_code"] not in run.stdout + run.stderr
    assert ssm.get_parameter(Name=parameter)["Parameter"]["Type"] == "SecureString"
    assert estate.run(attach=False, activations=[entry]).check().stats["localhost"]["changed"] == 0

    # One that is used up.
    nodes = [register(estate.lab, first)]
    assert estate.run(attach=False, activations=[entry]).check().stats["localhost"]["changed"] == 0
    nodes.append(register(estate.lab, first))
    assert estate.run(attach=False).check().stats["localhost"]["changed"] == 0, "a run that is not about activations leaves their nodes the role"
    estate.run(attach=False, activations=[entry]).check()
    assert known()["activation_id"] != first["activation_id"]
    # Another number of machines, another activation: the old one goes, since nothing about it can be changed.
    first = known()
    estate.run(attach=False, activations=[{**entry, "registrations": 3}]).check()
    second = known()
    (there,) = ssm.describe_activations()["ActivationList"]
    assert second["activation_id"] == there["ActivationId"] != first["activation_id"] and there["RegistrationLimit"] == 3
    # One that ends within the time before which it is to be renewed.
    estate.run(attach=False, activations=[{**entry, "registrations": 3, "renew_hours": 48, "days": 3}]).check()
    third = known()
    assert third["activation_id"] != second["activation_id"]
    # One whose code is lost.
    ssm.delete_parameter(Name=parameter)
    estate.run(attach=False, activations=[{**entry, "registrations": 3, "renew_hours": 48, "days": 3}]).check()
    assert known()["activation_id"] != third["activation_id"]
    kept = estate.run(attach=False, activations=[entry], state="absent").check()
    assert ssm.describe_activations()["ActivationList"] == []
    assert "keep role hub" in actions(kept) and f"nodes use it: {', '.join(sorted(nodes))}" in kept.stdout + kept.stderr
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        known()


@pytest.mark.slow
def test_taking_it_away_leaves_what_others_use(estate: Estate) -> None:
    mine, others = estate.launch(), estate.launch(tags={"Fleet": "others"})
    estate.run().check()
    ec2 = estate.lab.client("ec2", region=REGIONS[0])
    ec2.associate_iam_instance_profile(InstanceId=others.node_id, IamInstanceProfile={"Name": estate.name})
    kept = estate.run(state="absent").check()
    assert profiles(estate.lab, mine, others) == [None, estate.name]
    assert actions(kept) == {"keep role hub", "keep instance_profile hub", "remove role other", "remove instance_profile other"}
    assert f"nodes use it: {others.node_id}" in str(kept.result("fleet.ssm.instance_role : Role and profile are as they should be in every account"))
    others.terminate()
    estate.run().check()
    would = estate.run("--check", state="absent").check()
    assert actions(would) == {f"remove {kind} {name}" for kind in ("role", "instance_profile") for name in ("hub", "other")}
    assert profiles(estate.lab, mine) == [estate.name]
    gone = estate.run(state="absent").check()
    assert actions(gone) == actions(would) and profiles(estate.lab, mine) == [None]
    assert estate.run(state="absent").check().stats["localhost"]["changed"] == 0


@pytest.fixture
def private(company: Lab) -> Iterator[None]:
    """The default network without its way to the internet."""
    ec2 = company.client("ec2", region=REGIONS[0])
    company.add({"name": "any", "kind": "simulated", "account": HUB, "region": REGIONS[0]})  # the network is opened for the first instance
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}])["RouteTables"]
    (way,) = (route for route in table["Routes"] if route["DestinationCidrBlock"] == "0.0.0.0/0")
    there = {"RouteTableId": table["RouteTableId"], "DestinationCidrBlock": "0.0.0.0/0"}
    ec2.delete_route(**there)
    yield
    ec2.create_route(**there, GatewayId=way["GatewayId"])


@pytest.mark.slow
@pytest.mark.usefixtures("private")
def test_a_private_subnet_and_an_open_port_are_told(estate: Estate) -> None:
    node = estate.launch()
    ec2 = estate.lab.client("ec2", region=REGIONS[0])
    door = ec2.create_security_group(GroupName=f"door-{estate.name}", Description="door")["GroupId"]
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=door, IpPermissions=[permission])
    ours = [{"Name": "attachment.instance-id", "Values": [node.node_id]}]
    interface = ec2.describe_network_interfaces(Filters=ours)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[door])

    node.stop()
    silent = estate.run(network="report", open_ports="close").check()
    assert [rule["changed"] for rule in report(silent)["open_ports"]] == [False] and node.node_id in report(silent)["open_ports"][0]["reason"]
    node.start(wait=False)
    told = estate.run(network="report", open_ports="report").check()
    assert report(told)["subnets"][0]["missing_endpoints"][0] == "com.amazonaws.eu-central-1.ssm"
    assert not told.result("fleet.ssm.instance_role : Name the ports that are open to everyone").get("skipped")
    closed = estate.run(network="report", open_ports="close").check()
    assert [rule["changed"] for rule in report(closed)["open_ports"]] == [True]
    required = estate.run(network="require")
    assert (
        required.returncode
        and "no endpoint for com.amazonaws.eu-central-1.ssm" in required.result("fleet.ssm.instance_role : Say what was refused or is wrong")["msg"]
    )


def test_variables_that_cannot_be_meant_stop_it_before_anything_is_asked(estate: Estate) -> None:
    estate.lab.reset_requests()
    run = estate.run(estate=ESTATE, path="fleet")
    assert run.returncode and "Set instance_role_filters" in run.stdout and "instance_role_path must begin and end with /" in run.stdout
    activations = [{"name": "one", "parameter": "/one", "account": "typo", "region": REGIONS[0]}, {"name": "two", "parameter": "/two"}]
    run = estate.run(estate={**ESTATE, "regions": "all", "filters": {"tag:Fleet": estate.name}}, activations=activations)
    assert run.returncode and all(f"The activation {name} needs one account and one region" in run.stdout for name in ("one", "two"))
    assert estate.lab.requests().total == 0
