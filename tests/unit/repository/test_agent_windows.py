# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role agent decides on Windows by expressions alone. That its tasks do the same on Windows no test here can say."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.tools.role_readme import ROLES

(ROLE,) = (role for role in ROLES if role.name == "agent")


def value(name: str, **given: Any) -> Any:
    """A variable of the role, given others."""
    loader = DataLoader()
    known = [loader.load_from_file(str(ROLE / folder / "main.yml"), trusted_as_template=True) for folder in ("defaults", "vars")]
    templar = Templar(loader, variables={**known[0], **known[1], "inventory_hostname": "win-1", **given})
    return templar.template(known[1][name])


OURS = ["http_proxy=http://proxy:3128", "https_proxy=http://proxy:3128", "no_proxy=169.254.169.254", "fleet_ssm_proxy=true"]
THEIRS = ["AWS_CA=x", "HTTPS_PROXY=http://theirs:8080"]


@pytest.mark.parametrize(
    ("there", "proxy", "written"),
    [
        ({"exists": False}, "", None),
        ({"exists": False}, "http://proxy:3128", OURS),
        ({"value": OURS}, "", []),
        ({"value": THEIRS}, "", None),
        ({"value": "AWS_CA=x"}, "", None),
        ({"value": THEIRS}, "http://proxy:3128", ["AWS_CA=x", *OURS]),
        ({"value": ["AWS_CA=x", *OURS]}, "", ["AWS_CA=x"]),
    ],
)
def test_a_proxy_that_others_gave_the_service_stays(there: dict[str, Any], proxy: str, written: list[str] | None) -> None:
    """`written` is None where the value is left alone."""
    given = {"__agent_windows_environment": there, "agent_proxy": proxy}
    assert value("__agent_windows_configures_proxy", **given) is (written is not None)
    if written is not None:
        assert value("__agent_windows_others", **given) + value("__agent_windows_proxy", **given) == written
