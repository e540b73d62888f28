# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m … CONFIG.json`: the agent as a service of a machine."""

from __future__ import annotations

import sys
from pathlib import Path

from .config import AgentConfig
from .program import new_context, preload, run_agent

if __name__ == "__main__":
    configuration = AgentConfig.from_json(Path(sys.argv[1]).read_text())
    preload()
    run_agent(configuration, new_context(configuration.ca_path))
