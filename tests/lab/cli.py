# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `python -m tests.lab up`, and the commands that drive a lab which runs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from rich.console import Console
from rich.table import Table

from .client import ControlClient, LabError
from .model import NodeKind
from .spec import ACCOUNTS, REGIONS, LabSpec, default_nodes

_VERBS = ("start", "stop", "terminate", "kill-agent", "restart-agent", "crash", "reboot")


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        result: int | None = options.run(options)
    except (LabError, ValueError, OSError) as problem:
        Console(stderr=True).print(f"[red]{problem}[/]", soft_wrap=True)
        return 1
    return result or 0


def _default_folder() -> Path:
    return Path(os.environ.get("FLEET_SSM_LAB") or Path(tempfile.gettempdir()) / f"fleet-ssm-lab-{os.getuid()}")


def _control(options: argparse.Namespace) -> ControlClient:
    try:
        known = json.loads((options.folder / "lab.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"no lab runs in {options.folder}; `python -m tests.lab up` starts one") from None
    return ControlClient(known["control"])


# -- up and down


def _up(options: argparse.Namespace) -> int:
    from .foreground import run

    if (options.folder / "lab.json").exists():
        try:
            _control(options).call("GET", "/status")
        except LabError:
            pass  # left by a lab that was killed
        else:
            raise LabError(f"a lab runs in {options.folder} already; `python -m tests.lab down` ends it")
    return run(options.folder, _spec(options), inventory=options.inventory, env_file=options.env_file, quiet=options.quiet)


def _spec(options: argparse.Namespace) -> LabSpec:
    settings = dict(_pair(text) for text in options.set)
    if options.spec is not None:
        spec = LabSpec.read(options.spec)
        values = spec.as_json()
        values["settings"] |= settings
        return LabSpec.of(values)
    kind = NodeKind.MACHINE if options.machine else NodeKind.AGENT if options.agent else NodeKind.PROCESS
    nodes = [node.as_json() for node in default_nodes(options.nodes, kind)]
    if options.agent:
        for node in nodes:
            node["options"] = {"agent": str(options.agent)}
    return LabSpec.of({"nodes": nodes, "settings": settings})


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not name=value")
    return name, value


def _serve(options: argparse.Namespace) -> None:
    """For `Lab`: events as JSON lines, the end of stdin ends the lab."""
    from .server import remove_folder, serve

    spec = LabSpec.of(json.loads((options.folder / "spec.json").read_text(encoding="utf-8")))

    def report(event: dict[str, Any]) -> None:
        # Whoever started the lab may be gone: that is no reason not to stop the nodes.
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(event), flush=True)

    asyncio.run(serve(options.folder, spec, report, watch_stdin=True))
    if not os.environ.get("FLEET_SSM_KEEP_LAB"):
        remove_folder(options.folder)


def _down(options: argparse.Namespace) -> None:
    _control(options).call("POST", "/shutdown", {})
    deadline = time.monotonic() + 30
    while (options.folder / "lab.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)


# -- looking


def _status(options: argparse.Namespace) -> None:
    found = _control(options).call("GET", "/status")
    console = Console()
    console.print(f"{found['connected']} of {found['nodes']} nodes connected, {found['open_sessions']} sessions open")
    traffic = found["traffic"]
    for way in ("to_agent", "to_client"):
        console.print(f"{way}: {traffic[way + '_frames']} frames, {traffic[way + '_bytes']} bytes")
    for fault in found["faults"]:
        console.print(f"fault {fault.pop('id')}: {_set_values(fault)}")


def _list(options: argparse.Namespace) -> None:
    rows = _control(options).call("GET", "/nodes")
    for row in rows:
        row["tags"] = " ".join(f"{key}={value}" for key, value in row["tags"].items() if key != "Name")
    _table(rows, ("name", "node_id", "account", "region", "kind", "status", "ping_status", "tags"))


def _sessions(options: argparse.Namespace) -> None:
    rows = [row for row in _control(options).call("GET", "/sessions") if options.all or row["active"]]
    _table(rows, ("session_id", "node", "document", "status", "seconds", "end_reason", "reason"))


def _requests(options: argparse.Namespace) -> None:
    found = _control(options).call("GET", "/requests")
    actions = sorted({*found["counts"], *found["node_counts"]})
    rows = [
        {"action": action, "controllers": found["counts"].get(action, 0), "nodes": found["node_counts"].get(action, 0)}
        for action in actions
    ]
    _table(rows, ("action", "controllers", "nodes"))


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    # A pipe has no width: cut nothing there.
    Console(width=None if sys.stdout.isatty() else 500).print(table)


def _set_values(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items() if value not in (None, 0, 0.0))


# -- nodes


def _verb(verb: str) -> Callable[[argparse.Namespace], None]:
    def run(options: argparse.Namespace) -> None:
        control = _control(options)
        for name in options.node:
            control.call("POST", f"/nodes/{quote(name)}/{verb.replace('-', '_')}", {})
            if verb in ("start", "reboot", "restart-agent") and not options.no_wait:
                control.call("POST", f"/nodes/{quote(name)}/wait", {})

    return run


def _add(options: argparse.Namespace) -> None:
    tags = dict(_pair(text) for text in options.tag)
    node = {
        "name": options.name,
        "account": options.account,
        "region": options.region,
        "kind": options.kind,
        "hybrid": options.hybrid,
        "python": not options.no_python,
        "tags": tags,
        "options": {**{name: yaml.safe_load(value) for name, value in map(_pair, options.option)}, **({"bare": True} if options.bare else {})},
    }
    names = [options.name] if options.count == 1 else [f"{options.name}-{number}" for number in range(1, options.count + 1)]
    nodes = [{**node, "name": name} for name in names]
    for made in _control(options).call("POST", "/nodes", {"nodes": nodes}):
        print(made["node_id"], made["name"])


def _enter(options: argparse.Namespace) -> None:
    found = _control(options).call("POST", f"/nodes/{quote(options.node)}/enter", {"command": options.command})
    os.execvp(found["argv"][0], found["argv"])


# -- packages


def _agent_packages(options: argparse.Namespace) -> None:
    import boto3

    from .agent_package import Signer, build_deb, publish

    known = json.loads((options.folder / "lab.json").read_text(encoding="utf-8"))
    key_id, secret = known["keys"][known["accounts"][0]]
    session = boto3.session.Session(aws_access_key_id=key_id, aws_secret_access_key=secret)
    packages = {version: build_deb(version) for version in options.version}
    with Signer() as signer:
        for region in known["regions"]:
            s3 = session.client("s3", region_name=region, endpoint_url=known["api_url"])
            publish(s3, f"amazon-ssm-{region}", region, packages, signer)
        print(signer.public_key(), end="")


# -- faults


def _fault_frames(options: argparse.Namespace) -> None:
    names = ("direction", "node", "latency", "jitter", "loss", "duplicate", "reorder", "reorder_delay", "count")
    body = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    print("fault", _control(options).call("POST", "/faults/frames", body)["id"])


def _fault_calls(options: argparse.Namespace) -> None:
    names = ("action", "account", "region", "delay", "status", "code", "message", "ratio", "count", "rate", "burst")
    body = {name: getattr(options, name) for name in names if getattr(options, name) is not None} | {"lost": options.lost}
    print("fault", _control(options).call("POST", "/faults/calls", body)["id"])


def _fault_events(options: argparse.Namespace) -> None:
    names = ("way", "account", "region", "loss", "delay", "count")
    body = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    print("fault", _control(options).call("POST", "/faults/events", body)["id"])


def _fault_cut(options: argparse.Namespace) -> None:
    body = {"side": options.side, "node": options.node, "session": options.session}
    print(_control(options).call("POST", "/faults/cut", body)["cut"], "websockets cut")


def _fault_away(options: argparse.Namespace) -> None:
    body = {"seconds": options.seconds, "side": options.side, "node": options.node, "mode": options.mode}
    _control(options).call("POST", "/faults/away", body)


def _fault_clear(options: argparse.Namespace) -> None:
    _control(options).call("DELETE", f"/faults?id={options.id}" if options.id else "/faults")


# -- the grammar


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="An AWS account with nodes on this machine.")
    parser.add_argument("--folder", type=Path, default=_default_folder(), help="the lab's folder (or FLEET_SSM_LAB)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    up = command("up", _up, "start a lab in the foreground; Ctrl-C ends it")
    up.add_argument("--nodes", type=int, default=6, help="number of nodes of the default fleet")
    up.add_argument("--machine", action="store_true", help="nodes that boot systemd (needs root and systemd-nspawn)")
    up.add_argument("--agent", type=Path, help="folder with a real amazon-ssm-agent for the nodes to run")
    up.add_argument("--spec", type=Path, help="YAML file with nodes, accounts, regions, settings")
    up.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, e.g. minute_seconds=1")
    up.add_argument("--env-file", type=Path, help="where to write the environment to export")
    up.add_argument("--inventory", type=Path, help="where to write the inventory")
    up.add_argument("--quiet", action="store_true", help="do not show each request (requests.jsonl has them all)")
    serve = commands.add_parser("serve")
    serve.add_argument("--folder", type=Path, required=True, default=argparse.SUPPRESS)
    serve.set_defaults(run=_serve)
    command("down", _down, "end a lab")
    command("status", _status, "numbers of nodes, sessions, frames; faults that are on")
    command("list", _list, "the nodes")
    sessions = command("sessions", _sessions, "open sessions")
    sessions.add_argument("--all", action="store_true", help="ended ones too")
    command("requests", _requests, "API requests by action")
    for verb in _VERBS:
        made = command(verb, _verb(verb), f"{verb.replace('-', ' ')} nodes")
        made.add_argument("node", nargs="+", help="name or id")
        made.add_argument("--no-wait", action="store_true", help="do not wait until the agent is connected")
    add = command("add", _add, "make further nodes")
    add.add_argument("name")
    add.add_argument("--account", default=ACCOUNTS[0])
    add.add_argument("--region", default=REGIONS[0])
    add.add_argument("--kind", default="process", choices=[str(kind) for kind in NodeKind])
    add.add_argument("--hybrid", action="store_true", help="mi-… instead of i-…")
    add.add_argument("--bare", action="store_true", help="a machine without an agent")
    add.add_argument("--no-python", action="store_true", help="a node without Python")
    add.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE")
    add.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="one of a node's options, e.g. credentials_retry=3600")
    add.add_argument("--count", type=int, default=1, help="so many, named NAME-1, NAME-2, …")
    enter = command("enter", _enter, "a root shell in a node")
    enter.add_argument("node")
    enter.add_argument("command", nargs=argparse.REMAINDER, help="something else than a shell")
    packages = command("agent-packages", _agent_packages, "packages of the lab's agent in each region's download location; prints the key that signs them")
    packages.add_argument("version", nargs="+", help="e.g. 3.3.1.0; the last one is the latest")
    _add_faults(command("fault", _status, "harm frames, calls, connections, the network"))
    return parser


def _add_faults(fault: argparse.ArgumentParser) -> None:
    kinds = fault.add_subparsers(metavar="KIND", required=True)

    def kind(name: str, run: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        made = kinds.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    frames = kind("frames", _fault_frames, "frames of data channels; ratios 0-1, times in seconds")
    frames.add_argument("--direction", choices=("to_agent", "to_client", "both"))
    frames.add_argument("--node")
    for name in ("latency", "jitter", "loss", "duplicate", "reorder", "reorder-delay"):
        frames.add_argument(f"--{name}", type=float)
    frames.add_argument("--count", type=int, help="strike so many frames only")
    calls = kind("calls", _fault_calls, "API calls of an action such as ssm:StartSession or ec2:*")
    calls.add_argument("action")
    calls.add_argument("--account")
    calls.add_argument("--region")
    calls.add_argument("--lost", action="store_true", help="serve the calls, then close the connection without an answer")
    for name, text in (("delay", "seconds"), ("ratio", "of the calls"), ("rate", "throttle to calls a second"), ("burst", "calls at once")):
        calls.add_argument(f"--{name}", type=float, help=text)
    calls.add_argument("--status", type=int, help="answer with 500 or 503")
    calls.add_argument("--message", help="the error's message, with --code")
    calls.add_argument("--code", help="an error code; \"throttle\" is the service's own for throttling")
    calls.add_argument("--count", type=int, help="hit so many calls only")
    events = kind("events", _fault_events, "status events of Run Command: lost (a ratio), or late (seconds)")
    events.add_argument("--way", choices=("eventbridge", "sns"))
    events.add_argument("--account")
    events.add_argument("--region")
    events.add_argument("--loss", type=float)
    events.add_argument("--delay", type=float)
    events.add_argument("--count", type=int, help="strike so many events only")
    cut = kind("cut", _fault_cut, "break the websockets of data channels")
    away = kind("away", _fault_away, "no network for some seconds")
    away.add_argument("seconds", type=float)
    away.add_argument("--mode", choices=("hang", "cut"), default="hang")
    for made in (cut, away):
        made.add_argument("--side", choices=("client", "agent"), default="client")
        made.add_argument("--node")
    cut.add_argument("--session")
    clear = kind("clear", _fault_clear, "switch off one fault, or all")
    clear.add_argument("id", nargs="?", type=int)
