# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Without a mirror packages come from the region's own bucket, by its own name, and through a proxy if there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent_role.conftest import BUCKET, NEW, REGION, Machine, Mirror, changed
from tests.lab import Lab

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(lab, "proxied", mirror, tmp_path_factory.mktemp("proxied"))
    yield made
    made.close()


def test_through_a_proxy_from_the_regions_own_bucket(machine: Machine) -> None:
    with machine.lab.proxy() as proxy:
        given = {"agent_mirror": "", "agent_proxy": proxy.url, "agent_no_proxy": ["169.254.169.254", "127.0.0.1"]}
        assert changed(machine.role(**given)) > 0
        asked = {request.target for request in proxy.requests}

    assert asked == {f"{BUCKET}.s3.{REGION}.amazonaws.com:443"}
    assert machine.version() == f"ii {NEW}-1"
    machine.node.wait_online()
