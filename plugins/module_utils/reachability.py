# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether instances reach the services that an agent needs: judged from subnets, routes, endpoints and security groups. No I/O.

A service is reached over the subnet's default route, or through an endpoint of the VPC: an interface endpoint stands for the service's name in the whole
VPC once its private DNS is on, a gateway endpoint (S3) in the route tables that it names. An interface endpoint that lets nobody in is worse than none,
since the name leads to it whatever the routes are. Network ACLs, policies of endpoints, and what lies behind a transit gateway or firewall are not judged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .security_rules import SecurityRule

#: What agents speak to; S3 holds their updates, and outputs of commands.
SERVICES = ("ssm", "ssmmessages", "ec2messages", "s3")
HTTPS = 443
_DEFAULT_ROUTE = "0.0.0.0/0"


@dataclass(frozen=True)
class RouteTable:
    """One that subnets have."""

    table_id: str
    default: str = ""  #: where its default route leads: igw-…, nat-…, tgw-… and so on; empty if it has none
    blackhole: bool = False  #: what the default route leads to is not there any more


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a VPC."""

    endpoint_id: str
    service: str  #: com.amazonaws.REGION.NAME
    gateway: bool
    available: bool
    private_dns: bool
    groups: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Vpc:
    """What instances of a VPC may use."""

    vpc_id: str
    endpoints: tuple[Endpoint, ...] = ()
    dns: bool = True  #: both of its attributes, for DNS support and DNS host names, are on


@dataclass(frozen=True)
class Stand:
    """Instances that stand alike: in the same subnet, with or without public addresses, in the same security groups."""

    subnet_id: str
    cidr: str
    public: bool
    groups: frozenset[str]
    table: RouteTable | None  #: None if it cannot be seen, as that of a subnet that another account shares


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what to do about it, each without a full stop."""

    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


@dataclass(frozen=True)
class Way:
    """How a service is reached."""

    name: str  #: ssm, …
    service: str  #: as endpoints are called
    through: str = ""  #: the id of an endpoint, gateway or interface; empty if it is not reached
    fault: Fault | None = None
    endpoint: str = ""  #: the endpoint that is wrong


@dataclass(frozen=True)
class Judgement:
    """Of one stand."""

    ways: tuple[Way, ...]
    fault: Fault | None = None  #: of all of them

    @property
    def unreached(self) -> list[str]:
        """Names of services."""
        return [way.name for way in self.ways if way.fault or self.fault]

    @property
    def missing(self) -> list[str]:
        """Endpoints that would help."""
        return [way.service for way in self.ways if way.fault and not way.endpoint]

    @property
    def faults(self) -> list[Fault]:
        """All that is wrong; of ways that are lost for the same reason one."""
        if self.fault:
            return [self.fault]
        found = [Fault(f"{way.service} ({way.endpoint}): {way.fault.problem}", way.fault.remedy) for way in self.ways if way.fault and way.endpoint]
        lost = [way.fault for way in self.ways if way.fault and not way.endpoint]
        if lost:
            what = "it" if len(lost) == 1 else "them"
            found.append(Fault(f"{lost[0].problem}, and there is no endpoint for {', '.join(self.missing)}", f"make {what}, or a NAT gateway"))
        return found


@dataclass
class Groups:
    """The rules of all security groups that matter."""

    rules: dict[str, list[SecurityRule]] = field(default_factory=dict)

    def lets_out(self, groups: Collection[str]) -> bool:
        """Whether HTTPS may leave, to wherever."""
        return any(rule.egress and rule.covers(HTTPS) for group in groups for rule in self.rules.get(group, ()))

    def lets_in(self, groups: Collection[str], stand: Stand) -> bool:
        """Whether HTTPS of such instances may enter."""
        rules = (rule for group in groups for rule in self.rules.get(group, ()))
        return any(not rule.egress and rule.covers(HTTPS) and rule.is_for(stand.cidr, stand.groups) for rule in rules)


