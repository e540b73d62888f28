# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the demo reads a run."""

from __future__ import annotations

import json

from tests.demo.events import Recap, read

TASK = {"task": {"name": "Do it"}, "_event": "v2_playbook_on_task_start", "_timestamp": "2026-01-01T00:00:00.0Z"}


def lines(*events: dict[str, object]) -> list[str]:
    return [json.dumps(event) for event in events]


def result(kind: str, host: str, second: float, **values: object) -> dict[str, object]:
    return {"_event": f"v2_runner_on_{kind}", "_timestamp": f"2026-01-01T00:00:{second:04.1f}Z", "hosts": {host: values}}


def test_tasks_hosts_and_times() -> None:
    recap = Recap()
    run = lines(
        {"_event": "v2_playbook_on_play_start", "play": {"name": "Play"}},
        TASK,
        result("ok", "a", 1.5, changed=True),
        result("ok", "b", 2.0, changed=False),
        {**TASK, "task": {"name": "Then"}, "_event": "v2_playbook_on_handler_task_start", "_timestamp": "2026-01-01T00:00:02.0Z"},
        result("skipped", "a", 2.5),
        {"_event": "v2_playbook_on_stats", "stats": {"a": {"ok": 1, "changed": 1}, "b": {"ok": 1}}},
    )
    first, second = read(["not for us", *run[:3], "{broken", *run[3:]], recap)
    assert (first.play, first.name, first.seconds) == ("Play", "Do it", 2.0)
    assert [(found.host, found.status) for found in first.results] == [("a", "changed"), ("b", "ok")]
    assert [(found.host, found.status) for found in second.results] == [("a", "skipped")]
    assert recap.busy == {"a": 2.0, "b": 2.0}
    assert (recap.total("changed"), recap.count("b", "changed"), recap.count("c", "ok")) == (1, 0, 0)


def test_failures_say_why() -> None:
    recap = Recap()
    failed = result("failed", "a", 1, msg="no", results=[{"failed": True, "msg": "item 2"}, {"msg": "fine"}])
    facts = result("failed", "c", 1, msg="modules failed", failed_modules={"setup": {"msg": "MODULE FAILURE", "module_stderr": "sudo: no"}})
    run = lines(TASK, failed, result("unreachable", "b", 1, msg="gone"), facts)
    list(read(run, recap))
    assert [(found.host, found.status, found.message) for _task, found in recap.failures] == [
        ("a", "failed", "no\nitem 2"),
        ("b", "unreachable", "gone"),
        ("c", "failed", "modules failed\nMODULE FAILURE\nsudo: no"),
    ]
