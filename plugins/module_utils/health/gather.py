# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask AWS for the evidence about nodes that are not online, with few calls, and none where all nodes are well.

For a region of an account: two calls of DescribeInstanceStatus, which name only instances whose checks fail; one GetServiceSetting; one
DescribeIamInstanceProfileAssociations for 200 of the instances; one for subnets, route tables, endpoints and rules of security groups each, and two for the
DNS of a network with endpoints. For each role: GetInstanceProfile and SimulatePrincipalPolicy. What the caller may not ask is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from ..aws_errors import error_code, is_denied
from ..collect import Answered, Collected
from ..filters import FILTER_VALUES
from ..nodes import Node
from ..problems import CollectError
from ..scope import Place, side_by_side
from .console import read_console
from .diagnosis import Status, profile_name, seconds, status_of
from .evidence import CORE_ACTIONS, Evidence, Machines, Metadata, RoleFacts, Way
from .policies import missing_actions
from .ways import ways

T = TypeVar("T")

#: What is read of EC2's instances beyond what makes a node (`ClientPool`).
DETAILS = frozenset({"MetadataOptions"})

_DEFAULT_ROLE = "/ssm/managed-instance/default-ec2-instance-management-role"
_UNFINISHED = ("impaired", "insufficient-data", "initializing")
#: Filters of DescribeInstanceStatus for what is wrong; two filters of one call must both match, so each is a call.
_CHECKS = {"instance": "instance-status.status", "system": "system-status.status"}
_MEMBERS = {"instance": "InstanceStatus", "system": "SystemStatus"}


@dataclass
class Gathered:
    """Evidence by node id, and what could not be asked."""

    evidence: dict[str, Evidence] = field(default_factory=dict)
    errors: list[CollectError] = field(default_factory=list)


def gather(found: Collected, *, max_workers: int, machines: Machines | None = None, console: bool = False) -> Gathered:
    """Look up what may explain the nodes that are not online. Never raises for what AWS refuses.

    :param machines: who was seen under the ids of hybrid nodes.
    :param console: whether to read the consoles, one call for each instance.
    """
    asked = Gathered()
    seen = machines or Machines()
    places = [_PlaceEvidence(answered, asked, seen, console) for answered in found.places]
    roles = _Roles(asked)
    for place in places:
        roles.want(place.place, place.ill)
    side_by_side(lambda job: job(), [*roles.jobs(), *(place.ask for place in places if place.running)], max_workers)
    for place in places:
        asked.evidence.update(place.evidence(roles))
    return asked


def _attempt(asked: Gathered, what: str, function: Callable[[], T], *, everywhere: bool = False) -> T | None:
    """The result of some calls; None, and a word about it, if AWS refuses them.

    :param what: what is not known then.
    :param everywhere: whether the service is the same in all regions.
    """
    try:
        return function()
    except CollectError as error:
        region = None if everywhere else error.region
        asked.errors.append(CollectError(error.account, region, error.action, error.text, f"So {what} could not be looked at.", error.cause))
        return None


