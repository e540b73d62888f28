# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what is there to what is to be done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.document_plan import (
    Content,
    ContentError,
    Existing,
    Plan,
    PlanError,
    Wanted,
    after,
    plan_absent,
    plan_present,
)
from ansible_collections.fleet.ssm.plugins.module_utils.session_documents import SETS, own_documents
from tests.integration.controller import MUX

ONE = Content.of({"schemaVersion": "2.2", "description": "one"}, None)
TWO = Content.of({"schemaVersion": "2.2", "description": "two"}, None)
THREE = Content.of({"schemaVersion": "2.2", "description": "three"}, None)


def wanted(content: Content | None = ONE, **values: Any) -> Wanted:
    return Wanted("X", "Command", content, **values)


def existing(default: Content = ONE, latest: Content | None = None, **values: Any) -> Existing:
    return Existing("Command", "1", "1" if latest is None else "2", latest or default, default, **values)


@pytest.mark.parametrize(
    ("what", "there", "plan"),
    [
        (wanted(), None, Plan(create=True)),
        (wanted(shared_with=("2",), tags={"a": "b"}), None, Plan(create=True, share=("2",))),
        (wanted(), existing(), Plan()),
        (wanted(TWO), existing(), Plan(add_version=True, default_version="latest")),
        (wanted(TWO, default_version="keep"), existing(), Plan(add_version=True)),
        (wanted(TWO), existing(ONE, TWO), Plan(default_version="2")),
        (wanted(TWO, default_version="keep"), existing(ONE, TWO), Plan()),
        (wanted(ONE), existing(ONE, TWO), Plan()),
        (wanted(ONE, default_version="keep"), existing(ONE, TWO), Plan()),
        (wanted(ONE, default_version="1"), existing(ONE, TWO), Plan()),
        (wanted(THREE, default_version="keep"), existing(ONE, TWO, other_version="1"), Plan()),
        (wanted(THREE), existing(ONE, TWO), Plan(add_version=True, default_version="latest")),
        (wanted(None), existing(ONE, TWO), Plan()),
        (wanted(None, default_version="2"), existing(ONE, TWO), Plan(default_version="2")),
        (wanted(shared_with=("2", "3")), existing(shared_with=("3", "4")), Plan(share=("2",), unshare=("4",))),
        (wanted(shared_with=("2",), purge_shared=False), existing(shared_with=("4",)), Plan(share=("2",))),
        (wanted(shared_with=()), existing(shared_with=("4",)), Plan(unshare=("4",))),
        (wanted(tags={"a": "1", "b": "2"}), existing(tags={"a": "1", "b": "1", "c": "3", "aws:x": "y"}), Plan(tag={"b": "2"}, untag=("c",))),
        (wanted(tags={"b": "2"}, purge_tags=False), existing(tags={"c": "3"}), Plan(tag={"b": "2"})),
    ],
)
def test_plans(what: Wanted, there: Existing | None, plan: Plan) -> None:
    found = plan_present(what, there)
    assert found == plan
    made = after(what, there, found)
    assert made is not None and not plan_present(what, made), "the second time there is nothing to do"


def test_what_cannot_be() -> None:
    with pytest.raises(PlanError, match="'content' is missing"):
        plan_present(wanted(None), None)
    with pytest.raises(PlanError, match="type Command, which cannot be changed to Session"):
        plan_present(Wanted("X", "Session", ONE), existing())
    with pytest.raises(PlanError, match="version 3 cannot be the default"):
        plan_present(wanted(default_version="3"), None)


def test_absence() -> None:
    assert not plan_absent(None)
    assert plan_absent(existing(shared_with=("2",))) == Plan(delete=True, unshare=("2",))
    assert after(wanted(), existing(), Plan(delete=True)) is None


def test_contents_are_compared_by_meaning() -> None:
    as_yaml = Content.of("description: one\nschemaVersion: '2.2'\n", None)
    assert as_yaml.format == "YAML" and as_yaml.means(ONE) and not as_yaml.means(TWO) and not ONE.means(None)
    assert Content.of(ONE.value, "YAML").format == "YAML" and Content.of(ONE.value, "YAML").means(ONE)
    assert Content.of(ONE.text, None).text == ONE.text


@pytest.mark.parametrize(("given", "form"), [("{", None), ("[1]", "JSON"), ("a: [", "YAML"), ("just words", None)])
def test_contents_that_are_none(given: str, form: str | None) -> None:
    with pytest.raises(ContentError, match="it is no"):
        Content.of(given, form)


def test_the_collections_own_documents_are_those_of_its_files() -> None:
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (MUX / "session_documents").glob("*.json")}
    assert own_documents(*SETS) == files
