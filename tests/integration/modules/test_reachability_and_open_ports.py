# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subnets that cannot reach Systems Manager, and ports that are open to everyone, in two accounts and regions of the lab."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.modules import open_ports, reachability_info
from tests.integration.modules.local import OTHER_ACCOUNT, ROLE, Local
from tests.integration.waiting import eventually
from tests.lab import Lab, LabNode

HUB, REGION, FAR = "111111111111", "eu-central-1", "us-east-1"
HERE = {"region": REGION}
BOTH = {"regions": [REGION, FAR], "accounts": [{"name": "one"}, {"name": "two", "role_arn": ROLE}]}
SERVICES = ["ssm", "ssmmessages", "ec2messages", "s3"]
EVERYONE = [{"CidrIp": "0.0.0.0/0"}]
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def company() -> Iterator[Lab]:
    with Lab([], settings={"connection_lost_after": 0}) as lab:
        yield lab


@pytest.fixture
def local(company: Lab, tmp_path: Path) -> Iterator[Local]:
    yield Local(tmp_path / "controller", company)
    company.clear_permissions()
    company.clear_faults()
    company.settings(connection_lost_after=0)


@pytest.fixture
def group() -> str:
    """The tag of this test's instances."""
    return f"group-{next(numbers)}"


class Network:
    """A VPC of an account with one private subnet, and its instances."""

    def __init__(self, lab: Lab, group: str, account: str = HUB, region: str = REGION) -> None:
        self.ec2, self.region, self._group = lab.client("ec2", account=account, region=region), region, group
        self.vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnet = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        (self.table,) = (table["RouteTableId"] for table in self.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["RouteTables"])
        self.nodes = self.security_group("nodes")

    def security_group(self, name: str) -> str:
        made: str = self.ec2.create_security_group(GroupName=f"{name}-{next(numbers)}", Description=name, VpcId=self.vpc)["GroupId"]
        return made

    def launch(self) -> str:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Group", "Value": self._group}]}]
        image = self.ec2.describe_images()["Images"][0]["ImageId"]
        made = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=self.subnet, SecurityGroupIds=[self.nodes], TagSpecifications=tags)
        return str(made["Instances"][0]["InstanceId"])

    def endpoint(self, name: str, security_group: str | None = None, **options: Any) -> str:
        service = f"com.amazonaws.{self.region}.{name}"
        if name == "s3":
            given: dict[str, Any] = {"VpcEndpointType": "Gateway", "RouteTableIds": [self.table]}
        else:
            given = {"VpcEndpointType": "Interface", "SubnetIds": [self.subnet], "SecurityGroupIds": [security_group], "PrivateDnsEnabled": True}
        made: str = self.ec2.create_vpc_endpoint(VpcId=self.vpc, ServiceName=service, **{**given, **options})["VpcEndpoint"]["VpcEndpointId"]
        return made

    def dns(self, on: bool) -> None:
        for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
            self.ec2.modify_vpc_attribute(VpcId=self.vpc, **{attribute: {"Value": on}})

    def let_in(self, security_group: str, port: int = 443, source: str = "10.0.0.0/16") -> None:
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": source}]}
        self.ec2.authorize_security_group_ingress(GroupId=security_group, IpPermissions=[permission])


@pytest.fixture
def network(company: Lab, group: str) -> Network:
    return Network(company, group)


def by_tag(group: str) -> dict[str, Any]:
    return {"filters": {"tag:Group": group}}


def test_endpoints_that_a_private_subnet_lacks_are_named_until_all_are_there(local: Local, network: Network, group: str) -> None:
    instance = network.launch()
    (found,) = local("reachability_info", **HERE, **by_tag(group))["subnets"]
    assert (found["vpc_id"], found["subnet_id"], found["instance_ids"], found["account_id"]) == (network.vpc, network.subnet, [instance], HUB)
    assert not found["reaches"] and found["unreached"] == SERVICES
    assert found["missing_endpoints"] == [f"com.amazonaws.{REGION}.{name}" for name in SERVICES]

    doors = network.security_group("endpoints")
    ids = [network.endpoint(name, doors) for name in SERVICES]
    network.dns(True)
    result = local("reachability_info", **HERE, **by_tag(group))
    (found,) = result["subnets"]
    assert found["unreached"] == SERVICES[:3] and found["missing_endpoints"] == [] and f"its security groups ({doors}) let no HTTPS in" in found["problem"]
    assert result["problems"][0].startswith(f"{network.subnet} of {network.vpc} ({HUB}, {REGION}), 1 instance does not reach ssm, ssmmessages, ec2messages: ")

    network.let_in(doors)
    result = local("reachability_info", **HERE, **by_tag(group))
    (found,) = result["subnets"]
    assert found["reaches"] and not found["problem"] and result["problems"] == [] and [each["through"] for each in found["services"]] == ids


