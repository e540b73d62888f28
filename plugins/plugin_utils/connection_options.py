# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection plugin's options, ready for ansible-core.

Core loads a connection plugin anew in the worker of each task, and would each time parse the documentation for its options, which
takes 40 ms. What it would find stands in the file beside this one, which `make options` writes and
a test compares with the documentation.
"""

from __future__ import annotations

import json
from pathlib import Path

from ansible import constants

_FILE = Path(__file__).with_suffix(".json")


def register(plugin: str) -> None:
    """Tell core the options of the connection plugin whose module has this name."""
    constants.config.initialize_plugin_configuration_definitions("connection", plugin, json.loads(_FILE.read_text(encoding="utf-8")))
