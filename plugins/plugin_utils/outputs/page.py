# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page of HTML. Reads its template, and does no other I/O.

What nodes wrote is shown as text: everything is escaped, the page has no script, and its policy forbids any, and any resource from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

ROWS = 25
"""Hosts that are shown at once, and MORE_ROWS further ones that can be unfolded; report.json has all."""

MORE_ROWS = 475

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)} | {0x7F: 0x2421}
_BIDI = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")


def render(report: Mapping[str, Any]) -> str:
    """The page."""
    tasks = report["tasks"]
    longest = max((task["seconds"]["max"] for task in tasks if task["seconds"]), default=0.0)
    return _template().render(
        report=report, run=report["run"], totals=report["totals"], longest=longest, rows=ROWS, more_rows=MORE_ROWS,
        several_plays=report["totals"]["plays"] > 1,
    )  # fmt: skip


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_finalize
    )  # fmt: skip
    environment.filters.update(duration=duration, size=size, percent=percent, number=number, moment=moment, width=width)
    return environment.get_template("page.html.j2")


def _finalize(value: Any) -> Any:
    """Every text that is put into the page, but for what a macro has made of such texts."""
    return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def shown(text: str) -> str:
    """What a node or a person wrote, without colours, with other control characters made visible; directions cannot be turned."""
    return _ESCAPES.sub("", text).replace("\r\n", "\n").translate(_CONTROL).translate(_BIDI)


def duration(seconds: float | None) -> str:
    """Three digits at most, in the unit that suits."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def percent(ratio: float) -> str:
    """As few digits as tell a small ratio from none, and one that is nearly all from all."""
    for digits in (0, 1, 2):
        text = f"{100 * ratio:.{digits}f}"
        if float(text) == 100 * ratio or (0.1 <= ratio <= 0.99 and digits == 1):
            return f"{text} %"
    return "< 0.01 %" if 0 < ratio < 0.00005 else f"{100 * ratio:.2f} %"


def number(value: float | None) -> str:
    """With thin spaces between thousands."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}"
    return text.replace(",", "\u202f")


def moment(text: str | None) -> str:
    """A time of the index, to the second, in UTC."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S UTC") if text else "–"


def width(part: float, whole: float) -> str:
    """Percent for a style; what is not zero stays visible."""
    return f"{max(100 * part / whole, 0.6 if part else 0):.2f}%" if whole else "0%"
