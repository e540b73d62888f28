# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several targets of the Makefile, all of them even if one fails, and say at the end how each one ended.

    python tests/tools/run_parts.py ruff,sanity/unit integration

Words are run one after another. A slash in a word separates lanes that run side by side, and a comma the targets of one lane.
What lanes print comes when a target ends; where there is one lane, as it is printed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """How a target ended."""

    part: str
    good: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.part:<14} {'ok' if self.good else 'FAILED':<7} {self.seconds:6.0f} s"


def run(part: str, *, beside_others: bool) -> Result:
    """Run one target."""
    started = time.monotonic()
    if not beside_others:
        print(f"\n=== {part} ===", flush=True)
    done = subprocess.run(
        ["make", "--no-print-directory", part],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if beside_others else None,
        stderr=subprocess.STDOUT if beside_others else None,
        check=False,
        text=True,
        errors="backslashreplace",
    )
    if beside_others:
        print(f"\n=== {part} ===\n{done.stdout}", end="", flush=True)
    return Result(part, done.returncode == 0, time.monotonic() - started)


def run_lanes(word: str) -> list[Result]:
    """Run the lanes of a word side by side."""
    lanes = [lane.split(",") for lane in word.split("/")]
    if len(lanes) > 1:
        print(f"\nSide by side: {' / '.join(' '.join(lane) for lane in lanes)}", flush=True)
    with ThreadPoolExecutor(len(lanes)) as executor:
        return [result for lane in executor.map(lambda lane: [run(part, beside_others=len(lanes) > 1) for part in lane], lanes) for result in lane]


def main(words: list[str]) -> int:
    """Run the words; 0 if all targets succeeded."""
    started = time.monotonic()
    results = [result for word in words for result in run_lanes(word)]
    print("\n=== summary ===", *results, sep="\n")
    print(f"{'all':<14} {'':<7} {time.monotonic() - started:6.0f} s")
    failed = [result.part for result in results if not result.good]
    print(f"FAILED: {' '.join(failed)}" if failed else f"All {len(results)} parts passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
