# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mark in a command's comment, by which it is found again: after an ambiguous answer, and after the controller's death. No I/O.

SendCommand has no client token. So each call carries ``[fssm:RUN.ATTEMPT.WHAT]`` in its comment: the run, the attempt (0 for the first
one) and a hash of the nodes or targets. A run's commands are those with its mark, wherever the list of them came from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

#: AWS's limit of a comment, in characters.
COMMENT_LIMIT = 100
RUN_ID_LIMIT = 32
_MARK = re.compile(r"\[fssm:(?P<run>[A-Za-z0-9_-]+)\.(?P<attempt>\d+)\.(?P<what>[0-9a-f]{8})\]")
_RUN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{RUN_ID_LIMIT}}}")


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one SendCommand from all others."""

    run_id: str
    attempt: int
    what: str

    @classmethod
    def of(cls, run_id: str, attempt: int, targets: Iterable[str]) -> Mark:
        """For nodes' ids, or for targets written as text; their order does not matter."""
        digest = hashlib.sha256("\n".join(sorted(targets)).encode()).hexdigest()
        return cls(run_id, attempt, digest[:8])

    @classmethod
    def read(cls, comment: str) -> Mark | None:
        """From a comment; None if it has none."""
        found = _MARK.search(comment)
        return cls(found["run"], int(found["attempt"]), found["what"]) if found else None

    def comment(self, text: str) -> str:
        """The comment with a person's own words before the mark; `room` says how many there may be."""
        mark = f"[fssm:{self.run_id}.{self.attempt}.{self.what}]"
        return f"{text} {mark}" if text else mark


def is_run_id(text: str) -> bool:
    """Whether it can be used as the name of a run."""
    return _RUN_ID.fullmatch(text) is not None


def room(run_id: str) -> int:
    """Characters that are left for a person's comment."""
    return COMMENT_LIMIT - len(Mark(run_id, 99, "0" * 8).comment("")) - 1


def words(comment: str) -> str:
    """A comment without its mark."""
    return _MARK.sub("", comment).strip()
