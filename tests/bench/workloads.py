# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks of the bench do. The same text for every transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Task = Mapping[str, Any]

MEGABYTES = 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """A play to be timed."""

    name: str
    tasks: tuple[Task, ...]
    hosts: int = 1
    become: tuple[bool, ...] = (False,)
    connected: bool = True  #: what stays between plays (mux, ssh master) is up and connected when the play starts; else nothing is
    counted: int | None = None  #: tasks for the marginal time if not those of the play

    @property
    def fleet(self) -> bool:
        """Whether it has so many hosts, and hence tasks, that one run says enough and several would take hours."""
        return self.hosts >= 20

    @property
    def task_count(self) -> int:
        """Tasks that one host runs."""
        return len(self.tasks) if self.counted is None else self.counted


def _mix() -> tuple[Task, ...]:
    """10 command, 5 file, 5 copy, 5 stat, 5 template, in turns; `run` is new in each run, so copies and templates are changes."""
    tasks: list[Task] = []
    for number in range(5):
        # One folder a user: what root made, the session's user could not change.
        folder = f"{{{{ folder }}}}/{{{{ ansible_become }}}}-{number}"
        tasks += [
            {"ansible.builtin.command": f"echo first {number}"},
            {"ansible.builtin.file": {"path": folder, "state": "directory", "mode": "0755"}},
            {"ansible.builtin.copy": {"content": f"line {number} of {{{{ run }}}}\n", "dest": f"{folder}/copied", "mode": "0644"}},
            {"ansible.builtin.stat": {"path": f"{folder}/copied"}},
            {"ansible.builtin.template": {"src": "template.j2", "dest": f"{folder}/templated", "mode": "0644"}},
            {"ansible.builtin.command": f"echo second {number}"},
        ]
    return tuple(tasks)


def _commands(count: int) -> tuple[Task, ...]:
    return tuple({"ansible.builtin.command": f"echo {number}"} for number in range(count))


COPY_20 = (
    {"ansible.builtin.copy": {"src": "random-20", "dest": "{{ folder }}/random-20-{{ run }}", "mode": "0644"}},
    {"ansible.builtin.fetch": {"src": "{{ folder }}/random-20-{{ run }}", "dest": "fetched-{{ inventory_hostname }}", "flat": True}},
    {"ansible.builtin.file": {"path": "{{ folder }}/random-20-{{ run }}", "state": "absent"}},
)
STDOUT_5 = ({"ansible.builtin.command": "cat {{ folder }}/base64-5"},)

#: Made once on each node, not timed.
PREPARE: tuple[Task, ...] = (
    {"ansible.builtin.file": {"path": "{{ folder }}", "state": "directory", "mode": "1777"}},
    {"ansible.builtin.shell": f"test -s {{{{ folder }}}}/base64-5 || head -c {5 * MEGABYTES * 3 // 4} /dev/urandom | base64 > {{{{ folder }}}}/base64-5"},
)

#: The least that needs a connection.
COMMAND = Workload("first_connected", _commands(1))

#: Plays without a task on a node: what Ansible itself takes with so many hosts.
EMPTY = {hosts: Workload(f"empty{hosts}", ({"ansible.builtin.meta": "noop"},), hosts=hosts, counted=0) for hosts in (1, 5, 20, 50)}

WORKLOADS = {
    workload.name: workload
    for workload in (
        *EMPTY.values(),
        Workload("mix", _mix(), become=(False, True)),
        Workload("commands5x10", _commands(10), hosts=5),
        Workload("commands50x10", _commands(10), hosts=50),
        Workload("first", _commands(1), connected=False),
        COMMAND,
        Workload("stdout5", STDOUT_5),
        Workload("copy20", COPY_20),
        Workload("stdout20x5", STDOUT_5, hosts=20),
    )
}
