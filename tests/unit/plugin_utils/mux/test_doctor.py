# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor examines is what the connection would use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import doctor
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import FIELD_NAMES
from tests.integration.controller import COLLECTIONS
from tests.integration.direct import DirectConnection

OF_AWS_SSM = {
    "ansible_aws_ssm_instance_id": "i-01234567",
    "ansible_aws_ssm_region": "eu-central-1",
    "ansible_aws_ssm_access_key_id": "AKIDMOVED",
    "ansible_aws_ssm_secret_access_key": "secret",
    "ansible_aws_ssm_session_token": "token",
    "ansible_aws_ssm_endpoint_url": "https://ssm.example",
    "ansible_aws_ssm_document": "Mine",
    "ansible_aws_ssm_timeout": 90,
    "ansible_aws_ssm_retries": 7,
}


@pytest.mark.parametrize(
    "variables",
    [OF_AWS_SSM, {"ansible_host": "by-host", "ansible_ssm_timeout": 30, "ansible_aws_ssm_profile": "old", "ansible_ssm_profile": "new"}],
    ids=["all of aws_ssm", "several for one option"],
)
def test_an_inventory_is_read_as_the_connection_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"node": variables}}}))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(COLLECTIONS))
    found = doctor._from_inventory([str(inventory)], "node")
    with DirectConnection(tmp_path, {}, variables) as connection:
        assert found == {name: connection.plugin.get_option(name) for name in FIELD_NAMES if name in found}
        defaults = {name: connection.plugin.get_option(name) for name in FIELD_NAMES if name not in found}
    with DirectConnection(tmp_path, {}, {"ansible_host": "by-host"}) as bare:
        assert defaults == {name: bare.plugin.get_option(name) for name in defaults}, "and nothing else is set"