@pytest.mark.slow
def test_private_dns_needs_the_vpcs_dns(local: Local, network: Network, group: str) -> None:
    network.launch()
    doors = network.security_group("endpoints")
    network.let_in(doors)
    network.endpoint("ssm", doors)
    network.dns(False)
    (found,) = local("reachability_info", **HERE, **by_tag(group), services=["ssm"])["subnets"]
    assert f"which are off in {network.vpc}" in found["problem"]


@pytest.mark.slow
def test_ways_out(local: Local, network: Network, group: str) -> None:
    network.launch()
    gateway = network.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    network.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=network.vpc)
    network.ec2.create_route(RouteTableId=network.table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    (found,) = local("reachability_info", **HERE, **by_tag(group))["subnets"]
    assert f"leads to {gateway}, but the instances have no public address" in found["problem"]
    # A route table of the subnet's own, with a NAT gateway.
    table = network.ec2.create_route_table(VpcId=network.vpc)["RouteTable"]["RouteTableId"]
    network.ec2.associate_route_table(RouteTableId=table, SubnetId=network.subnet)
    nat = network.ec2.create_nat_gateway(SubnetId=network.subnet, AllocationId=network.ec2.allocate_address()["AllocationId"])["NatGateway"]["NatGatewayId"]
    network.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    (found,) = local("reachability_info", **HERE, **by_tag(group))["subnets"]
    assert found["reaches"] and {each["through"] for each in found["services"]} == {nat}


@pytest.mark.slow
def test_all_accounts_and_regions_are_looked_at_and_one_that_refuses_is_told(local: Local, group: str) -> None:
    for account, region in ((HUB, REGION), (OTHER_ACCOUNT, FAR)):
        Network(local.lab, group, account, region).launch()
    found = local("reachability_info", **BOTH, **by_tag(group))["subnets"]
    assert [(each["account_name"], each["region"]) for each in found] == [("one", REGION), ("two", FAR)]
    local.lab.deny("ec2:DescribeVpcEndpoints", principal="FleetOperator")
    result = local("reachability_info", **BOTH, **by_tag(group))
    assert [each["account_name"] for each in result["subnets"]] == ["one"] and "ec2:DescribeVpcEndpoints is not allowed" in result["errors"][0]
    assert local.fail("reachability_info", **BOTH, **by_tag(group), strict=True)["subnets"]


Start = Callable[..., LabNode]


@pytest.fixture
def start(company: Lab, group: str) -> Start:
    """Makes a node that answers, whose only security group is the one that is given."""

    def launch(security_group: str, *, account: str = HUB, region: str = REGION, tag: str = group, **values: Any) -> LabNode:
        chosen = {"kind": "simulated", "account": account, "region": region, "tags": {"Group": tag}, **values}
        (node,) = company.add({"name": f"{group}-{next(numbers)}", **chosen})
        put_behind(company, node, security_group)
        return node

    return launch


def put_behind(lab: Lab, node: LabNode, security_group: str) -> None:
    """Give an instance this security group alone."""
    ec2, ours = lab.client("ec2", account=node.account, region=node.region), [{"Name": "attachment.instance-id", "Values": [node.node_id]}]
    interface = ec2.describe_network_interfaces(Filters=ours)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[security_group])
    ec2.modify_instance_attribute(InstanceId=node.node_id, Groups=[security_group])


