# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a run counts as a success, from the numbers of its nodes by status. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def summary(counts: Mapping[str, int]) -> dict[str, Any]:
    """Total, succeeded, failed (all others), error ratio (0 to 1), and nodes by status."""
    total, succeeded = sum(counts.values()), counts.get("success", 0)
    return {
        "total": total,
        "succeeded": succeeded,
        "failed": total - succeeded,
        "error_ratio": round((total - succeeded) / total, 6) if total else 0.0,
        "by_status": dict(sorted((status, count) for status, count in counts.items() if count)),
    }


def verdict(found: Mapping[str, Any], *, success: str, max_error_ratio: float, refusals: Sequence[str]) -> str | None:
    """Why the run is no success; None if it is one.

    :param found: what `summary` gives.
    :param success: all, any or ratio.
    :param refusals: places in which nothing could be done, and it is not known for how many nodes.
    """
    if success == "any" and found["succeeded"]:
        return None
    if refusals:
        return "\n".join(refusals)
    if not found["total"]:
        return "No node matches in the accounts and regions that were asked: check the targets, 'accounts' and 'regions'."
    told = ", ".join(f"{count} {status}" for status, count in found["by_status"].items() if status != "success")
    if success == "any":
        return f"None of {found['total']} nodes succeeded: {told}."
    if success == "ratio":
        if found["error_ratio"] <= max_error_ratio:
            return None
        return f"The error ratio is {found['error_ratio']:.4g}, more than {max_error_ratio:g}: of {found['total']} nodes {told}."
    return f"{found['failed']} of {found['total']} nodes did not succeed: {told}." if found["failed"] else None
