#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that goes on in another interpreter, as apt and dnf do."""

from __future__ import annotations

import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module


def main():
    module = AnsibleModule(argument_spec=dict(interpreter=dict(type="str")))
    if not has_respawned():
        respawn_module(module.params["interpreter"])
    found = probe_interpreters_for_module(["/nowhere", module.params["interpreter"]], "json")
    module.exit_json(executable=sys.executable, found=found, path=sys.path[0])


if __name__ == "__main__":
    main()
