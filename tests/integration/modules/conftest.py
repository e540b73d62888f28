# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated nodes for all tests of run_command that need no execution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modules.fleet import definitions
from tests.integration.modules.local import Local
from tests.lab import Lab


@pytest.fixture(scope="session")
def simulated_fleet() -> Iterator[Lab]:
    """Of two accounts and regions: see `fleet.py`."""
    with Lab(definitions()) as lab:
        yield lab


@pytest.fixture
def on_fleet(simulated_fleet: Lab, tmp_path: Path) -> Iterator[Local]:
    """A controller for it; counts of requests begin at zero, and faults end."""
    simulated_fleet.reset_requests()
    yield Local(tmp_path / "controller", simulated_fleet)
    simulated_fleet.clear_permissions()
    simulated_fleet.clear_faults()
    simulated_fleet.settings(listing_delay=0.0, delivery_second=1.0)
