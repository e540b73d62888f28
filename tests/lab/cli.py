# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from .spec import LabSpec


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    from .server import serve as run

    spec = LabSpec.of(json.loads((arguments.folder / "spec.json").read_text(encoding="utf-8")))
    asyncio.run(run(arguments.folder, spec, lambda event: print(json.dumps(event), flush=True), watch_stdin=True))
    return 0
