# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the route run_command that do no I/O: windows, polls, invocations, events, refusals."""

from __future__ import annotations

import json

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand import polling, refusals, status_events
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.invocation import Invocation
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.sameness import Commons, digest
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.status_events import Early, End
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.window import Forks, Window


def test_a_task_that_is_alone_does_not_wait_long() -> None:
    window: Window[str] = Window(10.0)
    window.add(10.0, "i-1", "task")
    assert 0 < window.pause(10.0, None) <= 0.2
    assert window.pause(10.2, None) == 0


def over(window: Window[str], now: float) -> float:
    """When it closes by pauses alone."""
    return now + window.pause(now, None)


def test_a_window_follows_arrivals_until_they_cease_or_it_is_full() -> None:
    window: Window[str] = Window(0.0)
    for number in range(8):
        window.add(0.2 * number, f"i-{number}", "task")
    assert 1.6 < over(window, 1.4) <= 2.5, "the next one is waited for, but not for long"
    for number in range(8, 50):
        window.add(0.25 * number, f"i-{number}", "task")
        assert number == 49 or over(window, 0.25 * number) > 0.25 * (number + 1), "a busy controller's forks come in one window"
    assert window.is_full and window.pause(12.25, None) == 0 and not window.takes("i-50")


def test_those_that_came_do_not_wait_for_ever_for_others() -> None:
    window: Window[str] = Window(0.0)
    for number in range(20):
        window.add(0.9 * number, f"i-{number}", "task")
    assert window.pause(17.1, None) == 0
    slow: Window[str] = Window(0.0)
    for number in range(5):
        slow.add(10.0 * number, f"i-{number}", "task", 10.0 * number - 9.0)
    assert slow.pause(Window.LONGEST, Forks(14.9, [14.0] * 50)) == 0


def test_a_task_that_is_known_to_be_alone_does_not_wait_at_all() -> None:
    window: Window[str] = Window(10.0)
    window.add(10.0, "i-1", "task", 9.6)
    assert window.pause(10.0, Forks(9.6, [])) == 0


def test_a_window_stays_open_while_workers_are_on_their_way() -> None:
    window: Window[str] = Window(10.0)
    window.add(10.0, "i-1", "task", 9.0)
    assert window.pause(12.0, Forks(9.1, [9.1])) > 0, "where pauses alone would end it"
    window.add(12.1, "i-2", "task", 9.1)
    assert window.pause(12.1, Forks(9.1, [])) == 0
    assert 0 < window.pause(12.1, Forks(12.0, [])) <= Window.FORKS_APART, "its controller may be forking the next one"


def test_a_worker_that_does_not_come_holds_the_others_up_in_proportion_to_their_own_way() -> None:
    quick: Window[str] = Window(10.0)
    quick.add(10.0, "i-1", "task", 9.7)
    assert quick.pause(10.5, Forks(9.7, [9.7])) > 0
    assert quick.pause(10.7, Forks(9.7, [9.7])) == 0
    slow: Window[str] = Window(10.0)
    slow.add(10.0, "i-1", "task", 7.0)
    assert slow.pause(15.0, Forks(7.0, [7.0])) > 0
    assert slow.pause(16.1, Forks(7.0, [7.0])) == 0


def test_tasks_that_differ_by_host_are_not_held_for_each_other() -> None:
    window: Window[str] = Window(10.0)
    window.add(10.0, "i-1", "task", 9.0)
    forks = Forks(9.9, [9.9] * 20)
    for _other in range(3):
        assert window.pause(10.5, forks) > 0
        window.passed_by()
    window.passed_by()
    assert window.pause(10.5, forks) == 0


def test_a_node_is_in_a_window_only_once() -> None:
    window: Window[str] = Window(0.0)
    window.add(0.0, "i-1", "task")
    assert not window.takes("i-1") and window.takes("i-2")


def test_looks_become_rarer_and_a_backstop_is_slow() -> None:
    assert polling.next_look(0.0, 0.0, events=False) == polling.SHORTEST
    assert polling.next_look(0.0, 10.0, events=False) == 12.0
    assert polling.next_look(0.0, 1000.0, events=False) == 1000.0 + polling.LONGEST
    assert polling.next_look(0.0, 1.0, events=True) == 1.0 + polling.BACKSTOP


def test_results_are_read_together_while_ends_keep_coming() -> None:
    ends = polling.Ends(1.0)
    ends.add(1.0)
    assert ends.read_at(0.5) == pytest.approx(1.4), "one alone is not kept"
    for number in range(1, 50):
        ends.add(1.0 + 0.05 * number)
    assert ends.read_at(0.5) == 2.0, "nor are many, for long"
    late = polling.Ends(11.0)
    for number in range(50):
        late.add(11.0 + 0.2 * number)
    assert late.read_at(1.0) == 16.0, "where a command takes long, its results come at longer intervals"


