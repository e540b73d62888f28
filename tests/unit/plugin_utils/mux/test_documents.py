# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder of session documents, and the files of the collection's own."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session import documents
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.documents import Memory, Rung, ladder

FOLDER = Path(documents.__file__).parents[1] / "session_documents"


@pytest.mark.parametrize(
    ("options", "rungs"),
    [
        (("auto", None, None), ["FleetSSM-Input", "AWS-StartInteractiveCommand", ""]),
        (("auto", None, "root"), ["FleetSSM-RootInput", "AWS-StartInteractiveCommand", ""]),
        (("auto", None, "fred"), ["FleetSSM-Input", "AWS-StartInteractiveCommand", ""]),
        (("FleetSSM-RootInput", None, None), ["FleetSSM-RootInput"]),
        (("SSM-SessionManagerRunShell", None, None), ["SSM-SessionManagerRunShell"]),
        (("Mine", None, None), ["Mine", "Mine"]),
    ],
)
def test_rungs(options: tuple[str, str | None, str | None], rungs: list[str]) -> None:
    assert [rung.document for rung in ladder(*options)] == rungs


def test_outputs_and_prompts() -> None:
    assert ladder("auto", None, "root")[0] == Rung("FleetSSM-RootInput", "FleetSSM-RootOutput")
    assert ladder("Mine", "Mine-Output", None) == (Rung("Mine", "Mine-Output"), Rung("Mine", "Mine-Output", typed=True))
    assert ladder("auto", None, None)[1] == Rung("AWS-StartInteractiveCommand", "AWS-StartNonInteractiveCommand")
    assert [bool(rung.output_parameters) for rung in ladder("auto", None, None)] == [False, True, False]
    assert [rung.typed for rung in ladder("auto", None, None)] == [False, False, True]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_the_collections_documents(path: Path) -> None:
    content = json.loads(path.read_text())
    output = path.stem.endswith("Output")
    assert content["sessionType"] == ("NonInteractiveCommands" if output else "InteractiveCommands")
    assert set(content["properties"]) == {"linux", "macos"}
    for properties in content["properties"].values():
        assert properties["runAsElevated"] is ("Root" in path.stem)
        assert properties.get("separateOutputStream", False) is output
        assert properties["commands"] == "{{ command }}"


def test_there_is_a_file_for_each_document_of_the_ladder() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {documents.OWN_INPUT, documents.OWN_OUTPUT, documents.ROOT_INPUT, documents.ROOT_OUTPUT}


def test_a_refusal_is_forgotten_after_a_while_and_by_a_use() -> None:
    memory = Memory()
    assert not memory.is_usable("a") and not memory.is_refused("a", 0.0)
    memory.refused("a", 100.0)
    assert memory.is_refused("a", 100.0 + Memory.REFUSAL_KEPT - 1)
    assert not memory.is_refused("a", 100.0 + Memory.REFUSAL_KEPT)
    memory.used("a")
    assert memory.is_usable("a") and not memory.is_refused("a", 101.0)
    memory.refused("a", 102.0)
    assert not memory.is_usable("a")


async def test_one_node_tries_a_document_and_the_others_hear_of_it() -> None:
    known, calls = Memory(), 0

    async def node() -> str:
        nonlocal calls
        await known.learn("own")
        if known.is_refused("own", 0.0):
            return "refused"
        with known.trying("own"):
            calls += 1
            await asyncio.sleep(0.05)
            known.refused("own", 0.0)
        return "tried"

    assert sorted(await asyncio.gather(*(node() for _turn in range(50)))) == ["refused"] * 49 + ["tried"]
    assert calls == 1


async def test_nobody_waits_long_or_twice_for_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that tries first may be throttled, or look into a black hole."""
    monkeypatch.setattr(Memory, "FIRST_ANSWER", 0.05)
    known = Memory()

    async def node() -> None:
        await known.learn("own")
        with known.trying("own"):
            await asyncio.sleep(0.3)

    began = time.monotonic()
    await asyncio.gather(*(node() for _turn in range(50)))
    assert time.monotonic() - began < 0.6


async def test_what_is_usable_is_waited_for_by_nobody() -> None:
    known = Memory()
    with known.trying("own"):
        known.used("own")
        async with asyncio.timeout(0.05):
            await known.learn("own")
