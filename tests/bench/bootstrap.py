# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/bootstrap.yml on instances that have no role, in 4 accounts and 3 regions: time, and calls by those that no program can do without.

One instance of each place has an agent that runs; the others are simulated. Each looks for its role every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab, NodeDefinition, NodeKind

from . import processes
from .inventory import ACCOUNTS, REGIONS, environment, places
from .measures import REPOSITORY, Measure

TITLE = "`bootstrap.yml` on running instances in 4 accounts × 3 regions"
NOTE = (
    "None of them has a role at first, and all are managed at the end. The fewest calls are one `AssociateIamInstanceProfile` for each instance; for each "
    "account six calls of IAM, and one of STS but for the caller's; for each region of an account one look before and one after (1,000 instances a page, "
    "50 nodes a page), and each of the five questions about networks and ports once. A second run has one look, since nothing changes. Beyond that are looks "
    "while IAM and agents take their time, and what each module asks for itself, so that it can be used alone: a session of the account's role, the "
    "instances, and which profile they have. That is the same for few instances as for many. Time is also that of the lab."
)
SIZES = (250, 500, 1000)
RETRY = 2.0  #: seconds between an agent's looks for a role
SLOWNESS = {"association_seconds": 3.0, "iam_seconds": 5.0}  #: of EC2 with a profile, and of IAM with a new one
INSTANCES_PAGE, NODES_PAGE = 1000, 50
#: GetRole, CreateRole, AttachRolePolicy, GetInstanceProfile, CreateInstanceProfile, AddRoleToInstanceProfile.
CALLS_OF_IAM = 6
#: DescribeSubnets, DescribeRouteTables, DescribeVpcEndpoints, DescribeSecurityGroupRules, DescribeNetworkInterfaces.
CALLS_OF_NETWORK = 5
SECONDS, CALLS, RATIO = "s", "API calls", "calls / the fewest possible"
TIME_GROWTH, CALLS_GROWTH = "time / that of half as many", "calls / those of half as many"
#: The first is for a thousand: what each region costs, however few instances there are, weighs more where there are less.
RATIO_LIMIT, GROWTH_LIMIT = 1.3, 2.2


@dataclass(frozen=True)
class Outcome:
    """One run of the playbook."""

    usage: processes.Usage
    counts: Mapping[str, int]  #: requests by action, without those of agents
    report: Mapping[str, Any]

    @property
    def calls(self) -> int:
        return sum(self.counts.values())


def least_calls(count: int) -> int:
    """The fewest calls that can bring so many instances under management, and say so."""
    calls = count + len(ACCOUNTS) * CALLS_OF_IAM + len(ACCOUNTS) - 1
    for _account, _region, here in places(count):
        instances, nodes = math.ceil(here / INSTANCES_PAGE), math.ceil(here / NODES_PAGE)
        calls += (instances + 1) + (instances + nodes) + CALLS_OF_NETWORK  # nodes: an empty page before, all of them after
    return calls


def least_calls_again(count: int) -> int:
    """The same for those that are managed already."""
    calls = len(ACCOUNTS) * 3 + len(ACCOUNTS) - 1  # GetRole, ListAttachedRolePolicies, GetInstanceProfile
    for _account, _region, here in places(count):
        calls += math.ceil(here / INSTANCES_PAGE) + math.ceil(here / NODES_PAGE) + CALLS_OF_NETWORK
    return calls


def instances(count: int) -> Iterator[NodeDefinition]:
    """So many, shared out evenly; the first of each place executes."""
    without_role: dict[str, Any] = {"profile": None, "tags": {"Fleet": "old"}, "options": {"credentials_retry": RETRY, "credentials_retry_max": RETRY}}
    for account, region, here in places(count):
        name = f"{account[0]}-{region}"
        yield NodeDefinition(f"{name}-agent", account, region, NodeKind.PROCESS, **without_role)
        yield NodeDefinition(name, account, region, NodeKind.SIMULATED, count=here - 1, **without_role)


@contextlib.contextmanager
def estate(count: int) -> Iterator[Lab]:
    """A lab with so many instances without a role."""
    with Lab(list(instances(count)), accounts=ACCOUNTS, regions=REGIONS, settings=SLOWNESS) as lab:
        yield lab


def run(lab: Lab, folder: Path) -> Outcome:
    """The playbook once. :raises RuntimeError: if it fails."""
    report, variables, log = folder / "report.json", folder / "variables.json", folder / "log"
    roles = [{"name": account, "role_arn": f"arn:aws:iam::{account}:role/FleetOperator"} for account in ACCOUNTS[1:]]
    chosen = {
        "fleet_estate": {"regions": list(REGIONS), "accounts": [{"name": "hub"}, *roles]},
        "instance_role_name": "Bootstrapped",
        "bootstrap_report": str(report),
        "bootstrap_wait": 120,
    }
    variables.write_text(json.dumps(chosen), encoding="utf-8")
    program = str(Path(sys.executable).parent / "ansible-playbook")
    lab.reset_requests()
    usage = processes.run(
        [program, "-i", "localhost,", str(REPOSITORY / "playbooks" / "bootstrap.yml"), "-e", f"@{variables}"], folder, environment(folder, lab), log
    )
    if usage.returncode:
        raise RuntimeError(log.read_text(encoding="utf-8", errors="replace")[-3000:])
    return Outcome(usage, lab.requests().counts, json.loads(report.read_text(encoding="utf-8")))


def measure() -> Iterator[Measure]:
    """Each size, and the largest once more when there is nothing left to do."""
    half: Outcome | None = None
    for size in SIZES:
        with estate(size) as lab, _folder() as folder:
            outcome = run(lab, folder)
            if outcome.report["after"]["online"] != size:
                raise RuntimeError(f"{size} instances: {outcome.report['after']}")
            largest = size == SIZES[-1]
            yield _row(f"{size:,} instances", outcome, least_calls(size), half, {RATIO: RATIO_LIMIT} if largest else {})
            half = outcome
            if largest:
                yield _row(f"the same {size:,} again", run(lab, folder), least_calls_again(size), None, {})


def _row(what: str, outcome: Outcome, least: int, half: Outcome | None, limits: Mapping[str, float]) -> Measure:
    figures: dict[str, float | None] = {
        SECONDS: round(outcome.usage.seconds, 1),
        CALLS: outcome.calls,
        RATIO: round(outcome.calls / least, 3),
        TIME_GROWTH: None if half is None else round(outcome.usage.seconds / half.usage.seconds, 2),
        CALLS_GROWTH: None if half is None else round(outcome.calls / half.calls, 2),
    }
    return Measure(what, figures, limits if half is None else {**limits, TIME_GROWTH: GROWTH_LIMIT, CALLS_GROWTH: GROWTH_LIMIT})


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fb-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
