# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask all accounts and regions at once, with as few calls as there can be.

Per account and region: DescribeInstances (1,000 a page) and DescribeInstanceInformation (50 a page) side by side. Where a
filter narrows what EC2 names, Systems Manager is asked by those ids instead (50 a call, side by side), and once for hybrid nodes.
Tags of hybrid nodes come from GetResources (100 a page), only where there are such nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .accounts import Account
from .clients import AccountClients, ClientPool
from .filters import Selection
from .nodes import Node, is_hybrid, join
from .problems import CollectError

INSTANCES_PAGE = 1000
INFORMATION_PAGE = 50
TAGS_PAGE = 100

#: A piece of work for one thread; it returns the pieces that follow from it and waits for none.
Job = Callable[[], "Iterable[Job]"]


@dataclass
class Collected:
    """What was found. Nodes of an account or region that failed are not among them."""

    nodes: list[tuple[Account, Node]] = field(default_factory=list)
    errors: list[CollectError] = field(default_factory=list)
    regions: int = 0  #: pairs of account and region that were asked in full


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

    _run_all([partial(open_account, order, account) for order, account in enumerate(accounts)], max_workers, result.errors)
    for region in sorted(regions, key=lambda item: (item.order, item.name)):
        if region.error:
            continue
        try:
            found = sorted(region.nodes(), key=lambda node: str(node["instance_id"]))
        except CollectError as error:
            result.errors.append(error)
            continue
        result.regions += 1
        result.nodes += ((region.account, node) for node in found)
    return result


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
        self._excluded: set[str] = set()
        self._information: list[dict[str, Any]] = []
        self._hybrid_tags: dict[str, dict[str, str]] = {}

    def first_jobs(self) -> list[Job]:
        filters = self._selection.ssm_filters()
        jobs: list[Job] = [self._ask_instances]
        if self._selection.narrow and self._selection.hybrid:
            jobs.append(partial(self._ask_information, [*filters, {"Key": "ResourceType", "Values": ["ManagedInstance"]}]))
        elif not self._selection.narrow and self._selection.hybrid:
            jobs.append(partial(self._ask_information, filters))
        elif not self._selection.narrow:
            jobs.append(partial(self._ask_information, [*filters, {"Key": "ResourceType", "Values": ["EC2Instance"]}]))
        return jobs

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

    def nodes(self) -> list[Node]:
        """Join what was answered; to be called when all jobs are done."""
        owner = next((instance["OwnerId"] for instance in self._instances.values()), None)
        has_hybrid = any(is_hybrid(entry["InstanceId"]) for entry in self._information)
        joined = join(
            (instance for node_id, instance in self._instances.items() if node_id not in self._excluded),
            self._information,
            self._hybrid_tags,
            account_id=owner or (self._clients.account_id() if has_hybrid else None),
            account_name=self.account.name,
            region=self.name,
        )
        return [node for node in joined if self._selection.wants(node)]

    def _ask_instances(self) -> Iterable[Job]:
        client = self._clients.client("ec2", self.name)
        for filters in self._selection.ec2_queries():
            for instance in self._pages_of_instances(client, filters):
                self._instances[instance["InstanceId"]] = instance
        for filters in self._selection.ec2_exclusions():
            self._excluded.update(instance["InstanceId"] for instance in self._pages_of_instances(client, filters))
        if not self._selection.narrow:
            return []
        wanted = sorted(self._instances.keys() - self._excluded)
        filters = self._selection.ssm_filters()
        chunks = (wanted[start : start + INFORMATION_PAGE] for start in range(0, len(wanted), INFORMATION_PAGE))
        return [partial(self._ask_information, [*filters, {"Key": "InstanceIds", "Values": ids}]) for ids in chunks]

    def _pages_of_instances(self, client: Any, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for page in self._pages(client, "ec2", "DescribeInstances", "NextToken", Filters=filters, MaxResults=INSTANCES_PAGE):
            for reservation in page.get("Reservations", ()):
                for instance in reservation.get("Instances", ()):
                    yield {**instance, "OwnerId": reservation.get("OwnerId")}

    def _ask_information(self, filters: list[dict[str, Any]]) -> Iterable[Job]:
        client = self._clients.client("ssm", self.name)
        found: list[dict[str, Any]] = []
        for page in self._pages(client, "ssm", "DescribeInstanceInformation", "NextToken", Filters=filters, MaxResults=INFORMATION_PAGE):
            found += page.get("InstanceInformationList", ())
        self._information += found
        return [self._ask_hybrid_tags] if any(is_hybrid(entry["InstanceId"]) for entry in found) else []

    def _ask_hybrid_tags(self) -> Iterable[Job]:
        client = self._clients.client("resourcegroupstaggingapi", self.name)
        pages = self._pages(
            client,
            "resourcegroupstaggingapi",
            "GetResources",
            "PaginationToken",
            ResourceTypeFilters=["ssm:managed-instance"],
            ResourcesPerPage=TAGS_PAGE,
        )
        for page in pages:
            for resource in page.get("ResourceTagMappingList", ()):
                node_id = resource["ResourceARN"].rpartition("/")[2]
                self._hybrid_tags[node_id] = {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}
        return []

    def _pages(self, client: Any, service: str, operation: str, token_name: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every page of an operation. botocore's paginators do the same, but not with an error that names the action."""
        while True:
            page: dict[str, Any] = self._clients.call(client, service, operation, region=self.name, **parameters)
            yield page
            if not page.get(token_name):
                return
            parameters[token_name] = page[token_name]
