# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-core 2.18, where every text is a template unless it is marked: what AWS says must be marked.

From 2.19 on it is the other way around, and `ansible.template.trust_as_template` exists.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

import ansible.template
import pytest
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.fleet.ssm.plugins.inventory import managed_nodes


def load_anew() -> ModuleType:
    """The plugin's module as Ansible would load it now."""
    spec = importlib.util.spec_from_file_location("managed_nodes_anew", managed_nodes.__file__)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_values_are_marked_as_no_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ansible.template, "trust_as_template", raising=False)
    plugin = load_anew()
    assert plugin.as_data is wrap_var
    assert plugin.trust_as_template("{{ ssm_region }}") == "{{ ssm_region }}"


def test_values_that_nobody_trusts_need_no_mark() -> None:
    trusting = getattr(ansible.template, "trust_as_template", None)
    if trusting is None:
        pytest.skip("this is ansible-core 2.18")
    plugin = load_anew()
    assert plugin.trust_as_template is trusting
    assert plugin.as_data({"a": "{{ b }}"}) == {"a": "{{ b }}"}
