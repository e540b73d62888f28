# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test runs in ``make test`` or in ``make test-long``, and none in both."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


def dry_run(*targets: str) -> str:
    """The commands that ``make`` would run."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "--dry-run", "--old-file=.venv/.ready", *targets]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def selections(*targets: str) -> list[list[str]]:
    """What each pytest that ``make`` would run for these targets selects: all from its marker on. What follows a failure is not looked at."""
    commands = [shlex.split(line.partition(" || ")[0]) for line in dry_run(*targets).splitlines() if line.startswith("pytest ")]
    return [[word for word in command[command.index("-m") :] if not word.startswith("--junit-xml")] for command in commands]


def test_every_case_is_in_test_or_in_test_long_and_not_in_both():
    """One marker and its negation, over folders that hold every test file."""
    assert selections("unit", "integration") == [["-m", "not slow", "tests/unit"], ["-m", "not slow", "tests/integration"]]
    assert selections("test-long") == [["-m", "slow", "tests"]]
    files = {path.relative_to(REPOSITORY / "tests") for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert {file.parts[0] for file in files} == {"unit", "integration"}


def test_make_test_runs_the_parts_that_hold_tests():
    assert {"unit", "integration", "sanity", "molecule", "mypy", "docs", "ansible-lint", "ruff"} <= set(re.split(r"[\s,/]+", dry_run("test")))
