# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the demonstration fails: at once where it cannot run, and with the first of its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.__main__ import Demo, Surprise

REPOSITORY = Path(__file__).resolve().parents[3]


# Becomes another user once everything is imported: what is below a home of mode 0700 is closed to others.
AS_NOBODY = """
import os, sys
from tests.demo.__main__ import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_ranges_of_ids_is_told_so_at_once():
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot run here: newuidmap and newgidmap (package uidmap), or ranges" in done.stdout


class Ending(Demo):
    """A demonstration of which only the two ends matter."""

    def __init__(self, first: Exception | None, second: Exception | None) -> None:
        self.first, self.second, self.finished = first, second, 0

    def show(self) -> None:
        if self.first:
            raise self.first

    def finish(self) -> None:
        self.finished += 1
        if self.second:
            raise self.second


@pytest.mark.parametrize(("first", "second"), [(Surprise("first"), Surprise("second")), (Surprise("first"), None), (None, Surprise("second"))])
def test_the_first_error_is_the_one_that_is_told(first, second):
    demo = Ending(first, second)
    with pytest.raises(Surprise, match=str(first or second)):
        demo.show_and_finish()
    assert demo.finished == 1
