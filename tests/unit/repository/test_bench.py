# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of the README are those of results/bench.json, and the arithmetic between samples and verdicts is right."""

from __future__ import annotations

from pathlib import Path

from tests.bench import measures, report
from tests.bench.measures import Measure, Measurement
from tests.bench.rows import Key, Results, Sample, make_row
from tests.bench.targets import verdicts

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "tests" / "bench" / "results" / "bench.json"


def sample(seconds: float, api_calls: int | None = None) -> Sample:
    return Sample(
        seconds, idle_s=0, controller_cpu_s=1.0, background_cpu_s=0.5, peak_rss_mb=60.0, background_rss_mb=80.0, node_rss_mb=20.0,
        api_calls=api_calls, wire_bytes=1000,
    )  # fmt: skip


def results() -> Results:
    ssh = make_row(Key("ssh", "mix", False, 0, 1), 30, [sample(12.0), sample(10.0), sample(20.0)], 0.6)
    ours = make_row(Key("session", "mix", False, 0, 1), 30, [sample(5.4, 0), sample(5.0, 2), sample(6.0, 0)], 0.6)
    return Results([ssh, ours], {"ansible-core": "2"}, "2026-01-01", {"cpu": "a CPU", "cores": 2, "memory_gb": 4, "kernel": "6"})


def test_marginal_time_is_the_median_less_the_empty_play_for_each_task():
    row = results().rows[0]
    assert (row.median_s, row.min_s, row.max_s, row.runs) == (12.0, 10.0, 20.0, 3)
    assert row.marginal_ms == 380.0


def test_a_target_is_met_missed_or_not_measured():
    found = {verdict.text: verdict for verdict in verdicts(results())}
    of_ssh = found["mix, 0 ms: marginal time of a task / ssh"]
    assert of_ssh.value is not None
    assert round(of_ssh.value, 3) == round(160 / 380, 3)
    assert of_ssh.good is False
    assert found["MB of a session's processes on the node"].good is True
    assert found["mix, 0 ms: marginal time of a task / mitogen"].good is None


def test_results_survive_their_file(tmp_path):
    written = results()
    written.write(tmp_path / "bench.json")
    assert Results.read(tmp_path / "bench.json") == written


def test_the_table_of_the_readme_is_that_of_the_results():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(report.BEGIN)[2].partition(report.END)[0].strip()
    assert shown == (report.table(Results.read(RESULTS)) if RESULTS.exists() else "")


def measurement(title: str = "T", **figures: float | None) -> Measurement:
    return Measurement(title, "a note", "2026-01-01", {"cpu": "a CPU", "cores": 2, "kernel": "6"}, [Measure("one", figures, {"s": 2.0})])


def test_a_measurement_takes_the_place_of_its_older_one_alone(tmp_path):
    path = tmp_path / "measures.json"
    first, second = measures.MODULES[:2]
    measures.keep({second: measurement(s=1.0), first: measurement(s=3.0, MB=None)}, path)
    measures.keep({second: measurement(s=1.5)}, path)
    assert measures.read(path) == {first: measurement(s=3.0, MB=None), second: measurement(s=1.5)}
    assert list(measures.read(path)) == [first, second]


def test_a_table_of_measures_and_how_their_limits_came_out():
    found = {"a": measurement("A", s=1.25, calls=12_345.0, MB=None)}
    assert measures.tables(found).splitlines()[2:] == ["| | s | calls | MB |", "|---|---:|---:|---:|", "| one | 1.25 (≤ 2) | 12,345 | – |", "", "a note"]
    assert [verdict.good for verdict in measures.verdicts({**found, "b": measurement(s=2.5)})] == [True, False]


def test_the_measures_of_the_readme_are_those_of_their_file():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(measures.BEGIN)[2].partition(measures.END)[0].strip()
    assert shown == measures.tables(measures.read())