def test_many_commands_are_looked_at_by_one_listing() -> None:
    assert not polling.by_listing({"a": 50, "b": 50})
    assert polling.by_listing({str(number): 1 for number in range(20)})
    assert not polling.by_listing({str(number): 50 for number in range(20)})


def test_a_final_status_stays() -> None:
    invocation = Invocation("i-1")
    assert not invocation.hear({"StatusDetails": "InProgress"})
    assert invocation.hear({"StatusDetails": "Success", "CommandPlugins": [{"Name": "step", "Output": "text"}]})
    assert not invocation.hear({"StatusDetails": "InProgress"})
    assert (invocation.details, invocation.outputs) == ("success", {"step": "text"})


@pytest.mark.parametrize(("details", "delivered"), [("Undeliverable", False), ("DeliveryTimedOut", False), ("Failed", True), ("ExecutionTimedOut", True)])
def test_what_was_not_delivered_is_known(details: str, delivered: bool) -> None:
    invocation = Invocation("i-1")
    invocation.hear({"StatusDetails": details})
    assert invocation.was_delivered is delivered
    assert "option" in invocation.reason or "node" in invocation.reason or "agent" in invocation.reason


def event(status: str, kind: str = status_events.KIND) -> dict[str, object]:
    return {"detail-type": kind, "detail": {"command-id": "c", "instance-id": "i-1", "status": status}}


def test_events_raw_and_wrapped() -> None:
    assert status_events.read(json.dumps(event("Success"))) == End("c", "i-1")
    assert status_events.read(json.dumps({"Type": "Notification", "Message": json.dumps(event("TimedOut"))})) == End("c", "i-1")


@pytest.mark.parametrize("body", ["", "[]", "{}", json.dumps(event("InProgress")), json.dumps(event("Success", "Other"))])
def test_what_ends_nothing_is_no_end(body: str) -> None:
    assert status_events.read(body) is None


def test_an_end_may_be_told_before_its_command_is_known() -> None:
    early = Early(limit=2)
    for node in ("i-1", "i-2", "i-3"):
        early.add(End("c", node))
    assert early.take("c", ["i-1", "i-2", "i-3"]) == {"i-2", "i-3"}
    assert early.take("c", ["i-2"]) == set()


def test_only_old_queues_of_ours_are_stale() -> None:
    name = status_events.queue_name(1000.0, "mark")
    assert not status_events.is_stale(name, 1000.0 + status_events.STALE)
    assert status_events.is_stale(name, 1001.0 + status_events.STALE)
    assert not status_events.is_stale("other-1-mark", 1e9)
    assert not status_events.is_stale(status_events.PREFIX + "x", 1e9)


def xml(code: str, message: str = "") -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"


@pytest.mark.parametrize(
    ("detail", "verb", "named"),
    [
        ("000 curl: (28) Connection timed out", "fetch", "no connection to S3"),
        (f"403 {xml('AccessDenied', 'Request has expired')}", "fetch", "expired"),
        (f"400 {xml('ExpiredToken', 'The provided token has expired.')}", "send", "credentials that signed it have expired"),
        (f"403 {xml('RequestTimeTooSkewed')}", "fetch", "clock"),
        (f"403 {xml('AccessDenied', 'explicit deny in a VPC endpoint policy')}", "fetch", "VPC's endpoint"),
        (f"403 {xml('AccessDenied', 'not authorized to perform: kms:GenerateDataKey')}", "send", "kms:GenerateDataKey"),
        (f"403 {xml('AccessDenied')}", "send", "s3:PutObject"),
        (f"301 {xml('PermanentRedirect')}", "fetch", "bucket_region"),
        (f"404 {xml('NoSuchBucket')}", "send", "option bucket"),
        (f"400 {xml('KMS.DisabledException')}", "fetch", "disabled"),
        (f"403 {xml('AccessDenied', 'because no resource-based policy allows it')}", "fetch", "bucket's policy must allow s3:GetObject"),
        ("000 curl: (60) SSL certificate problem: certificate has expired", "send", "its clock is wrong"),
    ],
)
def test_each_failure_of_a_url_is_named(detail: str, verb: str, named: str) -> None:
    text = refusals.explain(detail, verb=verb, bucket="bucket", key="key")
    assert named in text and "s3://bucket/key" in text


def test_tasks_that_differ_in_the_key_of_become_alone_are_the_same() -> None:
    commons = Commons()
    one, other = (commons.of(f"/bin/sh -c 'sudo -u x sh -c '\"'\"'echo BECOME-SUCCESS-{letter * 32} ; id'\"'\"''", b"") for letter in "ab")
    assert one.command == other.command
    stranger = commons.of("echo BECOME-SUCCESS-short", b"")
    assert (stranger.command, stranger.own_key) == ("echo BECOME-SUCCESS-short", None)
    line = one.command.partition("echo ")[2].partition(" ;")[0].encode()
    assert other.own_output(line + b"\n" + line) == b"BECOME-SUCCESS-" + b"b" * 32 + b"\n" + line


def test_a_digest_knows_where_parts_end() -> None:
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