class _PlaceEvidence:
    """One region of one account."""

    def __init__(self, answered: Answered, asked: Gathered, machines: Machines, console: bool) -> None:
        self.place = answered.place
        self._instances = answered.instances
        self._asked = asked
        self._machines = machines
        self._console = console
        self._hybrid = [node for node in answered.nodes if node["resource_type"] == "hybrid"]
        self._online_at: dict[str, list[Node]] = {}
        for node in answered.hybrid:
            if node["ping_status"] == "online" and node["private_ip_address"]:
                self._online_at.setdefault(node["private_ip_address"], []).append(node)
        self.ill = [node for node in answered.nodes if status_of(node) in (Status.LOST, Status.NEVER_REGISTERED)]
        self.running = [node for node in self.ill if node["resource_type"] == "ec2"]
        self._failed: dict[str, str] | None = None
        self._initializing: set[str] = set()
        self._default_role: str | None = None
        self._since: dict[str, float] = {}
        self._ways: dict[str, Way] = {}
        self._logs: dict[str, frozenset[str]] = {}

    def ask(self) -> None:
        """All calls for the place, one after another: places are asked side by side."""
        self._failed = _attempt(self._asked, "status checks", self._failed_checks)
        self._default_role = _attempt(self._asked, "the default host management configuration", self._ask_default_role)
        with_profile = [node["instance_id"] for node in self.running if node["instance_profile_arn"]]
        if with_profile:
            self._since = _attempt(self._asked, "when profiles were attached", partial(self._attached, with_profile)) or {}
        self._ways = _attempt(self._asked, "the ways through the network", partial(ways, self.place, self.running)) or {}
        for node in self.running if self._console else ():
            self._logs[node["instance_id"]] = _attempt(self._asked, "consoles", partial(self._read_console, node["instance_id"])) or frozenset()

    def evidence(self, roles: _Roles) -> dict[str, Evidence]:
        """What is known of each ill node, and of hybrid nodes that several machines share."""
        found = {node["instance_id"]: self._of(node, roles) for node in self.ill}
        for node in self._hybrid:
            node_id = node["instance_id"]
            seen = self._machines.of(node_id)
            if seen:
                found[node_id] = replace(found.get(node_id, Evidence()), machines=seen)
        return found

    def _of(self, node: Node, roles: _Roles) -> Evidence:
        node_id = node["instance_id"]
        if node["resource_type"] == "hybrid":
            return Evidence(role=roles.of(self.place, node), others=self._same_machine(node))
        return Evidence(
            metadata=_metadata(self._instances.get(node_id, {})),
            role=roles.of(self.place, node),
            default_role=self._default_role,
            profile_since=self._since.get(node_id),
            failed_check=None if self._failed is None else self._failed.get(node_id, ""),
            initializing=node_id in self._initializing,
            way=self._ways.get(node_id),
            log=self._logs.get(node_id, frozenset()),
            others=self._same_machine(node) if not node["managed"] else (),
        )

    def _same_machine(self, node: Node) -> tuple[str, ...]:
        """Hybrid nodes that are online at a node's address; of a hybrid node, with its name as well."""
        return tuple(
            other["instance_id"]
            for other in self._online_at.get(node["private_ip_address"], ())
            if other is not node and (node["resource_type"] == "ec2" or other["computer_name"] == node["computer_name"])
        )

    def _failed_checks(self) -> dict[str, str]:
        failed: dict[str, str] = {}
        for check, name in _CHECKS.items():
            filters = [{"Name": name, "Values": list(_UNFINISHED)}]
            for entry in self.place.pages("DescribeInstanceStatus", "InstanceStatuses", service="ec2", Filters=filters, MaxResults=1000):
                if entry[_MEMBERS[check]]["Status"] == "initializing":
                    self._initializing.add(entry["InstanceId"])
                else:
                    failed[entry["InstanceId"]] = check  # the system's failure, asked last, explains the instance's
        return failed

    def _ask_default_role(self) -> str:
        value = str(self.place.call("GetServiceSetting", SettingId=_DEFAULT_ROLE)["ServiceSetting"]["SettingValue"])
        return "" if value == "$None" else value

    def _attached(self, ids: Sequence[str]) -> dict[str, float]:
        operation, key = "DescribeIamInstanceProfileAssociations", "IamInstanceProfileAssociations"
        moments = {}
        for start in range(0, len(ids), FILTER_VALUES):
            filters = [{"Name": "instance-id", "Values": list(ids[start : start + FILTER_VALUES])}]
            for entry in self.place.pages(operation, key, service="ec2", Filters=filters, MaxResults=1000):
                moment = seconds(entry.get("Timestamp"))  # the model has it; whether EC2 always gives it was not tried
                if moment is not None:
                    moments[entry["InstanceId"]] = moment
        return moments

    def _read_console(self, instance_id: str) -> frozenset[str]:
        return read_console(str(self.place.call("GetConsoleOutput", service="ec2", InstanceId=instance_id).get("Output") or ""))


def _metadata(instance: Mapping[str, Any]) -> Metadata | None:
    options = instance.get("MetadataOptions")
    if not options:
        return None
    return Metadata(
        enabled=options.get("HttpEndpoint", "enabled") == "enabled",
        tokens_required=options.get("HttpTokens") == "required",
        hop_limit=int(options.get("HttpPutResponseHopLimit") or 1),
    )


