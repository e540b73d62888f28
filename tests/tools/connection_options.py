# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions of the connection plugin's options, as ansible-core reads them from the documentation.

    python tests/tools/connection_options.py    # writes the file that workers read instead (make options)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
FILE = PLUGINS / "plugin_utils" / "connection_options.json"


def documented() -> dict[str, Any]:
    """Each option's definition by its name, those of the documentation's fragments included."""
    from ansible.plugins.loader import fragment_loader, init_plugin_loader
    from ansible.utils.plugin_docs import get_docstring

    init_plugin_loader()
    path = PLUGINS.parent / "collections/ansible_collections/fleet/ssm/plugins/connection/ssm.py"
    documentation = get_docstring(str(path), fragment_loader, collection_name="fleet.ssm", plugin_type="connection")[0]
    options: dict[str, Any] = json.loads(json.dumps(documentation["options"]))
    return options


if __name__ == "__main__":
    FILE.write_text(json.dumps(documented(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
