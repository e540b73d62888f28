# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of labs."""

from __future__ import annotations

import json

import pytest

from tests.lab.spec import LabSpec, default_nodes


def test_the_default_fleet_spans_two_accounts_and_two_regions():
    nodes = default_nodes()
    assert len(nodes) == 6
    assert len({(node.account, node.region) for node in nodes}) == 4
    assert len({node.name for node in default_nodes(50)}) == 50


def test_a_spec_survives_json():
    spec = LabSpec.of({"nodes": [{"name": "a", "users": [{"name": "joe", "sudo": "password"}], "account": "333333333333"}]})
    assert LabSpec.of(json.loads(json.dumps(spec.as_json()))) == spec
    assert "333333333333" in spec.accounts


@pytest.mark.parametrize(
    ("values", "word"),
    [({"node": []}, "node"), ({"nodes": [{"name": "a", "colour": "red"}]}, "colour"), ({"nodes": [{"name": "a", "state": "off"}]}, "state")],
)
def test_a_mistake_is_named(values, word):
    with pytest.raises(ValueError, match=word):
        LabSpec.of(values)
