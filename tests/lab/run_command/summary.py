# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's own status and counters, from those of its invocations. No I/O, no clock."""

from __future__ import annotations

from collections import Counter

from .status import Details

#: Nothing that the command did.
_NEUTRAL = frozenset({Details.UNDELIVERABLE})


class Summary:
    """Counts the invocations of a command by their status."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._counts = Counter({Details.PENDING: total})

    def change(self, old: Details, new: Details) -> None:
        """One invocation became another."""
        self._counts[old] -= 1
        self._counts[new] += 1

    @property
    def completed(self) -> int:
        """CompletedCount."""
        return sum(count for details, count in self._counts.items() if details.final)

    @property
    def errors(self) -> int:
        """ErrorCount."""
        return sum(count for details, count in self._counts.items() if details.is_error)

    @property
    def delivery_timed_out(self) -> int:
        """DeliveryTimedOutCount."""
        return self._counts[Details.DELIVERY_TIMED_OUT]

    def details(self, *, max_errors: int, cancelled: bool) -> Details:
        """The command's StatusDetails."""
        if not self.total:
            return Details.NO_INSTANCES
        present = {details for details, count in self._counts.items() if count}
        if any(not details.final for details in present):
            return self._open(present, cancelled=cancelled)
        if cancelled and Details.CANCELLED in present:
            return Details.CANCELLED
        if self.errors > max_errors:
            return Details.FAILED
        telling = present - _NEUTRAL
        if not telling:
            return Details.FAILED
        if len(telling) == 1:
            (only,) = telling
            return Details.INCOMPLETE if only.is_error else only
        return Details.INCOMPLETE

    def _open(self, present: set[Details], *, cancelled: bool) -> Details:
        if cancelled:
            return Details.CANCELLING
        if present == {Details.PENDING}:
            return Details.PENDING
        if present <= {Details.PENDING, Details.DELAYED}:
            return Details.DELAYED
        return Details.IN_PROGRESS
