# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gather` and `report`, for people: what the callback does at the end of a run, for a run that is over."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .disk import REPORT_HTML, RUN
from .reporting import make_report, update_run

CONNECTIONS, LATE_SECONDS = 16, 30.0


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit status: 1 if outputs are missing."""
    parsed = _parser().parse_args(arguments)
    folder = Path(parsed.folder)
    if not (folder / RUN).exists():
        print(f"{folder} is not the folder of a run: there is no {RUN} in it.", file=sys.stderr)
        return 2
    incomplete = 0
    try:
        if parsed.command == "gather":
            from .gatherer import Gatherer

            counts = Gatherer(folder, vars(parsed)).settle(_tell)
            update_run(folder, {"gathering": counts})
            incomplete = counts["incomplete"]
            print(f"{counts['nodes']} nodes now, {counts['objects']} objects, {counts['bytes']:,} bytes; {incomplete} incomplete", file=sys.stderr)
        report = make_report(folder)
    except (OSError, json.JSONDecodeError) as error:
        print(f"{folder}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for problem in report["gathering"]["problems"]:
        print(f"{problem['count']} times {problem['text']}", file=sys.stderr)
    print(folder / REPORT_HTML)
    return 1 if incomplete else 0


def _tell(counts: Mapping[str, Any]) -> None:
    print(f"{counts['nodes']} nodes, {counts['objects']} objects, {counts['bytes']:,} bytes", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="outputs", description="Outputs and reports of the callback plugin fleet.ssm.outputs.")
    commands = parser.add_subparsers(dest="command", required=True)
    gather = commands.add_parser("gather", help="gather what is missing of a run, and make its report anew")
    gather.add_argument("--connections", type=int, default=CONNECTIONS, help="objects that are read at once (default: %(default)s)")
    gather.add_argument("--late-seconds", type=float, default=LATE_SECONDS, help="seconds to wait for objects that are not there yet (default: %(default)s)")
    gather.add_argument("--profile", help="whose credentials; else as every AWS tool finds them")
    gather.add_argument("--role-arn", help="a role to assume with them")
    gather.add_argument("--external-id", help="what its trust policy demands")
    gather.add_argument("--region", help="the region of addresses that name none")
    gather.add_argument("--endpoint-url", help="the URL of S3, if not AWS's own")
    report = commands.add_parser("report", help="make the report of a run anew")
    for command in (gather, report):
        command.add_argument("folder", metavar="DEST/RUN", help="the folder of the run")
    return parser
