# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`, as in a pipe."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.controller import REPOSITORY


@pytest.mark.slow
def test_demo() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.demo"], cwd=REPOSITORY, text=True, capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    first, _mark, second = done.stdout.partition("The second run")
    assert " 6 changed" in first
    assert " changed\n" not in second
