# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put what ``make demo`` printed into the README, shortened to what fits a screen.

    make demo | python tests/tools/readme_demo.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- demo -->", "<!-- /demo -->"
TASKS_SHOWN = 5
SUMMARY_LINES = 8  #: of the table at the end of a run: its head, six nodes, the total


def excerpt(lines: list[str]) -> list[str]:
    """Nodes, the beginning and the summary of both runs, what was asked of AWS, and the end."""

    def find(start: str, after: int = 0) -> int:
        return next(number for number in range(after, len(lines)) if lines[number].startswith(start))

    starts = ("An AWS of", "node   instance", "The first run", "The second run", "What was asked", "Done in")
    begin, nodes, first, second, asked, end = map(find, starts)
    shown = [*lines[begin : nodes + 7], "", lines[first], *lines[first + 1 : first + 1 + TASKS_SHOWN], "  …"]
    for run in (first, second):
        table = find("node   ok", run)
        shown += ["", *([lines[second], "  …", ""] if run == second else []), *lines[table : table + SUMMARY_LINES]]
    return [*shown, "", *lines[asked:end], lines[end]]


def main() -> None:
    """From standard input into the README."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdin.read())
    lines = [line.rstrip(" ─\n") for line in text.splitlines()]
    head, _begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _old, _end, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}\n```\n" + "\n".join(excerpt(lines)) + f"\n```\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
