# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What expressions read."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.inventory.expressions import NotPlainError, look_up, paths_read, plain_path, signature


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("ssm_region", ("ssm_region",)),
        (" ssm_tags.Role ", ("ssm_tags", "Role")),
        ("ssm_tags['a b']", ("ssm_tags", "a b")),
        ("ssm_tags[0]", None),
        ("ssm_tags.Role | lower", None),
        ("ssm_tags[ssm_region]", None),
        ("'ssm_region'", None),
        ("a }} {{ b", None),
        ("a }}", None),
        ("a b", None),
        ("", None),
    ],
)
def test_plain_path(expression: str, path: tuple[str, ...] | None) -> None:
    assert plain_path(expression) == path


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("a.b == 'x' and c", (("a", "b"), ("c",))),
        ("a[b.c] | lower", (("a",), ("b", "c"))),
        ("'x' in a.b", (("a", "b"),)),
        ("a | default(b)", (("a",), ("b",))),
        ("a is defined", (("a",),)),
        ("'constant'", ()),
        ("a.items()", None),
        ("lookup('env', 'X')", None),
        ("['a'] | random", None),
        ("'x' | community.general.random_mac", None),
        ("(a", None),
    ],
)
def test_paths_read(expression: str, paths: tuple[tuple[str, ...], ...] | None) -> None:
    assert paths_read(expression) == paths


@pytest.mark.parametrize(
    ("path", "variables"),
    [(("t", "Role"), {"t": {}}), (("t", "items"), {"t": {"items": "x"}}), (("t", "a"), {"t": None}), (("t", "a"), {"t": "abc"})],
)
def test_look_up_leaves_the_rest_to_jinja(path: tuple[str, ...], variables: dict[str, Any]) -> None:
    with pytest.raises(NotPlainError):
        look_up(path, variables)


def test_look_up() -> None:
    assert look_up(("t", "Role"), {"t": {"Role": None}}) is None
    assert look_up(("t",), {"t": {"a": 1}}) == {"a": 1}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"t": {"a": 1, "b": 1}}, {"t": {"a": 1, "b": 2}}, True),
        ({"t": {"a": 1}}, {"t": {"a": "1"}}, False),
        ({"t": {"a": None}}, {"t": {}}, False),
        ({"t": {}}, {}, False),
        ({"t": "x"}, {"t": "y"}, False),
        ({"t": {"b": 1}}, {"t": {"b": 2}}, True),  # both without it
        ({"t": {"b": 1}}, {"t": {"a": 2}}, False),
    ],
)
def test_signature(one: dict[str, Any], other: dict[str, Any], equal: bool) -> None:
    paths = (("t", "a"),)
    assert (signature(paths, one) == signature(paths, other)) is equal


def test_a_mapping_without_the_key_matters_where_it_has_a_method_of_that_name() -> None:
    paths = (("t", "items"),)
    assert signature(paths, {"t": {"b": 1}}) != signature(paths, {"t": {"b": 2}})


@pytest.mark.parametrize("value", ["{{ other }}", ["x{% if a %}y{% endif %}"], {"b": {"c": "{{ other }}"}}, object()])
def test_what_may_be_a_template_or_is_no_json_has_no_signature(value: Any) -> None:
    assert signature((("t",),), {"t": value}) is None
    assert signature((("u",),), {"t": value}) is not None
