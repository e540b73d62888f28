# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the report of a run's folder: reads the index, writes ``report.json`` and ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .disk import INDEX, REPORT_HTML, REPORT_JSON, RUN, read_end, read_lines, write_json, write_whole
from .report import ReportBuilder

FAILURES, OUTPUT = 500, 4_000


def make_report(folder: Path, *, failures: int = FAILURES, output: int = OUTPUT) -> dict[str, Any]:
    """Write the report; its data.

    :param failures: the most failures that it tells in full.
    :param output: bytes of each of their streams.
    """
    from .page import render  # jinja2: only where a page is made

    builder = ReportBuilder(lambda name, limit: read_end(folder, name, limit), failures=failures, output=output)
    for line, _end in read_lines(folder / INDEX):
        builder.add(line)
    report = builder.finish(read_run(folder))
    write_json(folder / REPORT_JSON, report)
    write_whole(folder / REPORT_HTML, render(report).encode("utf-8", "replace"))
    return report


def read_run(folder: Path) -> dict[str, Any]:
    """What is known of the run."""
    run: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
    return run


def update_run(folder: Path, values: Mapping[str, Any]) -> None:
    """Add to what is known of the run."""
    write_json(folder / RUN, {**read_run(folder), **values})
