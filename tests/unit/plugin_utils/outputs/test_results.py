# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken out of results of tasks."""

from __future__ import annotations

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.results import as_bytes, fleets, node_status, pieces


@pytest.mark.parametrize("data", [b"", b"text\n", b"a\xff\xfe\r\nb\x00", "ü".encode(), bytes(range(256))])
def test_streams_are_the_bytes_that_their_text_was_made_of(data):
    assert as_bytes(data.decode("utf-8", "surrogateescape")) == data


def test_other_surrogates_stay_what_they_are():
    assert as_bytes("\ud83d").decode("utf-8", "surrogatepass") == "\ud83d"


def test_a_result_has_one_piece():
    (piece,) = pieces({"stdout": "out", "stderr": "", "rc": 3, "changed": True, "msg": "non-zero return code"}, "failed")
    assert (piece.stdout, piece.stderr, piece.rc, piece.msg, piece.changed, piece.item) == (b"out", b"", 3, "non-zero return code", True, None)


def test_what_a_module_that_crashed_wrote_is_its_output():
    (piece,) = pieces({"module_stdout": "half a JSON", "module_stderr": "Traceback", "msg": "MODULE FAILURE"}, "failed")
    assert (piece.stdout, piece.stderr) == (b"half a JSON", b"Traceback")


def test_modules_without_streams_have_none():
    (piece,) = pieces({"changed": False, "results": ["All packages are there"], "rc": "no number"}, "ok")
    assert piece.stdout is None and piece.stderr is None and piece.rc is None


def test_a_loop_has_a_piece_for_each_item_with_its_own_status():
    items = [
        {"ansible_loop_var": "item", "item": "a/b", "stdout": "1"},
        {"ansible_loop_var": "item", "item": {"name": "x"}, "_ansible_item_label": "short", "failed": True, "rc": 1},
        {"ansible_loop_var": "item", "item": 3, "skipped": True},
    ]
    found = list(pieces({"results": items, "msg": "One or more items failed"}, "failed"))
    assert [(piece.item, piece.status) for piece in found] == [("a/b", "ok"), ("short", "failed"), ("3", "skipped")]


@pytest.mark.parametrize("result", [
    {"censored": "hidden", "changed": True, "stdout": "secret", "msg": "secret"},
    {"censored": "hidden", "results": [{"censored": "hidden", "stdout": "secret", "item": "secret"}]},
    {"results": [{"censored": "hidden", "ansible_loop_var": "item", "item": "secret", "stdout": "secret"}]},
])  # fmt: skip
def test_nothing_of_a_censored_result_is_taken(result):
    found = list(pieces(result, "ok"))
    assert found and all(piece.censored for piece in found)
    assert "secret" not in repr(found)


def test_nodes_are_those_of_run_command_alone():
    result = {"nodes": [{"instance_id": "i-1"}], "summary": {"total": 1}, "calls": {"total": 3, "throttled": 1}}
    (fleet,) = fleets("fleet.ssm.run_command", result)
    assert (fleet.nodes, fleet.path, fleet.total, fleet.calls, fleet.throttled) == (({"instance_id": "i-1"},), None, 1, 3, 1)
    assert fleets("run_command_info", result) and not fleets("fleet.ssm.managed_node_info", result)
    assert not fleets("run_command", {**result, "censored": "hidden"})


def test_a_file_of_results_stands_for_them_and_a_loop_has_several():
    result = {"nodes": [{"instance_id": "i-failed"}], "results_path": "/r.jsonl", "summary": {"total": 9}}
    found = fleets("fleet.ssm.run_command", {"results": [result, {**result, "results_path": None}]})
    assert [(fleet.path, len(fleet.nodes), fleet.total) for fleet in found] == [("/r.jsonl", 0, 9), (None, 1, 9)]


def test_what_would_run_has_no_output():
    result = {"nodes": [{"instance_id": "i-1", "status": "would_run"}], "would_send": [{}], "summary": {"total": 1}, "calls": {"total": 1}}
    (fleet,) = fleets("fleet.ssm.run_command", result)
    assert fleet.nodes == () and fleet.total == 0


def test_statuses_of_nodes_in_words_of_ansible():
    words = {status: node_status(status) for status in ("success", "failed", "execution_timed_out", "undeliverable", "pending")}
    assert words == {"success": "ok", "failed": "failed", "execution_timed_out": "failed", "undeliverable": "unreachable", "pending": "unfinished"}
