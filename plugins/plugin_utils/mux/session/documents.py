# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ladder of session documents: what each rung is and promises, best first.

1. The collection's own pair (JSON in `session_documents/`): the runner by the first, its output by the second at full speed.
2. The public pair, `AWS-StartInteractiveCommand` and `AWS-StartNonInteractiveCommand`: nothing to set up, and the same
   speed where the second one may be used; else output at the speed of a terminal.
3. The account's default shell document: at the speed of a terminal, and the command is typed at the shell's prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OWN_INPUT = "FleetSSM-Input"
OWN_OUTPUT = "FleetSSM-Output"
ROOT_INPUT = "FleetSSM-RootInput"
ROOT_OUTPUT = "FleetSSM-RootOutput"
PUBLIC = "AWS-StartInteractiveCommand"
PUBLIC_OUTPUT = "AWS-StartNonInteractiveCommand"
DEFAULT_SHELL = ""
"""The empty name: StartSession without a document takes the account's default."""
SHELL_PREFERENCES = "SSM-SessionManagerRunShell"


@dataclass(frozen=True)
class Rung:
    """How a node's sessions are started."""

    document: str
    """Of the session in which the runner lives; empty: none is named."""
    output_document: str | None = None
    """Of the session that only brings output; `None`: there is none."""
    typed: bool = False
    """The command is typed at a prompt instead of being the document's parameter `command`."""

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.document or f"the default shell document ({SHELL_PREFERENCES})"

    @property
    def output_parameters(self) -> dict[str, list[str]]:
        """What the output document wants beside its command: the public one mixes the streams unless told not to."""
        return {"separateOutputStream": ["true"]} if self.output_document == PUBLIC_OUTPUT else {}


def ladder(document: str, output_document: str | None, run_as: str | None) -> Sequence[Rung]:
    """The rungs to try, in order, for the options of the same names."""
    own = Rung(ROOT_INPUT, ROOT_OUTPUT) if run_as == "root" else Rung(OWN_INPUT, OWN_OUTPUT)
    if document == "auto":
        return (own, Rung(PUBLIC, PUBLIC_OUTPUT), Rung(DEFAULT_SHELL, typed=True))
    if document in (OWN_INPUT, ROOT_INPUT):
        return (Rung(document, output_document or document.replace("Input", "Output")),)
    if document == SHELL_PREFERENCES:
        return (Rung(document, output_document, typed=True),)
    if document == PUBLIC:
        return (Rung(document, output_document or PUBLIC_OUTPUT),)
    # Someone's own: most likely one that takes a command, else a shell. Only a try tells, without a permission to read documents.
    return (Rung(document, output_document), Rung(document, output_document, typed=True))


class Memory:
    """Which documents an identity was seen to be able to use, so that not every node finds out again. Times in seconds, monotonic."""

    REFUSAL_KEPT = 300.0
    """An administrator may create a missing document, or allow one, while the mux lives."""

    FIRST_ANSWER = 1.0
    """Seconds for which a node waits for what another one finds out. That is to save calls, so it is worth no more than one takes."""

    def __init__(self) -> None:
        self._usable: set[str] = set()
        self._refused: dict[str, float] = {}
        self._tries: dict[str, asyncio.Event] = {}

    @contextlib.contextmanager
    def trying(self, mark: str) -> Iterator[None]:
        """Around the use of a document: others wait for the first one, unless it is known to be usable."""
        if mark in self._usable or mark in self._tries:
            yield
            return
        ended = self._tries[mark] = asyncio.Event()
        try:
            yield
        finally:
            del self._tries[mark]
            ended.set()

    async def learn(self, mark: str) -> None:
        """Give a node that tries the document for the first time, just now, the time to find out about it. Whatever it found, nobody waits twice."""
        ended = self._tries.get(mark)
        if ended is not None and mark not in self._usable:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.FIRST_ANSWER):
                    await ended.wait()

    def is_usable(self, mark: str) -> bool:
        """It was used before."""
        return mark in self._usable

    def is_refused(self, mark: str, now: float) -> bool:
        """It was refused a short while ago."""
        return now < self._refused.get(mark, float("-inf"))

    def used(self, mark: str) -> None:
        """It has just been used."""
        self._usable.add(mark)
        self._refused.pop(mark, None)

    def refused(self, mark: str, now: float) -> None:
        """It does not exist, or may not be used."""
        self._usable.discard(mark)
        self._refused[mark] = now + self.REFUSAL_KEPT
