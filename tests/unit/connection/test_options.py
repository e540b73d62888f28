# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the documentation, of the dataclass, and of amazon.aws.aws_ssm are the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.fleet.ssm.plugins.connection import ssm
from ansible_collections.fleet.ssm.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import FIELD_NAMES, ConnectionOptions
from tests.integration.controller import COLLECTIONS

FRAGMENT: dict[str, Any] = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
ALIASES: dict[str, Any] = yaml.safe_load(ModuleDocFragment.AWS_SSM)["options"]
OWN: dict[str, Any] = yaml.safe_load(ssm.DOCUMENTATION)["options"]
WORKER_ONLY = {"control_path_dir", "reason", "use_tty"}


def variables(option: dict[str, Any]) -> set[str]:
    return {entry["name"] for entry in option["vars"]}


def test_the_dataclass_has_the_documented_options() -> None:
    assert set(FIELD_NAMES) | WORKER_ONLY == set(FRAGMENT)


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_the_defaults_are_the_documented_ones(name: str) -> None:
    if name != "host":
        assert getattr(ConnectionOptions(host="i"), name) == FRAGMENT[name].get("default")


@pytest.mark.parametrize("name", [*FRAGMENT, *OWN])
def test_every_option_has_a_variable_an_env_name_and_an_ini_key(name: str) -> None:
    option = {**FRAGMENT, **OWN}[name]
    assert f"ansible_ssm_{name}" in variables(option)
    assert [entry["name"] for entry in option["env"]] == [f"FLEET_SSM_{name.upper()}"]
    assert option["ini"] == [{"section": "fleet_ssm", "key": name}]
    assert option["version_added"] and option["description"] and option["type"]


def test_every_variable_of_aws_ssm_is_taken() -> None:
    path = COLLECTIONS / "ansible_collections/amazon/aws/plugins/connection/aws_ssm.py"
    text = path.read_text().split('DOCUMENTATION = r"""')[1].split('"""')[0]
    theirs = {name for option in yaml.safe_load(text)["options"].values() for name in variables(option)}
    ours = {name for option in {**FRAGMENT, **ALIASES}.values() for name in variables(option)}
    assert len(theirs) > 10
    assert theirs <= ours


def test_none_is_named_as_a_keyword_of_a_task_is() -> None:
    """Core fills such an option with the keyword's value: a task's or play's timeout would become ours."""
    from ansible.playbook.task import Task

    assert not set(FRAGMENT) & set(Task.fattributes)
