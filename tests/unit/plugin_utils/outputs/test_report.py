# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, the report's data, and the page made of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.disk import INDEX, RUN, LineFile, make_run, read_end, read_lines, whole_file, write_json
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.figures import Durations
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.mux_calls import Calls
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.page import duration, number, percent, shown, size
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.report import MOST_HOSTS, SLOWEST, ReportBuilder
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.reporting import make_report

RUN_FACTS = {
    "name": "r", "playbook": "site.yml", "job_id": None, "ansible_version": "2.21", "check_mode": False,
    "started": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T00:00:10.000+00:00",
}  # fmt: skip


def line(host: str, status: str = "ok", seconds: float = 1.0, task: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "play": "p", "play_number": 1, "task": f"t{task}", "task_number": task, "action": "command", "host": host, "status": status, "seconds": seconds,
        "started": "2026-01-01T00:00:00.000+00:00", "ended": f"2026-01-01T00:00:0{int(seconds)}.000+00:00", "route": "session", **values,
    }  # fmt: skip


def report(*lines: dict[str, Any], failures: int = 100, **run: Any) -> dict[str, Any]:
    builder = ReportBuilder(lambda name, limit: (f"end of {name}", 7), failures=failures, output=1000)
    for one in lines:
        builder.add(one)
    return builder.finish({**RUN_FACTS, **run})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([3.0], {"p50": 3.0, "p95": 3.0, "max": 3.0, "sum": 3.0}),
        ([1.0, 2.0], {"p50": 1.5, "p95": 1.95, "max": 2.0, "sum": 3.0}),
        (list(range(101)), {"p50": 50.0, "p95": 95.0, "max": 100, "sum": 5050}),
        ([5.0, 1.0, 4.0, 2.0, 3.0], {"p50": 3.0, "p95": 4.8, "max": 5.0, "sum": 15.0}),
    ],
)
def test_quantiles(seconds, expected):
    durations = Durations()
    for one in seconds:
        durations.add(one)
    assert durations.to_fields() == expected


def test_no_durations_no_quantiles():
    assert Durations().to_fields() is None


def test_the_error_ratio_is_of_what_ran_and_leaves_ignored_failures_out():
    found = report(line("a"), line("b", "failed"), line("c", "unreachable"), line("d", "skipped"), line("e", "failed", ignored=True), line("f", ignored=True))
    totals = found["totals"]
    assert (totals["results"], totals["errors"], totals["error_ratio"]) == (6, 2, 0.4)
    assert (totals["ignored"], totals["hosts"], totals["tasks"]) == (1, 6, 1)
    assert [failure["host"] for failure in found["failures"]] == ["b", "c", "e"]


def test_tasks_have_their_own_figures_and_skipped_results_no_duration():
    found = report(line("a", seconds=1, task=2), line("b", seconds=3, task=2), line("a", seconds=9, task=1), line("b", "skipped", seconds=0, task=1))
    first, second = found["tasks"]
    assert (first["task"], first["seconds"]["p50"], first["results"], first["per_second"]) == ("t1", 9.0, 2, 0.11)
    assert (second["seconds"]["p50"], second["wall_seconds"], second["per_second"], second["routes"]) == (2.0, 3.0, 0.67, ["session"])
    assert [entry["seconds"] for entry in found["slowest"]] == [9, 3, 1]
    assert found["hosts"][0]["host"] == "a" and found["hosts"][0]["seconds"]["sum"] == 10.0
    assert found["totals"]["per_second"] == 0.3


def test_a_task_of_run_command_is_counted_by_its_nodes():
    node = {"instance_id": "i-1", "status": "failed", "via": "localhost"}
    found = report(
        line("localhost", nodes=2, calls={"total": 7, "throttled": 2}),
        line("i-1", "failed", route="run_command", node=node), line("i-2", route="run_command"),
        api={"asked": True, "mux": {"ssm:StartSession": 3}, "throttled": 1}, gathering={"calls": 4},
    )  # fmt: skip
    assert found["totals"]["results"] == 2 and found["totals"]["routes"] == {"run_command": 2}
    assert found["api"]["calls"] == {"Run Command (fleet.ssm.run_command)": 7, "s3:GetObject (outputs)": 4, "ssm:StartSession (mux)": 3}
    assert found["api"]["throttled"] == 3 and found["failures"][0]["node"] == node


def test_lists_have_their_limits_and_say_so():
    found = report(*(line(f"h{index}", "failed", seconds=index % 7) for index in range(MOST_HOSTS + 10)), failures=3)
    assert len(found["failures"]) == 3 and found["failures_left_out"] == MOST_HOSTS + 7
    assert len(found["hosts"]) == MOST_HOSTS and found["hosts_left_out"] == 10 and len(found["slowest"]) == SLOWEST


def test_a_failure_has_the_end_of_its_output_and_where_the_whole_is():
    (failure,) = report(line("a", "failed", stderr={"file": "x/stderr", "bytes": 9, "whole": True, "uris": ["s3://b/k"]}))["failures"]
    assert failure["stderr"] == {"file": "x/stderr", "uris": ["s3://b/k"], "bytes": 9, "text": "end of x/stderr", "left_out": 7, "whole": True}


