# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`status`, `stop` and `doctor HOST`: what people ask the mux.

It is the one of this Python and this copy of the collection; if none runs, those of the user's others in the same folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from . import start
from .client import MuxClient, MuxError
from .places import default_directory
from .protocol import FrameType
from .request import FIELD_NAMES

_PATIENCE = 30.0
_NONE = "the mux is not running"


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "doctor":
            from .doctor import run

            return run(parsed)
        return _ask(parsed)
    except (MuxError, start.StartError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _ask(parsed: argparse.Namespace) -> int:
    try:
        peer = start.connect(parsed.control_path_dir, start=False, any_code=True)
    except start.Hanging as hanging:
        if parsed.command != "stop" or not hanging.kill():
            raise
        print(f"the mux {hanging.pid} did not answer, and was killed")
        return 0
    clients = [MuxClient(found, patience=_PATIENCE) for found in ([peer] if peer is not None else start.connect_others(parsed.control_path_dir))]
    if parsed.command == "status":
        answers = [client.ask(FrameType.STATUS) for client in clients]
        if parsed.json:
            first, others = answers[:1], answers[1:]
            print(json.dumps({"running": bool(first), **(first[0] if first else {}), **({"others": others} if others else {})}, indent=2))
        else:
            print("\n\n".join(describe(answer) for answer in answers) or _NONE)
    else:
        ended = [client.ask(FrameType.STOP)["pid"] for client in clients]
        for client in clients:
            client.wait_for_end()
        print("\n".join(f"the mux {pid} has ended" for pid in ended) or _NONE)
    return 0


def describe(status: dict[str, Any]) -> str:
    """The mux's status as text."""
    lines = [
        f"mux {status['pid']}, up {status['uptime']:.0f} s, {status['memory_mb']} MB, {status['workers']} workers now, {status['requests']} connections so far",
        f"socket {status['socket']}",
    ]
    for node in status["nodes"]:
        lines.append(f"\n{node['host']}: {node['node']} in {node['region']} by {node['who']}")
        if "session" in node:
            lines.append(f"  {node['user']}, {node['runner']} {node['python']}, document {node['document']}")
            lines.append(f"  sessions {node['session']}{' and ' + node['output_session'] if node['output_session'] else ''}")
            lines.append(
                f"  {node['running']} running, {node['finished']} finished; commands: "
                + ", ".join(f"{count} {name}" for name, count in node["commands"].items())
            )
            lines.append(
                f"  round trip {node['rtt_ms']} ms; {node['bytes_sent']:,} bytes out, "
                f"{node['bytes_received']:,} in; {node['retransmissions']} sent again, {node['reconnects']} reconnects"
            )
        elif node.get("route") == "run_command":
            lines.append(f"  by Run Command with {node['document']}: {node['running']} running, {node['finished']} finished")
        else:
            lines.append("  opening" if node["opening"] else "  no session")
    for who in status["identities"]:
        calls = ", ".join(f"{name} {count}" for name, count in who["api_calls"].items()) or "none"
        lines.append(f"\nAWS calls by {who['who']} in {who['region']}: {calls}")
    for limit in status["limits"]:
        if limit["throttled"]:
            lines.append(f"throttled: {limit['action']} {limit['throttled']} times of {limit['calls']}; now one call each {limit['gap']} s")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mux", description="The process that holds fleet.ssm's connections.")
    directory = os.environ.get("FLEET_SSM_CONTROL_PATH_DIR") or default_directory()
    parser.add_argument("--control-path-dir", default=directory, help="folder of the socket (option control_path_dir; default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="what is open")
    status.add_argument("--json", action="store_true", help="as JSON")
    commands.add_parser("stop", help="end it, and every session that it holds")
    doctor = commands.add_parser("doctor", help="which layer fails on the way to a node")
    doctor.add_argument("host", help="instance id, Name tag, tag:Key=Value; or a host of --inventory")
    doctor.add_argument("-i", "--inventory", action="append", default=[], help="read the connection options of the host from an inventory")
    for name in FIELD_NAMES:
        if name not in ("host", "reconnection_retries", "mux_log", "control_persist", "max_sessions"):
            doctor.add_argument("--" + name.replace("_", "-"), dest=f"option_{name}", metavar="VALUE", help=argparse.SUPPRESS)
    doctor.epilog = "The connection plugin's options are flags: --region, --profile, --role-arn, --document, --route, --bucket, …"
    return parser