def end(lab: Lab, node: LabNode) -> None:
    """Terminate a node; its network interface goes with it, which moto leaves."""
    ec2, ours = lab.client("ec2", region=REGION), [{"Name": "attachment.instance-id", "Values": [node.node_id]}]
    interfaces = ec2.describe_network_interfaces(Filters=ours)["NetworkInterfaces"]
    node.terminate()
    for interface in interfaces:
        ec2.delete_network_interface(NetworkInterfaceId=interface["NetworkInterfaceId"])


def make_group(lab: Lab, *permissions: dict[str, Any], account: str = HUB, region: str = REGION) -> str:
    """A security group with rules that let people in."""
    ec2 = lab.client("ec2", account=account, region=region)
    made: str = ec2.create_security_group(GroupName=f"open-{next(numbers)}", Description="open")["GroupId"]
    for permission in permissions:
        ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[permission])
    return made


def tcp(first: int, last: int | None = None, ranges: list[dict[str, str]] | None = None, **rest: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": first, "ToPort": last or first, "IpRanges": EVERYONE if ranges is None else ranges, **rest}


def sources(lab: Lab, security_group: str) -> list[tuple[int, str]]:
    """What a security group lets in, by first port."""
    filters = [{"Name": "group-id", "Values": [security_group]}]
    rules = lab.client("ec2", region=REGION).describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
    return sorted((rule["FromPort"], rule.get("CidrIpv4") or rule["CidrIpv6"]) for rule in rules if not rule["IsEgress"])


def test_ports_are_closed_once_every_node_answers_and_never_before(local: Local, start: Start, group: str) -> None:
    office = [{"CidrIp": "198.51.100.0/24"}]
    door = make_group(local.lab, tcp(22, ranges=[], Ipv6Ranges=[{"CidrIpv6": "::/0"}]), tcp(22), tcp(22, ranges=office), tcp(443))
    good, silent = start(door), start(door, kind="none")
    outsider = start(door, kind="none", tag="another")
    told = local("open_ports", **HERE, **by_tag(group))
    assert not told["changed"] and {rule["source"] for rule in told["rules"]} == {"0.0.0.0/0", "::/0"}
    assert [(each["instance_id"], each["answers"], each["ports"]) for each in told["instances"]] == sorted(
        [(good.node_id, True, [22]), (silent.node_id, False, [22])]
    )
    for waiting in ([silent, outsider], [outsider]):  # one that the task is about, and one that it is not
        kept = local("open_ports", "--diff", **HERE, **by_tag(group), close=True)
        assert not kept["changed"] and kept["diff"] == [] and not any(rule["closable"] for rule in kept["rules"])
        ids = ", ".join(sorted(node.node_id for node in waiting))
        assert {rule["reason"] for rule in kept["rules"]} == {f"used by instances that do not answer over Systems Manager: {ids}"}
        assert f"{door} ({HUB}, {REGION}) lets 0.0.0.0/0 in by 22 to " in "\n".join(kept["still_open"])
        end(local.lab, waiting[0])
    would = local("open_ports", "--check", "--diff", **HERE, **by_tag(group), close=True)
    assert would["changed"] and len(would["diff"]) == 2 and would["still_open"] == []
    assert sources(local.lab, door) == [(22, "0.0.0.0/0"), (22, "198.51.100.0/24"), (22, "::/0"), (443, "0.0.0.0/0")]
    done = local("open_ports", "--diff", **HERE, **by_tag(group), close=True)
    assert done["changed"] and done["diff"] == would["diff"] and all(rule["changed"] for rule in done["rules"])
    assert sources(local.lab, door) == [(22, "198.51.100.0/24"), (443, "0.0.0.0/0")]
    again = local("open_ports", **HERE, **by_tag(group), close=True)
    assert not again["changed"] and again["rules"] == again["instances"] == []


def test_a_node_that_is_online_and_takes_no_session_keeps_its_port(local: Local, start: Start, group: str) -> None:
    door = make_group(local.lab, tcp(22))
    node = start(door)
    local.lab.settings(connection_lost_after=600)  # its agent was heard by the endpoint ssm, and does not reach ssmmessages
    node.stop()
    known = local.lab.client("ssm", region=REGION).describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [node.node_id]}])
    assert known["InstanceInformationList"][0]["PingStatus"] == "Online"
    for mode in (["--check"], []):
        result = local("open_ports", *mode, **HERE, **by_tag(group), close=True)
        assert not result["changed"] and node.node_id in result["rules"][0]["reason"] and not result["instances"][0]["answers"]
    assert sources(local.lab, door) == [(22, "0.0.0.0/0")]


