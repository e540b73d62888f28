# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many nodes are one question."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.lookups import Lookup


async def test_what_comes_while_an_answer_is_awaited_goes_together() -> None:
    asked: list[list[str]] = []

    async def ask(ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        asked.append(ids)
        await asyncio.sleep(0.05)
        return {name: {"id": name} for name in ids if name != "none"}

    lookup = Lookup(ask, most=30)
    first = asyncio.create_task(lookup.find("one"))
    await asyncio.sleep(0.01)
    names = [f"i-{number}" for number in range(50)]
    found = await asyncio.gather(*(lookup.find(name) for name in [*names, "none", "i-1"]))
    assert await first == {"id": "one"}
    assert found == [*({"id": name} for name in names), None, {"id": "i-1"}]
    assert [len(ids) for ids in asked] == [1, 30, 21]
    assert await lookup.find("later") == {"id": "later"}


async def test_an_error_is_everyones_and_does_not_last() -> None:
    results = iter([ValueError("no"), {}])

    async def ask(_ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    lookup = Lookup(ask, most=10)
    failed = await asyncio.gather(lookup.find("a"), lookup.find("b"), return_exceptions=True)
    assert [str(error) for error in failed] == ["no", "no"]
    assert await lookup.find("a") is None


async def test_who_waits_no_longer_takes_nothing_from_the_others() -> None:
    go = asyncio.Event()

    async def ask(ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
        await go.wait()
        return {name: {} for name in ids}

    lookup = Lookup(ask, most=10)
    other = asyncio.create_task(lookup.find("a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await lookup.find("a")
    go.set()
    assert await other == {}
