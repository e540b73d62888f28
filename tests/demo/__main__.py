# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the lab, show the inventory, run a playbook twice, clean up; exit status 1 at any surprise."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.demo.events import Recap, Task, read
from tests.lab import Lab, LabError
from tests.lab.nodes.user_namespace import missing

REPOSITORY = Path(__file__).resolve().parents[2]
INVENTORY = Path("playbooks/inventories/lab.managed_nodes.yml")
PLAYBOOK = Path("playbooks/demo/site.yml")
MUX = REPOSITORY / "plugins" / "plugin_utils" / "mux"
STYLES = {"ok": "green", "changed": "yellow", "skipped": "cyan", "failed": "bold red", "unreachable": "bold red"}


class Surprise(Exception):
    """The demonstration did not show what it should."""


class Demo:
    """The demonstration on a lab that runs; `home` keeps it apart from the user's own settings."""

    def __init__(self, lab: Lab, home: Path, console: Console) -> None:
        self.lab = lab
        self.console = console
        self.nodes = lab.nodes()
        settings = home / "ansible.cfg"
        settings.write_text("[defaults]\n", encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "AWS_", "FLEET_SSM_"))}
        self.environment = {
            **inherited,
            **lab.env(),
            "HOME": str(home),
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_COLLECTIONS_PATH": os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(REPOSITORY / "collections")),
            "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
            "ANSIBLE_FORKS": "6",
        }

    def show(self) -> None:
        """The whole demonstration. :raises Surprise: as its name says."""
        self._show_nodes()
        self._show_inventory()
        first = self._play("The first run changes the nodes")
        if not all(first.count(node.name, "changed") for node in self.nodes):
            raise Surprise("the first run changed nothing on some nodes")
        second = self._play("The second run finds everything as it should be")
        if second.total("changed"):
            raise Surprise(f"the second run changed {second.total('changed')} things: the playbook is not idempotent")
        self._show_cost()

    def show_and_finish(self) -> None:
        """The same, and no session is left however it ends; of two errors the first is raised."""
        try:
            self.show()
        except BaseException:
            with suppress(Surprise, LabError, OSError):
                self.finish()
            raise
        self.finish()

    def finish(self) -> None:
        """End the process that holds the sessions, and see that no session is left. :raises Surprise:"""
        self._run([sys.executable, str(MUX), "stop"])
        left = [session["session_id"] for session in self.lab.sessions(active=True)]
        if left:
            raise Surprise(f"sessions are still open: {', '.join(left)}")

    def _show_nodes(self) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("node", "instance", "account", "region", "tags"):
            table.add_column(column, no_wrap=True)
        for node in self.nodes:
            tags = " ".join(f"{key}={value}" for key, value in sorted(node.tags.items()) if key != "Name")
            table.add_row(node.name, node.node_id, node.account, node.region, tags)
        self.console.print(table)

    def _show_inventory(self) -> None:
        self._title(f"The inventory of {INVENTORY}")
        graph = self._run([_program("ansible-inventory"), "-i", str(INVENTORY), "--graph"])
        self.console.print(graph.stdout.strip(), highlight=False, markup=False)
        missing = [node.name for node in self.nodes if f"--{node.name}\n" not in graph.stdout]
        if missing:
            raise Surprise(f"nodes are missing in the inventory: {', '.join(missing)}\n{graph.stderr}")

    def _play(self, title: str) -> Recap:
        self._title(f"{title}: {PLAYBOOK}")
        started = time.monotonic()
        command = [_program("ansible-playbook"), "-i", str(INVENTORY), str(PLAYBOOK)]
        environment = {**self.environment, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
        recap, play = Recap(), ""
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
            assert process.stdout is not None
            for task in read(process.stdout, recap):
                if task.play != play:
                    play = task.play
                    self.console.print(f"[bold]{escape(play)}[/]")
                self._show_task(task)
            status = process.wait()
            errors.seek(0)
            complaint = errors.read()
        self._show_recap(recap, time.monotonic() - started)
        if status or recap.failures or recap.stats.keys() != {node.name for node in self.nodes}:
            for task, result in recap.failures:
                complaint += f"\n{result.host}: {task.name}: {result.status}: {result.message}"
            raise Surprise(f"ansible-playbook ended with status {status}\n{complaint.strip()}")
        return recap

    def _show_task(self, task: Task) -> None:
        counts = Counter(result.status for result in task.results)
        parts = [f"[{STYLES[status]}]{counts[status]} {status}[/]" for status in STYLES if counts[status]]
        self.console.print(f"  {escape(task.name):<46} {task.seconds:5.1f} s  {'  '.join(parts)}", highlight=False)

    def _show_recap(self, recap: Recap, seconds: float) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("node", no_wrap=True)
        names = {"ok": "ok", "changed": "changed", "skipped": "skipped", "failed": "failures", "unreachable": "unreachable"}
        for column in (*names, "time"):
            table.add_column(column, justify="right", no_wrap=True)
        for host in sorted(recap.stats):
            counts = {name: recap.count(host, counter) for name, counter in names.items()}
            cells = [f"[{STYLES[name]}]{count}[/]" if count else "0" for name, count in counts.items()]
            table.add_row(host, *cells, f"{recap.busy.get(host, 0.0):.1f} s")
        self.console.print()
        self.console.print(table)
        self.console.print(f"{len(recap.stats)} nodes in {seconds:.1f} s", highlight=False)

    def _show_cost(self) -> None:
        self._title("What was asked of AWS for both runs")
        for action, count in sorted(self.lab.requests().counts.items()):
            self.console.print(f"  {count:3d} {action}", highlight=False)

    def _title(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{escape(text)}", align="left")

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, cwd=REPOSITORY, env=self.environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Surprise(f"{' '.join(command)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
        return done


@contextmanager
def lab_of(console: Console) -> Iterator[Lab]:
    """The default lab, with words about it."""
    started = time.monotonic()
    console.print("An AWS of two accounts and two regions with six nodes starts on this machine; it needs no network and no account.")
    with Lab() as lab:
        console.print(f"Ready in {time.monotonic() - started:.1f} s.\n", highlight=False)
        yield lab


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def main() -> int:
    """Show it; 0 if all went as it should."""
    # A pipe has no width: 110 columns keep every table whole.
    console = Console(width=None if sys.stdout.isatty() else 110, soft_wrap=True)
    if lack := missing():  # the playbook becomes root, which is known now and would be found out in minutes
        console.print(f"[bold red]The demonstration cannot run here:[/] {escape(lack)}", highlight=False)
        return 1
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="fleet-ssm-demo-") as home, lab_of(console) as lab:
            Demo(lab, Path(home), console).show_and_finish()
    except (Surprise, LabError) as error:
        console.print(f"\n[bold red]The demonstration failed:[/] {escape(str(error))}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; the lab and the sessions are gone.")
        return 130
    console.print(f"\n[bold green]Done[/] in {time.monotonic() - started:.0f} s; sessions, nodes and lab are gone.", highlight=False)
    console.print("Go on with [bold]make lab[/] for a lab that stays, and docs/inventory.md for an inventory of your own.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
