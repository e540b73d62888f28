# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask all accounts and regions at once, with as few calls as there can be.

Per account and region: DescribeInstances (1,000 a page), then DescribeInstanceInformation (50 a page) for all nodes. Where a filter
narrows what EC2 names, or EC2 has more than one page, Systems Manager is asked by those ids instead (50 a call, side by side, while
EC2's next page comes), and once for hybrid nodes: no more calls, and no chain of hundreds of pages one after another.
Tags of hybrid nodes come from GetResources (100 a page), only where there are such nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .accounts import Account
from .clients import AccountClients, ClientPool
from .filters import Selection
from .garbage import collection_paused
from .nodes import Node, is_hybrid, join
from .problems import CollectError
from .scope import Place

INSTANCES_PAGE = 1000
INFORMATION_PAGE = 50
TAGS_PAGE = 100

#: A piece of work for one thread; it returns the pieces that follow from it and waits for none.
Job = Callable[[], "Iterable[Job]"]


@dataclass(frozen=True)
class Answered:
    """A region of an account that was asked in full."""

    place: Place
    nodes: tuple[Node, ...]
    hybrid: tuple[Node, ...]  #: all hybrid nodes that Systems Manager named, selected or not
    instances: Mapping[str, Mapping[str, Any]]  #: what EC2 says, by id


@dataclass
class Collected:
    """What was found. Nodes of an account or region that failed are not among them."""

    places: list[Answered] = field(default_factory=list)
    errors: list[CollectError] = field(default_factory=list)

    @property
    def regions(self) -> int:
        """Pairs of account and region that were asked in full."""
        return len(self.places)

    @property
    def nodes(self) -> list[tuple[Account, Node]]:
        """All nodes, with their accounts."""
        return [(answered.place.account, node) for answered in self.places for node in answered.nodes]


def collect(accounts: Sequence[Account], selection: Selection, pool: ClientPool, *, max_workers: int) -> Collected:
    """Read every account. Never raises for what one of them refuses: that is in `errors`.

    The order of nodes is that of accounts, regions and ids, whatever answered first.
    """
    regions: list[_Region] = []
    result = Collected()

    def open_account(order: int, account: Account) -> Iterable[Job]:
        clients = AccountClients(pool, account)
        opened = [_Region(order, clients, name, selection) for name in clients.regions()]
        regions.extend(opened)
        return [partial(region.run, job) for region in opened for job in region.first_jobs()]

    with collection_paused():
        _run_all([partial(open_account, order, account) for order, account in enumerate(accounts)], max_workers, result.errors)
    _join_all(sorted(regions, key=lambda item: (item.order, item.name)), result)
    return result


def collect_at(places: Iterable[Place], selection: Selection, *, max_workers: int) -> Collected:
    """The same of places that were asked before, in their order and with the clients that they have: no account is opened anew."""
    regions = [_Region(order, place.clients, place.region, selection) for order, place in enumerate(places)]
    result = Collected()
    with collection_paused():
        _run_all([partial(region.run, job) for region in regions for job in region.first_jobs()], max_workers, result.errors)
    _join_all(regions, result)
    return result


def _join_all(regions: Iterable[_Region], result: Collected) -> None:
    for region in regions:
        if region.error:
            continue
        try:
            result.places.append(region.answered())
        except CollectError as error:
            result.errors.append(error)


def _run_all(jobs: Iterable[Job], max_workers: int, errors: list[CollectError]) -> None:
    """Run jobs and all that follow from them; threads never wait for each other, so any number of them is enough."""
    with ThreadPoolExecutor(max_workers, thread_name_prefix="managed_nodes") as executor:
        pending: set[Future[Iterable[Job]]] = {executor.submit(job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        following = future.result()
                    except CollectError as error:
                        errors.append(error)
                    else:
                        pending |= {executor.submit(job) for job in following}
        finally:
            for future in pending:
                future.cancel()


class _Region:
    """One region of one account: its answers, and which jobs get them."""

    def __init__(self, order: int, clients: AccountClients, name: str, selection: Selection) -> None:
        self.order = order
        self.account = clients.account
        self.name = name
        self.error: CollectError | None = None
        self._clients = clients
        self._selection = selection
        self._instances: dict[str, dict[str, Any]] = {}
        self._asked = False  #: EC2 has answered
        self._by_id = False  #: Systems Manager is asked by the ids that EC2 names
        self._excluded: set[str] = set()
        self._information: list[dict[str, Any]] = []
        self._hybrid_tags: dict[str, dict[str, str]] = {}

    def first_jobs(self) -> list[Job]:
        exclusions: list[Job] = [partial(self._ask_exclusions, filters) for filters in self._selection.ec2_exclusions()]
        return [partial(self._ask_instances, self._selection.ec2_queries()), *exclusions]

    def run(self, job: Job) -> Iterable[Job]:
        """Run one of this region's jobs, unless another of them has failed. One error is enough for a region."""
        if self.error:
            return []
        try:
            return [partial(self.run, following) for following in job()]
        except CollectError as error:
            if self.error:
                return []
            self.error = error
            raise

    def answered(self) -> Answered:
        """Join what was answered; to be called when all jobs are done."""
        owner = next((instance["OwnerId"] for instance in self._instances.values()), None)
        has_hybrid = any(is_hybrid(entry["InstanceId"]) for entry in self._information)
        joined = list(
            join(
                (instance for node_id, instance in self._instances.items() if node_id not in self._excluded),
                self._information,
                self._hybrid_tags,
                account_id=owner or (self._clients.account_id() if has_hybrid else None),
                account_name=self.account.name,
                region=self.name,
            )
        )
        wanted = sorted((node for node in joined if self._selection.wants(node)), key=lambda node: str(node["instance_id"]))
        hybrid = tuple(node for node in joined if node["resource_type"] == "hybrid") if has_hybrid else ()
        return Answered(Place(self.account, self.name, self._clients), tuple(wanted), hybrid, self._instances)

    def _ask_instances(self, queries: list[list[dict[str, Any]]], token: str | None = None) -> Iterable[Job]:
        """One page of the first of the queries. What follows: the next page or query, and Systems Manager's view of these instances."""
        parameters = {"NextToken": token} if token else {}
        page = self._call("ec2", "DescribeInstances", Filters=queries[0], MaxResults=INSTANCES_PAGE, **parameters)
        new = {node_id: instance for node_id, instance in _instances(page) if node_id not in self._instances}
        first_page = not self._asked
        self._asked = True
        self._instances.update(new)

        token = page.get("NextToken")
        if not token:
            queries = queries[1:]
        following: list[Job] = [partial(self._ask_instances, queries, token)] if queries else []
        filters = self._selection.ssm_filters()
        if first_page:
            self._by_id = self._selection.narrow or bool(queries)
            kind = self._kind_to_list()
            if kind is not None:
                following.append(partial(self._ask_information, filters + kind))
        if self._by_id:
            ids = sorted(new)
            chunks = (ids[start : start + INFORMATION_PAGE] for start in range(0, len(ids), INFORMATION_PAGE))
            following += [partial(self._ask_information, [*filters, {"Key": "InstanceIds", "Values": chunk}]) for chunk in chunks]
        return following

    def _kind_to_list(self) -> list[dict[str, Any]] | None:
        """The filter of the listing of nodes that are not asked for by id; None if there is nothing to list."""
        if self._by_id:
            return [{"Key": "ResourceType", "Values": ["ManagedInstance"]}] if self._selection.hybrid else None
        if self._selection.hybrid:
            return []
        return [{"Key": "ResourceType", "Values": ["EC2Instance"]}] if self._instances else None

    def _ask_exclusions(self, filters: list[dict[str, Any]]) -> Iterable[Job]:
        for page in self._pages("ec2", "DescribeInstances", "NextToken", Filters=filters, MaxResults=INSTANCES_PAGE):
            self._excluded.update(node_id for node_id, _instance in _instances(page))
        return []

    def _ask_information(self, filters: list[dict[str, Any]]) -> Iterable[Job]:
        found: list[dict[str, Any]] = []
        for page in self._pages("ssm", "DescribeInstanceInformation", "NextToken", Filters=filters, MaxResults=INFORMATION_PAGE):
            found += page.get("InstanceInformationList", ())
        self._information += found
        return [self._ask_hybrid_tags] if any(is_hybrid(entry["InstanceId"]) for entry in found) else []

    def _ask_hybrid_tags(self) -> Iterable[Job]:
        service, kinds = "resourcegroupstaggingapi", ["ssm:managed-instance"]
        for page in self._pages(service, "GetResources", "PaginationToken", ResourceTypeFilters=kinds, ResourcesPerPage=TAGS_PAGE):
            for resource in page.get("ResourceTagMappingList", ()):
                node_id = resource["ResourceARN"].rpartition("/")[2]
                self._hybrid_tags[node_id] = {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}
        return []

    def _pages(self, service: str, operation: str, token_name: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every page of an operation. botocore's paginators do the same, but not with an error that names the action."""
        while True:
            page = self._call(service, operation, **parameters)
            yield page
            if not page.get(token_name):
                return
            parameters[token_name] = page[token_name]

    def _call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._clients.call(service, operation, region=self.name, **parameters)
        return answer


def _instances(page: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for reservation in page.get("Reservations", ()):
        for instance in reservation.get("Instances", ()):
            yield instance["InstanceId"], {**instance, "OwnerId": reservation.get("OwnerId")}