def test_one_refusal_of_many_objects_is_one_problem_with_examples():
    streams = [{"uris": [f"s3://b/{index}"], "whole": False, "problem": {"kind": "denied", "text": f"403 on {index}"}} for index in range(9)]
    refused = [line(f"i-{index}", stdout=stream) for index, stream in enumerate(streams)]
    (problem,) = report(*refused, line("i-x", stdout={"bytes": 1}))["gathering"]["problems"]
    assert (problem["kind"], problem["count"], problem["text"], len(problem["examples"])) == ("denied", 9, "403 on 0", 5)


def test_the_mux_calls_of_a_run_are_what_was_added():
    status = {"pid": 1, "identities": [{"api_calls": {"ssm:StartSession": 2}}, {"api_calls": {"ssm:StartSession": 1}}], "limits": [{"throttled": 4}]}
    after = Calls.of_status(status)
    assert after.since(Calls(1, {"ssm:StartSession": 1}, 3)) == Calls(1, {"ssm:StartSession": 2}, 1)
    assert after.since(Calls(99, {"ssm:StartSession": 3}, 4)) == after and after.since(None) == after


# Files


def test_a_run_never_gets_the_folder_of_another(tmp_path):
    assert [make_run(str(tmp_path / "new"), "7/site").name for _turn in range(3)] == ["site", "site~2", "site~3"]
    assert (tmp_path / "new/7/site").stat().st_mode & 0o777 == 0o700


def test_lines_hold_any_text_and_half_a_line_is_not_read(tmp_path):
    path = tmp_path / INDEX
    lines = LineFile(path)
    content = {"msg": "ü \udcff \n \x00", "n": 1}
    lines.write(content)
    lines.close()
    with path.open("ab") as file:
        file.write(b'{"half": ')
    assert [found for found, _end in read_lines(path)] == [content]
    assert json.loads(path.read_bytes().decode("utf-8").splitlines()[0]) == content
    assert list(read_lines(tmp_path / "none")) == []


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a" / "b") as file:
        file.write(b"half")
        raise RuntimeError
    assert not (tmp_path / "a" / "b").exists()


def test_the_end_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789\xff")
    assert read_end(tmp_path, "f", 3) == ("89\ufffd", 8) and read_end(tmp_path, "f", 100)[1] == 0
    assert read_end(tmp_path, "gone", 3) == ("(No such file or directory)", 0)


# The page

HOSTILE = "<script>alert(1)</script><img src=https://example.com/x onerror=alert(2)>\x1b[31mred\x1b[0m\x00\u202egnp.exe"


class Page(HTMLParser):
    """Elements that could load or run something, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.suspicious: list[Any] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "object", "embed", "base") or any(name.startswith("on") or name == "src" for name in found):
            self.suspicious.append((tag, attrs))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / RUN, {**RUN_FACTS, "name": HOSTILE})
    index = LineFile(tmp_path / INDEX)
    (tmp_path / "out").write_text(HOSTILE * 100)
    stream = {"file": "out", "bytes": len(HOSTILE) * 100, "whole": True, "uris": ["s3://b/" + HOSTILE]}
    index.write(line(HOSTILE, "failed", msg=HOSTILE, item=HOSTILE, stdout=stream, task=1))
    index.write(line("quiet", "ok", task=2, censored=True))
    index.close()
    return tmp_path


def test_what_nodes_write_is_text_in_the_page_and_nothing_else(folder):
    make_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.suspicious == [] and page.open == []
    assert "default-src 'none'" in text and not re.search(r"url\(|@import|https?://(?!example\.com)", text.partition("</style>")[0])
    assert "<script>alert(1)</script>" in page.text and "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    assert f"of {size(len(HOSTILE) * 100)}. All of it: out s3://b/" in page.text


def test_the_report_of_a_run_that_did_not_end_can_be_made(folder):
    write_json(folder / RUN, {**RUN_FACTS, "ended": None})
    found = make_report(folder)
    assert found["run"]["seconds"] is None and "did not end" in (folder / "report.html").read_text(encoding="utf-8")


def test_an_empty_run_has_a_page(tmp_path):
    write_json(tmp_path / RUN, RUN_FACTS)
    assert make_report(tmp_path)["totals"]["results"] == 0
    assert "no errors" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_are_written_for_people():
    assert [duration(value) for value in (None, 0.0004, 0.12, 1.234)] == ["–", "0 ms", "120 ms", "1.23 s"]
    assert [duration(value) for value in (12.34, 61, 3720)] == ["12.3 s", "1 min 01 s", "1 h 02 min"]
    assert [size(value) for value in (0, 999, 1500, 123_456, 5_000_000, 7_300_000_000)] == ["0 B", "999 B", "1.5 kB", "123 kB", "5.0 MB", "7.3 GB"]
    assert [percent(value) for value in (0, 1, 0.5, 0.01, 0.0142, 0.00001, 0.9999)] == ["0 %", "100 %", "50 %", "1 %", "1.42 %", "< 0.01 %", "99.99 %"]
    assert [number(value) for value in (None, 5, 5.25, 12345, 180.4)] == ["–", "5", "5.2", "12\u202f345", "180"]
    assert shown("\x1b]0;title\x07\x1b[1mbold\x1b[0m\r\nnext\r") == "bold\nnext\u240d"
