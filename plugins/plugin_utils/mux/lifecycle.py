# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about a request's effect on its node. The only place that decides whether something is sent again.

No I/O and no clock: the route tells what happened, the machine answers what to do.

```text
 NEVER_DELIVERED --handed_over--> MAY_HAVE_STARTED --finished--> FINISHED
        ^  |                            |
        |  lost: RETRY, then            lost: UNKNOWN (HARMLESS requests: RETRY)
        +--+  UNREACHABLE               refused: RETRY in the plain way, or REPEAT
                                        undelivered: back to NEVER_DELIVERED
```
"""

from __future__ import annotations

import enum


class Knowledge(enum.Enum):
    """How far a request is known to have come."""

    NEVER_DELIVERED = "never delivered"
    MAY_HAVE_STARTED = "may have started"
    FINISHED = "finished"


class Verdict(enum.Enum):
    """What to do with a request whose channel was lost."""

    RETRY = "send it on a new channel"
    UNREACHABLE = "report that the node cannot be reached; nothing was run"
    UNKNOWN = "report that the outcome is unknown; do not run it again"
    REPEAT = "nothing was run, but a prompt may have been answered: the worker must begin anew"
    NOTHING = "it had finished"


class Lifecycle:
    """One request from its arrival to its end.

    :param retries: how many times an undelivered request may be tried on a further channel.
    :param harmless: doing it twice is the same as doing it once, as for reading a file. Never true for a command.
    """

    def __init__(self, retries: int, *, harmless: bool = False) -> None:
        self._retries_left = retries
        self._harmless = harmless
        self._seen = False
        self._wanted = True
        self.knowledge = Knowledge.NEVER_DELIVERED

    def handed_over(self) -> None:
        """The first of its bytes was given to a channel: from now on the node may have seen it."""
        if self.knowledge is Knowledge.NEVER_DELIVERED:
            self.knowledge = Knowledge.MAY_HAVE_STARTED

    def output_passed_on(self) -> None:
        """Some of its output left the mux: it cannot be repeated unnoticed any more."""
        self._harmless = False
        self._seen = True

    def input_passed_on(self) -> None:
        """Some of its input was given to a channel, and is here no more."""
        self._harmless = False
        self._seen = True

    def unwanted(self) -> None:
        """Nobody waits for its result any more."""
        self._wanted = False
        self._harmless = False
        self._retries_left = 0

    def finished(self) -> None:
        """Its result is known."""
        self.knowledge = Knowledge.FINISHED

    def refused(self) -> Verdict:
        """The node says that it started nothing of it, in the way in which it was asked to; it can be asked for the plain command."""
        if self.knowledge is not Knowledge.MAY_HAVE_STARTED:
            return Verdict.NOTHING
        self.knowledge = Knowledge.NEVER_DELIVERED
        if not self._wanted:
            return Verdict.NOTHING
        return Verdict.REPEAT if self._seen else Verdict.RETRY

    def undelivered(self) -> None:
        """AWS says of what was handed over to it that it never came to the node, or the node that it began nothing."""
        if self.knowledge is Knowledge.MAY_HAVE_STARTED:
            self.knowledge = Knowledge.NEVER_DELIVERED

    def lost(self) -> Verdict:
        """The channel that it was on, or was meant for, is gone."""
        if self.knowledge is Knowledge.FINISHED:
            return Verdict.NOTHING
        if self.knowledge is Knowledge.MAY_HAVE_STARTED and not self._harmless:
            return Verdict.UNKNOWN
        if self._retries_left <= 0:
            return Verdict.UNREACHABLE
        self._retries_left -= 1
        self.knowledge = Knowledge.NEVER_DELIVERED
        return Verdict.RETRY
