# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which routes a test reaches its nodes: a mark for a test, or for all of a file. The others use the session."""

from __future__ import annotations

import pytest

SESSION, RUN_COMMAND, WITHOUT_BUCKET = "session", "run_command", "run_command-without-bucket"

by_run_command = pytest.mark.parametrize("route", [RUN_COMMAND], indirect=True)
without_bucket = pytest.mark.parametrize("route", [WITHOUT_BUCKET], indirect=True)
by_both = pytest.mark.parametrize("route", [SESSION, RUN_COMMAND], indirect=True)
by_both_later = pytest.mark.parametrize("route", [SESSION, pytest.param(RUN_COMMAND, marks=pytest.mark.slow)], indirect=True)
"""The route of Run Command in the long run alone: each task takes it half a second."""
