# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command is carried out on its node: as it is, by a warm interpreter, or as an errand.

Only chooses. What follows a refusal is the lifecycle's to say.
"""

from __future__ import annotations

import enum
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ...runner.client import RunnerClient
from ...runner.events import Failed
from ...runner.warm.payload import Recipes, errand, split
from ...runner.warm.requests import NOT_STARTED, UNKNOWN, WarmRequests
from ..work import Exec
from .foresight import Foresight

_REFUSED = "refused"


@dataclass(frozen=True)
class Warmth:
    """What all nodes of a mux share."""

    recipes: Recipes = field(default_factory=Recipes)
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    """Workers hash a become password with it, so that the mux can tell passwords apart without knowing them."""


class Way(enum.StrEnum):
    """In what way a command was asked for."""

    COLD = "cold"
    WARM = "warm"
    ERRAND = "errand"


class Begun(NamedTuple):
    """A command that was asked for."""

    number: int  #: of the request
    way: Way
    answer: bytes | None = None  #: what it will have printed when it has succeeded, if that is certain enough not to wait for it


class Fate(enum.Enum):
    """What a failure says about the command."""

    NOT_STARTED = "nothing of it was started; it can be had cold"
    UNKNOWN = "how far it came is not known"
    FAILED = "the node refused it, as it would have done cold"


class WarmNode:
    """The choice for one runner, of which it must know what that one holds."""

    def __init__(self, runner: RunnerClient, warmth: Warmth) -> None:
        self._runner = runner
        self._requests = WarmRequests(runner)
        self._recipes = warmth.recipes
        self._ways: dict[int, Way] = {}
        self.foresight = Foresight()
        self.counts: Counter[str] = Counter({**{way.value: 0 for way in Way}, _REFUSED: 0})
        """Commands by their way; refused ones are those that were then run cold, and are counted there as well."""

    @property
    def counts_text(self) -> str:
        """The counts for people."""
        return ", ".join(f"{count} {name}" for name, count in self.counts.items())

    def begin(self, action: Exec, *, able: bool) -> Begun | None:
        """Ask the runner for a command; or not, if it must not start before an answer on which it builds (``foresight.awaited_by``).

        :param able: whether the runner is one that can do more than run commands.
        """
        begun = self._begin_warm(action) if able and action.warm else None
        if begun is None:
            if self.foresight.awaited_by(action):
                return None
            begun = self._begin_cold(action)
        self._ways[begun.number] = begun.way
        self.counts[begun.way.value] += 1
        return begun

    def _begin_cold(self, action: Exec) -> Begun:
        return Begun(self._runner.exec(action.command.encode("utf-8", "surrogateescape"), tty=action.tty), Way.COLD)

    def _begin_warm(self, action: Exec) -> Begun | None:
        if action.payload:
            job = split(action.command, action.payload, self._recipes)
            if job is not None and self._requests.worthwhile(job, action.secret):
                after = self.foresight.awaited_by(action)
                return Begun(self._requests.submit(job, secret=action.secret, tty=action.tty, after=after), Way.WARM)
        elif not action.takes_input and not action.tty and (found := errand(action.command)) is not None:
            number = self._requests.errand(action.command, found)
            return Begun(number, Way.ERRAND, self.foresight.begin(number, found))
        return None

    def ended(self, number: int) -> None:
        """A request has its result."""
        self._ways.pop(number, None)
        self._requests.ended(number)

    def failed(self, event: Failed) -> Fate:
        """A request has failed."""
        if self._ways.pop(event.id, None) is not Way.WARM:
            return Fate.FAILED
        self._requests.failed(event)
        if event.code in NOT_STARTED:
            self.counts[_REFUSED] += 1
            return Fate.NOT_STARTED
        return Fate.UNKNOWN if event.code == UNKNOWN else Fate.FAILED