def service_name(name: str, region: str) -> str:
    """What an endpoint for a service is called; in China most have a prefix more."""
    prefix = "cn." if region.startswith("cn-") and name != "s3" else ""
    return f"{prefix}com.amazonaws.{region}.{name}"


def judge(stand: Stand, vpc: Vpc, groups: Groups, names: Sequence[str], region: str) -> Judgement:
    """How instances that stand so reach each of the services."""
    out = _way_out(stand)
    ways = tuple(_way(name, stand, vpc, groups, region, out) for name in names)
    if not stand.groups or groups.lets_out(stand.groups):
        return Judgement(ways)
    return Judgement(ways, Fault(f"no security group of theirs ({', '.join(sorted(stand.groups))}) lets HTTPS out", "add an egress rule for port 443"))


def _way(name: str, stand: Stand, vpc: Vpc, groups: Groups, region: str, out: str | Fault) -> Way:
    service = service_name(name, region)
    wrong: Way | None = None
    for endpoint in vpc.endpoints:
        if endpoint.service != service:
            continue
        trouble = _trouble(endpoint, stand, vpc, groups)
        if not trouble:
            return Way(name, service, endpoint.endpoint_id)
        decisive = _stands_for_the_name(endpoint, vpc)
        if decisive or (isinstance(out, Fault) and wrong is None):
            wrong = Way(name, service, "", trouble, endpoint.endpoint_id)
    if wrong is not None:
        return wrong
    return Way(name, service, "", out) if isinstance(out, Fault) else Way(name, service, out)


def _stands_for_the_name(endpoint: Endpoint, vpc: Vpc) -> bool:
    return not endpoint.gateway and endpoint.available and endpoint.private_dns and vpc.dns


def _trouble(endpoint: Endpoint, stand: Stand, vpc: Vpc, groups: Groups) -> Fault | None:
    """Why an endpoint is of no use."""
    if not endpoint.available:
        return Fault("it is not available")
    if endpoint.gateway:
        if stand.table is not None and stand.table.table_id not in endpoint.tables:
            return Fault(f"it is not in the subnet's route table {stand.table.table_id}", "add it")
        return None
    if not endpoint.private_dns:
        return Fault("its private DNS is off", "turn it on")
    if not vpc.dns:
        return Fault(f"its private DNS needs DNS support and DNS host names, which are off in {vpc.vpc_id}", "turn them on")
    if not groups.lets_in(endpoint.groups, stand):
        doors = ", ".join(sorted(endpoint.groups))
        return Fault(f"its security groups ({doors}) let no HTTPS in from the subnet {stand.cidr}", "add an ingress rule for port 443")
    return None


def _way_out(stand: Stand) -> str | Fault:
    """Where the default route leads, or why that is of no use."""
    table = stand.table
    if table is None:
        return "unknown"  # not ours to see, so not ours to blame
    if not table.default:
        return Fault(f"route table {table.table_id} has no default route")
    if table.blackhole:
        return Fault(f"the default route of {table.table_id} leads to {table.default}, which is not there any more")
    if table.default.startswith("igw-") and not stand.public:
        return Fault(f"the default route of {table.table_id} leads to {table.default}, but the instances have no public address")
    return table.default


def default_route(routes: Sequence[Mapping[str, str]]) -> tuple[str, bool]:
    """Where the default route of a table leads, and whether that is gone. :param routes: as DescribeRouteTables has them."""
    for route in routes:
        if route.get("DestinationCidrBlock") == _DEFAULT_ROUTE:
            ids = (value for key, value in route.items() if key.endswith("Id") and key not in ("InstanceOwnerId", "DestinationPrefixListId"))
            # An instance as a router has an interface too: either names it.
            return next(ids, route.get("CoreNetworkArn", "unknown")), route.get("State") == "blackhole"
    return "", False