@pytest.mark.slow
def test_a_node_that_falls_silent_right_before_keeps_its_port(local: Local, start: Start, group: str) -> None:
    door = make_group(local.lab, tcp(22))
    node = start(door)
    local.lab.fault_calls("ssm:GetConnectionStatus", delay=3)
    local.lab.reset_requests()

    def fall_silent() -> None:
        eventually(lambda: local.lab.requests().counts.get("ssm:DescribeInstanceInformation", 0) == 1)
        node.stop()

    thread = threading.Thread(target=fall_silent)
    thread.start()
    try:
        (rule,) = local("open_ports", **HERE, **by_tag(group), close=True)["rules"]
    finally:
        thread.join()
    assert not rule["changed"] and node.node_id in rule["reason"] and sources(local.lab, door) == [(22, "0.0.0.0/0")]


@pytest.mark.slow
def test_rules_that_open_more_are_kept_unless_told_so(local: Local, start: Start, group: str) -> None:
    door = make_group(local.lab, tcp(0, 65535), {"IpProtocol": "-1", "IpRanges": EVERYONE}, tcp(3389))
    start(door)
    done = local("open_ports", **HERE, **by_tag(group), close=True)
    assert [(rule["from_port"], rule["ports"], rule["changed"]) for rule in sorted(done["rules"], key=lambda rule: rule["from_port"])] == [
        (-1, [22, 3389], False), (0, [22, 3389], False), (3389, [3389], True),
    ]  # fmt: skip
    assert all("it opens other ports as well" in rule["reason"] for rule in done["rules"] if not rule["changed"])
    local("open_ports", **HERE, **by_tag(group), close=True, wide_rules="close")
    assert sources(local.lab, door) == []


@pytest.mark.slow
def test_a_load_balancer_in_the_group_keeps_the_port_open(local: Local, start: Start, group: str) -> None:
    door = make_group(local.lab, tcp(22))
    start(door)
    ec2 = local.lab.client("ec2", region=REGION)
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    made = ec2.create_network_interface(SubnetId=subnet, Groups=[door], Description="ELB net/front")["NetworkInterface"]["NetworkInterfaceId"]
    (rule,) = local("open_ports", **HERE, **by_tag(group), close=True)["rules"]
    assert rule["reason"] == f"used by what is no instance, and so cannot answer: {made} (ELB net/front)" and not rule["changed"]


@pytest.mark.slow
def test_an_account_that_refuses_leaves_the_others_and_throttling_loses_nothing(local: Local, start: Start, group: str) -> None:
    doors = [make_group(local.lab, tcp(22), account=account, region=region) for account, region in ((HUB, REGION), (OTHER_ACCOUNT, FAR))]
    start(doors[0])
    start(doors[1], account=OTHER_ACCOUNT, region=FAR)
    local.lab.throttle("ec2:Describe*", rate=2)
    local.lab.deny("ec2:RevokeSecurityGroupIngress", principal="FleetOperator")
    result = local.fail("open_ports", **BOTH, **by_tag(group), close=True)
    assert result["errors"][0].startswith(f"account two, region {FAR}: ec2:RevokeSecurityGroupIngress is not allowed for")
    assert [(rule["account_name"], rule["changed"]) for rule in result["rules"]] == [("one", True), ("two", False)]
    local.lab.clear_permissions()
    local.lab.lose_replies("ec2:RevokeSecurityGroupIngress", count=1)
    assert local("open_ports", **BOTH, **by_tag(group), close=True)["changed"]


@pytest.mark.slow
def test_the_documentations_examples_run(local: Local, start: Start) -> None:
    door = make_group(local.lab, tcp(22))
    node = start(door, tags={"Env": "prod"})
    text = (open_ports.EXAMPLES + reachability_info.EXAMPLES).replace("FleetPlatform", "FleetOperator")
    run = local.controller.tasks(*yaml.safe_load(text)).check()
    assert [result["changed"] for _name, _host, result in run.tasks()] == [False, True, False, False]
    assert node.node_id and sources(local.lab, door) == []
