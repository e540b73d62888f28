# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each cause for which a node is not online, made in the lab and found from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.local import ROLE, Local
from tests.integration.modules.test_instance_profile_association import make_profile
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

HUB, OTHER = "111111111111", "222222222222"
REGIONS = ["eu-central-1", "us-east-1"]
BOTH = {"regions": REGIONS, "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}
LONG = 7200.0  #: seconds for which instances have been there
NONE = {"kind": "none", "account": HUB, "region": REGIONS[0], "age": LONG}
SIMULATED = {**NONE, "kind": "simulated"}
HYBRID = {"kind": "simulated", "hybrid": True, "account": HUB, "region": REGIONS[0]}


@pytest.fixture(scope="module")
def clinic() -> Iterator[Lab]:
    with Lab([], settings={"connection_lost_after": 0, "latest_agent": "3.3.0.0"}) as lab:
        make_profile(lab, "App")
        yield lab


@pytest.fixture
def local(clinic: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", clinic)
    clinic.clear_permissions()
    clinic.settings(node_policies=False)


def add(lab: Lab, **values: Any) -> LabNode:
    return lab.add({"name": "it", **values})[0]


def examine(local: Local, *nodes: str, **options: Any) -> dict[str, Any]:
    """The report on some nodes."""
    return local("node_health", **{"region": REGIONS[0], "instance_ids": list(nodes), **options})


def causes(node: dict[str, Any]) -> list[str]:
    return [f"{cause['likelihood']} {cause['cause']}" for cause in node["causes"]]


# One thing is wrong with each of these.


def with_metadata(lab: Lab, **options: Any) -> str:
    node = add(lab, **NONE)
    lab.client("ec2").modify_instance_metadata_options(InstanceId=node.node_id, **options)
    return node.node_id


def with_profile_that_came_late(lab: Lab) -> str:
    node = add(lab, **NONE, profile=None)
    lab.client("ec2").associate_iam_instance_profile(InstanceId=node.node_id, IamInstanceProfile={"Name": "FleetNode"})
    return node.node_id


def with_profile_without_role(lab: Lab) -> str:
    make_profile(lab, "Emptied")
    node = add(lab, **NONE, profile="Emptied")
    lab.client("iam").remove_role_from_instance_profile(InstanceProfileName="Emptied", RoleName="EmptiedRole")
    return node.node_id


def with_profile_that_is_deleted(lab: Lab) -> str:
    make_profile(lab, "Gone")
    node = add(lab, **NONE, profile="Gone")
    lab.client("iam").remove_role_from_instance_profile(InstanceProfileName="Gone", RoleName="GoneRole")
    lab.client("iam").delete_instance_profile(InstanceProfileName="Gone")
    return node.node_id


def registered_from_its_image(lab: Lab) -> str:
    node = add(lab, **NONE)
    (reservation,) = lab.client("ec2").describe_instances(InstanceIds=[node.node_id])["Reservations"]
    add(lab, **HYBRID, options={"machines": [["image", reservation["Instances"][0]["PrivateIpAddress"]]]})
    return node.node_id


def registered_again(lab: Lab) -> str:
    machine = {"machines": [["edge", "10.1.1.1"]]}
    add(lab, **HYBRID, options=machine)
    return add(lab, **{**HYBRID, "kind": "none"}, registered=True, options=machine).node_id


ILL: dict[str, tuple[Callable[[Lab], str], str, list[str]]] = {
    "stopped": (lambda lab: add(lab, **NONE, state="stopped").node_id, "stopped", ["certain instance_stopped"]),
    "new": (lambda lab: add(lab, **{**NONE, "age": 0}).node_id, "never_registered", ["likely instance_starting", "possible agent_not_running"]),
    "without a profile": (lambda lab: add(lab, **NONE, profile=None).node_id, "never_registered", ["certain no_role"]),
    "without permission": (lambda lab: add(lab, **NONE, profile="App").node_id, "never_registered", ["certain role_without_permission"]),
    "profile without a role": (with_profile_without_role, "never_registered", ["certain role_missing"]),
    "profile deleted": (with_profile_that_is_deleted, "never_registered", ["certain role_missing"]),
    "profile that came late": (with_profile_that_came_late, "never_registered", ["likely agent_back_off", "possible agent_not_running"]),
    "no agent": (lambda lab: add(lab, **NONE).node_id, "never_registered", ["likely agent_not_running", "possible clock_wrong"]),
    "checks fail": (
        lambda lab: add(lab, **NONE, options={"checks": {"instance": "impaired", "system": "impaired"}}).node_id, "never_registered",
        ["certain status_check_failed"],
    ),
    "metadata disabled": (lambda lab: with_metadata(lab, HttpEndpoint="disabled"), "never_registered", ["certain metadata_disabled"]),
    "hop limit": (
        lambda lab: with_metadata(lab, HttpTokens="required", HttpPutResponseHopLimit=1, HttpEndpoint="enabled"), "never_registered",
        ["likely agent_not_running", "possible clock_wrong", "possible hop_limit"],
    ),
    "agent stopped": (lambda lab: add(lab, **NONE, registered=True).node_id, "lost", ["likely agent_stopped", "possible clock_wrong"]),
    "profile taken away": (lambda lab: add(lab, **NONE, registered=True, profile=None).node_id, "lost", ["certain no_role"]),
    "registered from its image": (registered_from_its_image, "never_registered", ["likely registered_as_hybrid"]),
    "registered again": (registered_again, "lost", ["likely registered_again", "possible machine_away"]),
    "old agent": (lambda lab: add(lab, **SIMULATED, agent_version="3.1.0.0").node_id, "outdated", ["certain agent_outdated"]),
    "well": (lambda lab: add(lab, **SIMULATED).node_id, "online", []),
}  # fmt: skip


@pytest.fixture(scope="module")
def ill(clinic: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The report on all of them, by what is wrong."""
    ids = {name: make(clinic) for name, (make, _status, _causes) in ILL.items()}
    result = examine(Local(tmp_path_factory.mktemp("controller"), clinic), *ids.values())
    assert result["unchecked"] == [] and result["errors"] == []
    found = {node["instance_id"]: node for node in result["nodes"]}
    return {name: found[node_id] for name, node_id in ids.items()}


@pytest.mark.parametrize("name", ILL)
def test_what_is_wrong_with_it(ill: dict[str, dict[str, Any]], name: str) -> None:
    _make, status, expected = ILL[name]
    assert ill[name]["status"] == status
    assert causes(ill[name])[: len(expected) or None] == expected


def test_causes_name_what_is_meant_and_what_to_do(ill: dict[str, dict[str, Any]]) -> None:
    permission = ill["without permission"]["causes"][0]
    assert "AppRole is not allowed ssm:UpdateInstanceInformation, ssmmessages:CreateControlChannel" in permission["sentence"]
    assert "AmazonSSMManagedInstanceCore" in permission["remedy"]
    late = ill["profile that came late"]["causes"][0]
    assert "came 120 minutes after its start" in late["sentence"] and "Restart the agent" in late["remedy"] and "by itself until 20" in late["remedy"]
    assert "3.1.0.0 is not the latest" in ill["old agent"]["causes"][0]["sentence"]


def private_instance(lab: Lab, *services: str, gateway: bool = False, closed: bool = False) -> str:
    """An instance in a network of its own without a way out, with some endpoints, which may be closed."""
    ec2 = lab.client("ec2")
    network = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=network, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.9.0.0/24")["Subnet"]["SubnetId"]
    doors = ec2.create_security_group(GroupName="doors", Description="doors", VpcId=network)["GroupId"]
    if not closed:
        https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}
        ec2.authorize_security_group_ingress(GroupId=doors, IpPermissions=[https])
    for service in services:
        named = {"ServiceName": f"com.amazonaws.{REGIONS[0]}.{service}", "VpcEndpointType": "Interface", "PrivateDnsEnabled": True}
        ec2.create_vpc_endpoint(VpcId=network, SubnetIds=[subnet], SecurityGroupIds=[doors], **named)
    if gateway:
        internet = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=internet, VpcId=network)
        table = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [network]}])["RouteTables"][0]["RouteTableId"]
        ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=internet)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    started = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet, IamInstanceProfile={"Name": "FleetNode"})
    return str(started["Instances"][0]["InstanceId"])


def test_a_private_network_without_a_way_out(local: Local) -> None:
    nothing, half, whole = (private_instance(local.lab, *services) for services in ((), ("ssm",), ("ssm", "ssmmessages")))
    public, closed = private_instance(local.lab, gateway=True), private_instance(local.lab, "ssm", "ssmmessages", closed=True)
    found = {node["instance_id"]: node["causes"] for node in examine(local, nothing, half, whole, public, closed)["nodes"]}
    assert {found[blocked][0]["cause"] for blocked in (nothing, half, public, closed)} == {"no_route"}
    assert "let no HTTPS in from the subnet 10.9.0.0/24" in found[closed][0]["sentence"] and "dd an ingress rule for port 443" in found[closed][0]["remedy"]
    assert "com.amazonaws.eu-central-1.ssm, com.amazonaws.eu-central-1.ssmmessages" in str(found[nothing][0])
    assert "eu-central-1.ssmmessages" in str(found[half][0]) and "eu-central-1.ssm," not in str(found[half][0])
    assert "no public address" in found[public][0]["sentence"]
    assert "no_route" not in {cause["cause"] for cause in found[whole]}


def test_clones_that_share_an_id(local: Local) -> None:
    clones = add(local.lab, **HYBRID, options={"machines": [["one", "10.2.2.1"], ["two", "10.2.2.2"]]})
    single = add(local.lab, **HYBRID)
    seen = examine(local, clones.node_id, single.node_id, observe=1)["nodes"]
    found = {node["instance_id"]: node for node in seen}
    assert found[clones.node_id]["status"] == "online" and causes(found[clones.node_id]) == ["certain several_agents"]
    assert all(machine in found[clones.node_id]["causes"][0]["sentence"] for machine in ("one (10.2.2.1)", "two (10.2.2.2)"))
    assert causes(found[single.node_id]) == []
    later = examine(local, clones.node_id, earlier=[{**found[clones.node_id], "computer_name": "zero"}])["nodes"]
    assert causes(later[0]) == ["likely several_agents"]


def test_the_account_has_a_default_role(local: Local) -> None:
    ssm, setting = local.lab.client("ssm"), "/ssm/managed-instance/default-ec2-instance-management-role"
    node = add(local.lab, **NONE, profile=None)
    ssm.update_service_setting(SettingId=setting, SettingValue="service-role/Default")
    try:
        assert causes(examine(local, node.node_id)["nodes"][0])[0] == "likely default_role_unused"
    finally:
        ssm.update_service_setting(SettingId=setting, SettingValue="$None")


def test_who_may_not_simulate_reads_policies(local: Local) -> None:
    node, inline = add(local.lab, **NONE, profile="App"), add(local.lab, **NONE)
    local.lab.deny("iam:SimulatePrincipalPolicy")
    result = examine(local, node.node_id, inline.node_id)
    found = {each["instance_id"]: causes(each)[0] for each in result["nodes"]}
    assert found == {node.node_id: "certain role_without_permission", inline.node_id: "likely agent_not_running"} and result["unchecked"] == []


def test_what_may_not_be_asked_is_told(local: Local) -> None:
    node = add(local.lab, **NONE, profile="App")
    for action in ("iam:SimulatePrincipalPolicy", "iam:ListAttachedRolePolicies", "ec2:DescribeRouteTables", "ec2:DescribeInstanceStatus"):
        local.lab.deny(action)
    result = examine(local, node.node_id)
    assert causes(result["nodes"][0])[0] == "likely agent_back_off"  # its profile is younger than it
    told = "\n".join(result["unchecked"])
    assert "iam:ListAttachedRolePolicies is not allowed" in told and "So what the role AppRole allows could not be looked at." in told
    assert "ec2:DescribeRouteTables is not allowed" in told and "ec2:DescribeInstanceStatus is not allowed" in told


def test_two_accounts_one_of_which_refuses(local: Local) -> None:
    one, two = add(local.lab, **SIMULATED, tags={"Set": "both"}), add(local.lab, **{**NONE, "account": OTHER, "region": REGIONS[1]}, tags={"Set": "both"})
    result = local("node_health", **BOTH, filters={"tag:Set": "both"})
    assert {node["instance_id"]: (node["status"], node["account_name"]) for node in result["nodes"]} == {
        one.node_id: ("online", "one"), two.node_id: ("never_registered", "two"),
    }  # fmt: skip
    assert result["counts"] == {"online": 1, "outdated": 0, "lost": 0, "never_registered": 1, "stopped": 0} and result["causes"] == {"agent_not_running": 1}
    local.lab.deny("ec2:DescribeInstances", principal="FleetOperator")
    result = local("node_health", **BOTH, filters={"tag:Set": "both"})
    assert [node["instance_id"] for node in result["nodes"]] == [one.node_id] and "ec2:DescribeInstances is not allowed" in result["errors"][0]


def test_calls_are_few(local: Local) -> None:
    local.lab.simulate(60, prefix="many", tags={"Set": "well"}, region=REGIONS[0], account=HUB)
    local.lab.reset_requests()
    assert examine(local, filters={"tag:Set": "well"}, problems_only=True, hybrid=False)["nodes"] == []
    assert local.lab.requests().counts == {"ec2:DescribeInstances": 1, "ssm:DescribeInstanceInformation": 2}
    for _number in range(30):
        add(local.lab, **NONE, tags={"Set": "ill"})
    local.lab.reset_requests()
    result = examine(local, filters={"tag:Set": "ill"}, hybrid=False)
    assert result["counts"]["never_registered"] == 30
    counts = local.lab.requests().counts
    assert counts.pop("ec2:DescribeInstances") == counts.pop("ssm:DescribeInstanceInformation") == 1
    assert counts["iam:GetInstanceProfile"] == counts["iam:SimulatePrincipalPolicy"] == 1 and sum(counts.values()) <= 11


# With agents that run: what they themselves suffer is what the module says.


@pytest.mark.slow
def test_an_agent_in_its_back_off_comes_when_it_is_restarted(local: Local) -> None:
    node = add(local.lab, account=HUB, region=REGIONS[0], age=LONG, profile=None, options={"credentials_retry": 3600})
    assert causes(examine(local, node.node_id)["nodes"][0]) == ["certain no_role"]
    local.lab.client("ec2").associate_iam_instance_profile(InstanceId=node.node_id, IamInstanceProfile={"Name": "FleetNode"})
    assert causes(examine(local, node.node_id)["nodes"][0])[0] == "likely agent_back_off"
    node.restart_agent()
    assert examine(local, node.node_id)["nodes"][0]["status"] == "online"


@pytest.mark.slow
def test_a_wrong_clock_shows_on_the_console(local: Local) -> None:
    node = add(local.lab, account=HUB, region=REGIONS[0], age=LONG, state="stopped", options={"clock_offset": 3600, "console": True})
    node.start(wait=False)
    eventually(lambda: "Signature expired" in str(local.lab.client("ec2").get_console_output(InstanceId=node.node_id)["Output"]))
    (found,) = examine(local, node.node_id)["nodes"]
    assert found["status"] == "never_registered" and causes(found)[:2] == ["likely agent_not_running", "possible clock_wrong"]
    (found,) = examine(local, node.node_id, console=True)["nodes"]
    assert causes(found)[0] == "likely clock_wrong"


@pytest.mark.slow
def test_an_agent_whose_role_allows_nothing(local: Local) -> None:
    local.lab.settings(node_policies=True)
    node = add(local.lab, account=HUB, region=REGIONS[0], age=LONG, state="stopped", profile="App", options={"console": True})
    node.start(wait=False)
    eventually(lambda: "AccessDenied" in str(local.lab.client("ec2").get_console_output(InstanceId=node.node_id)["Output"]))
    assert causes(examine(local, node.node_id)["nodes"][0])[0] == "certain role_without_permission"
    good = add(local.lab, account=HUB, region=REGIONS[0])  # what AmazonSSMManagedInstanceCore allows is enough
    assert examine(local, good.node_id)["nodes"][0]["status"] == "online"


@pytest.mark.slow
def test_an_agent_that_stopped(local: Local) -> None:
    node = add(local.lab, account=HUB, region=REGIONS[0], age=LONG, options={"restart_sec": 3600})
    node.kill_agent()
    eventually(lambda: examine(local, node.node_id)["nodes"][0]["status"] == "lost")
    assert causes(examine(local, node.node_id)["nodes"][0])[0] == "likely agent_stopped"


def test_nodes_that_are_on_their_way_are_waited_for(local: Local) -> None:
    lab = local.lab
    node = add(lab, kind="simulated", account=HUB, region=REGIONS[0], profile=None, options={"credentials_retry": 3})
    lab.client("ec2").associate_iam_instance_profile(InstanceId=node.node_id, IamInstanceProfile={"Name": "FleetNode"})
    assert examine(local, node.node_id)["counts"]["never_registered"] == 1
    lab.reset_requests()
    assert examine(local, node.node_id, wait_timeout=60)["counts"]["online"] == 1
    assert lab.requests().counts["ssm:DescribeInstanceInformation"] > 1
