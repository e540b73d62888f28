# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`up`: a lab in the foreground, for people. Shows the nodes coming, then what to export; Ctrl-C ends all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .client import ControlClient
from .environment import exports, write_inventory
from .nodes.user_namespace import missing
from .request_log import LoggedRequest
from .server import remove_folder, serve
from .spec import LabSpec


class Display:
    """Follows the events of a starting lab."""

    def __init__(self, spec: LabSpec, inventory: Path, env_file: Path, console: Console, *, quiet: bool) -> None:
        self._quiet = quiet
        self._spec, self._inventory, self._env_file, self._console = spec, inventory, env_file, console
        self._nodes: dict[str, dict[str, Any]] = {}
        self._known: dict[str, Any] = {}
        self._live = Live(console=console, refresh_per_second=8, transient=not console.is_terminal)
        self.failed = False

    def event(self, event: dict[str, Any]) -> None:
        """One event of `serve`."""
        kind = event["event"]
        if kind == "listening":
            self._known = event
            self._live.start()
        elif kind == "node":
            self._nodes[event["name"]] = event
        elif kind == "ready":
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            # The control API is served by this very loop: asking it must not wait for itself.
            asyncio.get_running_loop().run_in_executor(None, self._ready)
        elif kind == "failed":
            self.failed = True
            self._live.stop()
            self._console.print(f"[red]The lab failed:[/] {event['error']}")
        elif kind == "stopped":
            self._live.stop()
            self._console.print("The lab is gone.")
        if self._live.is_started:
            self._live.update(self._table())

    def request(self, entry: LoggedRequest) -> None:
        """A line for each request of a controller; those of agents are in the log only."""
        if self._quiet or entry.by_node or not self._known:
            return
        style = "red" if entry.status >= 400 else "dim"
        line = f"{entry.time[11:23]} {entry.account or '-':12} {entry.region or '-':14} {entry.action} {entry.status} {entry.error}"
        self._console.print(f"{line.rstrip()} {entry.milliseconds:.0f} ms", style=style, soft_wrap=True, highlight=False)

    def _ready(self) -> None:
        nodes = ControlClient(self._known["control"]).call("GET", "/nodes")
        write_inventory(self._inventory, nodes, self._known["accounts"][0])
        variables = exports(self._known)
        self._env_file.touch(mode=0o600)
        self._env_file.write_text(variables, encoding="utf-8")
        out = self._console
        out.print()
        out.print(Text(variables, style="cyan"), end="", soft_wrap=True)
        out.print()
        out.print(f"environment   source {self._env_file}", soft_wrap=True, highlight=False)
        out.print(f"inventory     {self._inventory}", soft_wrap=True, highlight=False)
        out.print(f"requests      {self._known['folder']}/requests.jsonl", soft_wrap=True, highlight=False)
        if lack := missing():
            out.print(lack, style="yellow", soft_wrap=True)
        out.print("More commands: python -m tests.lab --help. Ctrl-C ends the lab and leaves nothing.", soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("node", "id", "account", "region", "kind", ""):
            table.add_column(column, no_wrap=True)
        for wanted in self._spec.nodes:
            event = self._nodes.get(wanted.name)
            if event is None:
                table.add_row(wanted.name, "", wanted.account, wanted.region, str(wanted.kind), wanted.state if wanted.state != "running" else "")
                continue
            state = Text("online", style="green") if event["connected"] else Spinner("dots", "starting")
            table.add_row(wanted.name, event["node_id"], wanted.account, wanted.region, str(wanted.kind), state)
        return table


def run(folder: Path, spec: LabSpec, *, inventory: Path | None, env_file: Path | None, quiet: bool = False) -> int:
    """Run until Ctrl-C; the exit status."""
    console = Console()
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        console.print(f"[red]{folder} belongs to someone else[/]")
        return 1
    display = Display(spec, inventory or folder / "inventory.yml", env_file or folder / "environment.sh", console, quiet=quiet)
    try:
        asyncio.run(serve(folder, spec, display.event, on_request=display.request))
    except KeyboardInterrupt:
        pass
    except Exception:
        if not display.failed:
            raise
        console.print(f"See {folder}/lab.log", soft_wrap=True)
        return 1
    if not os.environ.get("FLEET_SSM_KEEP_LAB"):
        remove_folder(folder)
    return 0
