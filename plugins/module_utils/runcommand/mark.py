# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark in a command's comment, by which it is found again: after an ambiguous answer, and after the controller's death. No I/O.

SendCommand has no client token. So each call carries ``[fssm:RUN.ATTEMPT.WHAT.TASK]`` in its comment: the run, the attempt (0 for the first
one), a hash of the nodes or targets, and one of what the task does, by which a run is told from another one of the same name. Where nobody
chooses the name, the last is left out. A run's commands are those with its mark, wherever the list of them came from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

#: AWS's limit of a comment, in characters.
COMMENT_LIMIT = 100
RUN_ID_LIMIT = 32
_MARK = re.compile(r"\[fssm:(?P<run>[A-Za-z0-9_-]+)\.(?P<attempt>\d+)\.(?P<what>[0-9a-f]{8})(?:\.(?P<task>[0-9a-f]{8}))?\]")
_RUN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{RUN_ID_LIMIT}}}")


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one SendCommand from all others."""

    run_id: str
    attempt: int
    what: str
    task: str = ""

    @classmethod
    def of(cls, run_id: str, attempt: int, targets: Iterable[str], task: str = "") -> Mark:
        """For nodes' ids, or for targets written as text; their order does not matter. :param task: a `digest`."""
        return cls(run_id, attempt, digest(*sorted(targets)), task)

    @classmethod
    def read(cls, comment: str) -> Mark | None:
        """From a comment; None if it has none."""
        found = _MARK.search(comment)
        return cls(found["run"], int(found["attempt"]), found["what"], found["task"] or "") if found else None

    def comment(self, text: str) -> str:
        """The comment with a person's own words before the mark; `room` says how many there may be."""
        mark = f"[fssm:{self.run_id}.{self.attempt}.{self.what}{self.task and f'.{self.task}'}]"
        return f"{text} {mark}" if text else mark


def digest(*texts: str) -> str:
    """Of texts in their order, eight hexadecimal digits."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


def is_run_id(text: str) -> bool:
    """Whether it can be used as the name of a run."""
    return _RUN_ID.fullmatch(text) is not None


def room(run_id: str) -> int:
    """Characters that are left for a person's comment."""
    return COMMENT_LIMIT - len(Mark(run_id, 99, digest(), digest()).comment("")) - 1


def words(comment: str) -> str:
    """A comment without its mark."""
    return _MARK.sub("", comment).strip()
