# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory of 10,000 instances in 4 accounts × 3 regions, from AWS and from its cache.

Each figure is a whole ``ansible-inventory --host``, which reads the inventory and shows one host of it. Beside them stands what Ansible itself
takes for that: with an inventory of one host, and with 10,000 hosts that have nothing but names (a range in an INI file).
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from botocore.config import Config

from tests.lab import Lab, NodeDefinition, NodeKind

from . import processes
from .measures import REPOSITORY, Measure

TITLE = "Inventory of 10,000 instances in 4 accounts × 3 regions"
NOTE = "Each is `ansible-inventory --host NAME`, the median of three turns. What is beyond Ansible is the time less that of Ansible with 10,000 names."
ACCOUNTS = ("111111111111", "222222222222", "333333333333", "444444444444")
REGIONS = ("eu-central-1", "us-east-1", "ap-southeast-2")
ROLES = ("web", "db", "cache")
HOSTS, ROUNDS = 10_000, 3
ONE, NAMES, COLD, WARM = "Ansible with one host", "Ansible with 10,000 names", "from AWS", "from the cache"
LIMITS: Mapping[str, Mapping[str, float]] = {
    COLD: {"s beyond Ansible": 5.0, "calls / the fewest possible": 1.0},
    WARM: {"s beyond Ansible": 0.5, "API calls": 0},
}
#: What one call of each can give: instances, and nodes of Systems Manager.
_PAGES = (1000, 50)


@dataclass(frozen=True)
class Sample:
    """One run."""

    usage: processes.Usage
    calls: int  #: requests to the lab's AWS API


def places(hosts: int) -> Iterator[tuple[str, str, int]]:
    """Account, region, and how many of the hosts are there."""
    every = [(account, region) for account in ACCOUNTS for region in REGIONS]
    for number, (account, region) in enumerate(every):
        yield account, region, hosts // len(every) + (number < hosts % len(every))


def least_calls(hosts: int) -> int:
    """The fewest calls that can name so many hosts: pages of instances and of nodes, and a role in each account but the caller's."""
    pages = sum(math.ceil(count / page) for _account, _region, count in places(hosts) for page in _PAGES)
    return pages + len(ACCOUNTS) - 1


def nodes(hosts: int) -> Iterator[NodeDefinition]:
    """Simulated instances, a third of each place for each role."""
    for account, region, count in places(hosts):
        for number, role in enumerate(ROLES):
            share = count // len(ROLES) + (number < count % len(ROLES))
            yield NodeDefinition(f"{role}-{account[0]}-{region}", account, region, NodeKind.SIMULATED, tags={"Role": role, "Env": "prod"}, count=share)


def options(cache: Path) -> dict[str, object]:
    """The inventory file."""
    return {
        "plugin": "fleet.ssm.managed_nodes",
        "regions": list(REGIONS),
        "accounts": [{"name": "hub"}, *({"role_arn": f"arn:aws:iam::{account}:role/FleetOperator"} for account in ACCOUNTS[1:])],
        "keyed_groups": [{"key": "ssm_tags.Role", "prefix": "role"}, {"key": "ssm_region", "prefix": "region"}],
        "strict": True,
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(cache),
    }


def warm_up(lab: Lab) -> None:
    """Let the lab know what it is going to answer: a thousand instances take moto some seconds, which are not the inventory's."""
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    for account in ACCOUNTS:
        for region in REGIONS:
            client = lab.client("ec2", account=account, region=region, config=Config(read_timeout=300))
            client.describe_instances(Filters=running, MaxResults=_PAGES[0])


class Bench:
    """A folder with the inventories, and a lab with the instances."""

    def __init__(self, folder: Path, lab: Lab, hosts: int) -> None:
        self._folder, self._lab, self._hosts = folder, lab, hosts
        self._name = next(node.name for node in lab.nodes())
        self._cache = folder / "cache"
        self._environment = environment(folder, lab)
        for name, content in (
            ("nodes.managed_nodes.yml", yaml.safe_dump(options(self._cache))),
            ("one.ini", f"{self._name}\n"),
            ("names.ini", f"{self._name}\nnode-[1:{hosts - 1}]\n"),
        ):
            (folder / name).write_text(content, encoding="utf-8")

    def round(self) -> Iterator[tuple[str, Sample]]:
        """One run of each."""
        yield ONE, self._measure("one.ini")
        yield NAMES, self._measure("names.ini")
        shutil.rmtree(self._cache, ignore_errors=True)
        yield COLD, self._measure("nodes.managed_nodes.yml")
        yield WARM, self._measure("nodes.managed_nodes.yml")

    def _measure(self, inventory: str) -> Sample:
        self._lab.reset_requests()
        log = self._folder / "log"
        command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", inventory, "--host", self._name]
        usage = processes.run(command, self._folder, self._environment, log)
        if usage.returncode:
            raise RuntimeError(f"{inventory}: {log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
        return Sample(usage, self._lab.requests().total)


def environment(folder: Path, lab: Lab) -> Mapping[str, str]:
    return {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        **lab.env(),
    }


def measure(hosts: int = HOSTS, rounds: int = ROUNDS) -> Iterator[Measure]:
    """All of them in turns."""
    folder = Path(tempfile.mkdtemp(prefix="fb-"))
    samples: dict[str, list[Sample]] = defaultdict(list)
    try:
        with Lab(list(nodes(hosts)), accounts=ACCOUNTS, regions=REGIONS) as lab:
            warm_up(lab)
            bench = Bench(folder, lab, hosts)
            for _round in range(rounds):
                for name, sample in bench.round():
                    samples[name].append(sample)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {name: _figures(of_name) for name, of_name in samples.items()}
    own = figures[NAMES]["s"]
    for name, of_name in figures.items():
        if name in LIMITS:
            of_name["s beyond Ansible"] = round(of_name["s"] - own, 2)
        if name == COLD:
            of_name["calls / the fewest possible"] = round(of_name["API calls"] / least_calls(hosts), 3)
        yield Measure(name, of_name, LIMITS.get(name, {}))


def _figures(samples: list[Sample]) -> dict[str, float]:
    return {
        "s": round(statistics.median(sample.usage.seconds for sample in samples), 2),
        "s of CPU": round(statistics.median(sample.usage.cpu_s for sample in samples), 2),
        "MB": round(statistics.median(sample.usage.peak_rss_mb for sample in samples)),
        "API calls": statistics.median(sample.calls for sample in samples),
    }
