# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run several targets of the Makefile one after another, all of them even if one fails, and say at the end how each one ended.

    python tests/tools/run_parts.py unit mypy integration
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def run(part: str) -> tuple[bool, float]:
    """Run one target with its output as it comes; whether it succeeded, and the seconds it took."""
    print(f"\n=== {part} ===", flush=True)
    started = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", part], cwd=REPOSITORY, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0, time.monotonic() - started


def main(parts: list[str]) -> int:
    """Run the parts; 0 if all of them succeeded."""
    results = {part: run(part) for part in parts}
    print("\n=== summary ===")
    for part, (good, seconds) in results.items():
        print(f"{part:<14} {'ok' if good else 'FAILED':<7} {seconds:6.0f} s")
    print(f"{'all':<14} {'':<7} {sum(seconds for good, seconds in results.values()):6.0f} s")
    failed = [part for part, (good, seconds) in results.items() if not good]
    print(f"FAILED: {' '.join(failed)}" if failed else f"All {len(results)} parts passed.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
