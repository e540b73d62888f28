# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run in all its places at once, and which of its nodes are where."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..problems import CollectError
from .caller import Caller
from .place_run import PlaceRun
from .progress import Counts
from .resolve import registered
from .targets import Named, Targets

T = TypeVar("T")
#: Seconds between looks at the counters of all places, which cost no call.
_TICK = 1.0


class Run:
    """Drives the places of a run. A thread each, since they wait for different rates; calls at once are limited by the callers' semaphore."""

    def __init__(self, parts: Sequence[PlaceRun], stop: threading.Event) -> None:
        self.parts = parts
        self._stop = stop
        self._crashes: list[BaseException] = []
        self._adopted = threading.Barrier(max(1, len(parts)))

    def go(self, on_progress: Callable[[Counts], None], timeout: float | None = None) -> bool:
        """To the end; False if it was not over after `timeout` seconds, and was left. :raises OptionError: before anything is sent, as `PlaceRun.adopt`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        threads = [threading.Thread(target=self._run, args=(part,), daemon=True, name=f"fleet.ssm {part.place.region}") for part in self.parts]
        for thread in threads:
            thread.start()
        in_time = True
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                if thread.is_alive():
                    thread.join(_TICK)
                    break
            if deadline is not None and time.monotonic() >= deadline:
                in_time = False
                self._stop.set()
            on_progress(self.counts())
        if self._crashes:
            raise self._crashes[0]
        return in_time

    def counts(self) -> Counts:
        """Nodes of all places."""
        found = Counts()
        for part in self.parts:
            found += part.counts
        return found

    def _run(self, part: PlaceRun) -> None:
        self._guard(part.adopt)
        self._adopted.wait()
        if not self._crashes:
            self._guard(part.run)

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # to be raised where someone sees it
            self._crashes.append(error)


@dataclass(frozen=True)
class Assigned:
    """Which of the named nodes are where."""

    nodes: list[list[str]]  #: of each caller's place, in their order
    lost: list[Named]  #: in no place that could be asked
    errors: list[CollectError]  #: why a place could not be asked, where lost ones may be


def assign(targets: Targets, callers: Sequence[Caller]) -> Assigned:
    """A node whose place is not given is looked for in all places, unless there is only one."""
    found: list[dict[str, None]] = [{} for _caller in callers]  # a node may be named twice, with its place and without
    lost: list[Named] = []
    unplaced: list[str] = []
    errors: list[CollectError] = []

    def ask(question: Callable[[Caller], T], numbers: Iterable[int]) -> dict[int, T]:
        """The answers of those that do not refuse."""
        answers = {}
        for number in numbers:
            try:
                answers[number] = question(callers[number])
            except CollectError as error:
                errors.append(error)
        return answers

    everywhere = range(len(callers))
    by_account = any(node.account_id for node in targets.named)
    accounts: Mapping[int, str | None] = ask(lambda caller: caller.place.account_id, everywhere) if by_account else dict.fromkeys(everywhere)
    for node in targets.named:
        here = [
            number
            for number, account_id in accounts.items()
            if node.region in (None, callers[number].place.region) and (not by_account or node.account_id in (None, account_id))
        ]
        if len(here) == 1:
            found[here[0]][node.node_id] = None
        elif not here:
            lost.append(node)
        else:
            unplaced.append(node.node_id)
    if unplaced:
        known = ask(lambda caller: registered(caller, unplaced), accounts)
        places = {node_id: number for number, ids in known.items() for node_id in ids}
        for node_id in unplaced:
            if node_id in places:
                found[places[node_id]][node_id] = None
            else:
                lost.append(Named(node_id))
    return Assigned([list(ids) for ids in found], lost, errors)
