# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task's result holds: streams as bytes, items of a loop, and nodes of Run Command. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

RUN_COMMAND = frozenset({"run_command", "run_command_info"})
"""Modules whose results have nodes."""

ON_CONTROLLER = frozenset(
    ("add_host", "assert", "debug", "fail", "group_by", "include_role", "include_tasks", "include_vars", "meta", "pause", "set_fact", "set_stats",
     "import_role", "import_tasks", "validate_argument_spec")
)  # fmt: skip
"""Actions that go to no node."""

_NEVER_DELIVERED = frozenset({"delivery_timed_out", "undeliverable", "not_sent", "access_denied", "invalid_platform", "terminated"})
_UNFINISHED = frozenset({"pending", "in_progress", "delayed", "cancelling", "unknown"})


@dataclass(frozen=True)
class Piece:
    """One result: a host's, or an item's of its loop."""

    status: str  #: ok, failed, unreachable, skipped
    item: str | None = None
    changed: bool = False
    rc: int | None = None
    msg: str = ""
    stdout: bytes | None = None  #: None if the result has no such stream
    stderr: bytes | None = None
    censored: bool = False


@dataclass(frozen=True)
class Fleet:
    """What a task of Run Command gave back: results of nodes, in itself or in a file of JSON lines."""

    nodes: tuple[Mapping[str, Any], ...]
    path: str | None
    total: int
    calls: int
    throttled: int


def short_action(action: str) -> str:
    """The last part of an action's name."""
    return action.rpartition(".")[2]


def as_bytes(text: Any) -> bytes:
    """The bytes that a stream's text was made of: Ansible keeps invalid UTF-8 as surrogates."""
    if isinstance(text, bytes):
        return text
    return str(text).encode("utf-8", "surrogateescape" if _only_escapes(str(text)) else "surrogatepass")


def _only_escapes(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff" for letter in text)


def pieces(result: Mapping[str, Any], status: str) -> Iterator[Piece]:
    """The results in a result: one for each item of a loop, or the one that there is.

    :param status: of the whole.
    """
    items = result.get("results")
    # Modules may have a key "results" of their own (package managers do); a loop's are mappings which name their variable.
    if isinstance(items, (list, tuple)) and items and all(isinstance(item, Mapping) and "ansible_loop_var" in item for item in items):
        for item in items:
            yield _piece(item, _status(item), _label(item))
    elif isinstance(items, (list, tuple)) and items and all(isinstance(item, Mapping) and "censored" in item for item in items):
        for number, item in enumerate(items, 1):
            yield _piece(item, _status(item), str(number))
    else:
        yield _piece(result, status, None)


def _status(item: Mapping[str, Any]) -> str:
    return "unreachable" if item.get("unreachable") else "failed" if item.get("failed") else "skipped" if item.get("skipped") else "ok"


def _label(item: Mapping[str, Any]) -> str:
    label = item.get("_ansible_item_label", item.get(str(item["ansible_loop_var"]), ""))
    return label if isinstance(label, str) else str(label)


def _piece(result: Mapping[str, Any], status: str, item: str | None) -> Piece:
    changed = bool(result.get("changed"))
    if "censored" in result:
        return Piece(status, item if item and item.isdigit() else None, changed, censored=True)
    rc = result.get("rc")
    streams: dict[str, bytes | None] = {}
    for name in ("stdout", "stderr"):
        text = result.get(name, result.get(f"module_{name}"))
        streams[name] = as_bytes(text) if isinstance(text, (str, bytes)) else None
    message = result.get("msg", result.get("skip_reason", ""))
    return Piece(
        status, item, changed, rc if isinstance(rc, int) and not isinstance(rc, bool) else None,
        message if isinstance(message, str) else str(message), streams["stdout"], streams["stderr"],
    )  # fmt: skip


def fleets(action: str, result: Mapping[str, Any]) -> list[Fleet]:
    """What a task of Run Command says of nodes, for each item of a loop; empty for other tasks."""
    if short_action(action) not in RUN_COMMAND or "censored" in result:
        return []
    items = result.get("results")
    found = [_fleet(one) for one in (items if isinstance(items, (list, tuple)) else [result]) if isinstance(one, Mapping) and "censored" not in one]
    return [fleet for fleet in found if fleet.nodes or fleet.path or fleet.calls]


def _fleet(result: Mapping[str, Any]) -> Fleet:
    nodes = tuple(node for node in result.get("nodes") or () if isinstance(node, Mapping) and node.get("instance_id") and node.get("status") != "would_run")
    path, summary, calls = result.get("results_path"), result.get("summary") or {}, result.get("calls") or {}
    total = 0 if "would_send" in result else int(summary.get("total") or len(nodes))  # in check mode nothing ran
    return Fleet(
        () if path else nodes, str(path) if path else None, total,
        int(calls.get("total") or 0), int(calls.get("throttled") or 0),
    )  # fmt: skip


def node_status(status: str) -> str:
    """A node's status in the words of Ansible: ok, failed, unreachable (nothing ran there), or unfinished."""
    if status == "success":
        return "ok"
    return "unreachable" if status in _NEVER_DELIVERED else "unfinished" if status in _UNFINISHED else "failed"