class _Roles:
    """The roles of all accounts, each asked for once."""

    def __init__(self, asked: Gathered) -> None:
        self._asked = asked
        self._wanted: dict[tuple[int, str, str], tuple[Place, Node]] = {}
        self._facts: dict[tuple[int, str, str], RoleFacts | None] = {}

    def want(self, place: Place, nodes: Iterable[Node]) -> None:
        """Ask for the roles of these nodes."""
        for node in nodes:
            key = self._key(place, node)
            if key is not None:
                self._wanted.setdefault(key, (place, node))

    def jobs(self) -> list[Callable[[], None]]:
        def job(key: tuple[int, str, str], place: Place, node: Node) -> Callable[[], None]:
            def run() -> None:
                self._facts[key] = _attempt(self._asked, f"the role of {key[2]}", lambda: self._look(key, place, node), everywhere=True)

            return run

        return [job(key, place, node) for key, (place, node) in self._wanted.items()]

    def of(self, place: Place, node: Node) -> RoleFacts | None:
        key = self._key(place, node)
        return self._facts.get(key) if key is not None else None

    @staticmethod
    def _key(place: Place, node: Node) -> tuple[int, str, str] | None:
        """Account, kind and name. Accounts have one set of clients each."""
        if node["resource_type"] == "hybrid":
            return (id(place.clients), "role", node["iam_role"]) if node["iam_role"] else None
        profile = profile_name(node)
        return (id(place.clients), "profile", profile) if profile else None

    def _look(self, key: tuple[int, str, str], place: Place, node: Node) -> RoleFacts:
        name, created = key[2], None
        if key[1] == "profile":
            try:
                profile = place.call("GetInstanceProfile", service="iam", InstanceProfileName=name)["InstanceProfile"]
            except CollectError as error:
                if error_code(error) != "NoSuchEntity":
                    raise
                return RoleFacts(None)
            if not profile["Roles"]:
                return RoleFacts(None)
            name, arn, created = profile["Roles"][0]["RoleName"], profile["Roles"][0]["Arn"], seconds(profile.get("CreateDate"))
        else:
            name = name.rpartition("/")[2]
            arn = f"arn:{_partition(place.region)}:iam::{node['account_id']}:role/{key[2]}"
        return RoleFacts(name, created, self._missing(place, node, name, arn))

    def _missing(self, place: Place, node: Node, name: str, arn: str) -> frozenset[str] | None:
        try:
            denied = _simulate(place, arn, CORE_ACTIONS)
            if denied and node["resource_type"] == "ec2":  # the policy may be about instances alone, and not about "*"
                instance = f"arn:{_partition(place.region)}:ec2:{place.region}:{node['account_id']}:instance/{node['instance_id']}"
                denied = _simulate(place, arn, sorted(denied), instance)
            return denied
        except CollectError as error:
            if not is_denied(error):
                raise
            return _attempt(self._asked, f"what the role {name} allows", partial(_read_policies, place, name), everywhere=True)


def _simulate(place: Place, arn: str, actions: Sequence[str], *resources: str) -> frozenset[str]:
    """The actions that are not allowed."""
    more = {"ResourceArns": list(resources)} if resources else {}
    answer = place.call("SimulatePrincipalPolicy", service="iam", PolicySourceArn=arn, ActionNames=list(actions), **more)
    return frozenset(result["EvalActionName"] for result in answer["EvaluationResults"] if result["EvalDecision"] != "allowed")


def _read_policies(place: Place, role: str) -> frozenset[str]:
    """The same from the role's policies; two calls for each that is attached."""

    def iam(operation: str, **parameters: Any) -> Any:
        return place.call(operation, service="iam", **parameters)

    documents = []
    for policy in iam("ListAttachedRolePolicies", RoleName=role)["AttachedPolicies"]:
        version = iam("GetPolicy", PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        documents.append(iam("GetPolicyVersion", PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"])
    for name in iam("ListRolePolicies", RoleName=role)["PolicyNames"]:
        documents.append(iam("GetRolePolicy", RoleName=role, PolicyName=name)["PolicyDocument"])
    return missing_actions(documents, CORE_ACTIONS)


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
