# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare which tests passed in two runs of one suite, by their JUnit files: our nodes' and the real agent's.

    python tests/tools/compare_passes.py process.xml agent.xml

Exit 0 only if both runs passed the same tests, and at least one. What is about our own nodes alone, and says so, is named and not compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

ALONE = "skipped: about our own nodes alone"


def outcomes(report: Path) -> dict[str, str]:
    """By test id: ``passed``, ``failed``, ``error`` or ``skipped: why``."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = "passed"
        for child in case:
            if child.tag == "skipped":
                outcome = f"skipped: {child.get('message', '')}"
            elif child.tag in ("failure", "error"):
                outcome = "failed" if child.tag == "failure" else "error"
        found[name] = outcome
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ours", type=Path)
    parser.add_argument("agent", type=Path)
    arguments = parser.parse_args()
    ours, agent = outcomes(arguments.ours), outcomes(arguments.agent)
    passes_of_ours = {name for name, outcome in ours.items() if outcome == "passed"}
    passes_of_agent = {name for name, outcome in agent.items() if outcome == "passed"}
    print(f"passed on our nodes: {len(passes_of_ours)}; passed on nodes with a real agent: {len(passes_of_agent)}")
    alone = {name for name, outcome in agent.items() if outcome.startswith(ALONE)}
    for name in sorted(alone):
        print(f"  {name}\n    not compared: {agent[name].removeprefix('skipped: ')}")
    passes_of_ours -= alone
    for name in sorted(passes_of_ours ^ passes_of_agent):
        print(f"  {name}\n    our nodes: {ours.get(name, 'not run')}\n    agent:     {agent.get(name, 'not run')}")
    same = bool(passes_of_ours) and passes_of_ours == passes_of_agent
    print("The lists of passes are equal." if same else "The lists of passes DIFFER (or are empty).")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
