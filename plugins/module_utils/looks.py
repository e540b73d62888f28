# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at nodes again and again, and only where some are late."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from .awaited import pauses
from .collect import Collected, collect_at
from .filters import Selection


def look_until(
    look: Callable[[], Collected], late: Callable[[Collected], Collection[str] | None], selection: Selection, *, seconds: float, max_workers: int
) -> Collected:
    """The last look, once nobody is awaited any more or the time is up.

    :param look: looks everywhere.
    :param late: ids of nodes that are awaited; empty for nodes that may be anywhere, None for nobody.
    """
    deadline = time.monotonic() + seconds
    found = look()
    for pause in pauses():
        awaited, left = late(found), deadline - time.monotonic()
        if awaited is None or left <= 0:
            break
        time.sleep(min(pause, left))
        found = _look_where(found, set(awaited), selection, max_workers) or look()
    return found


def _look_where(found: Collected, ids: set[str], selection: Selection, max_workers: int) -> Collected | None:
    """A look at the places of these nodes; None if they may be elsewhere too, or a place did not answer."""
    stale = [answered for answered in found.places if any(node["instance_id"] in ids for node in answered.nodes)]
    known = {node["instance_id"] for answered in stale for node in answered.nodes}
    if not ids or not ids <= known or found.errors:
        return None
    newer = collect_at([answered.place for answered in stale], selection, max_workers=max_workers)
    if newer.errors:  # such as credentials that have expired
        return None
    answers = iter(newer.places)
    return Collected([next(answers) if answered in stale else answered for answered in found.places])
