# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes the whole seconds that ``echo`` took in ``command`` tasks, one a line, in the file that ``FLEET_BENCH_IDLE`` names.

`AnsibleModule.run_command` asks twice whether its command has ended. If it ends in between, the loop waits in ``poll([], 1000)`` for
nothing (seen with strace, ansible-core 2.21). How often depends on microseconds, on the node alone: on 2 cores in up to four of ten
commands, by any transport. ``echo`` takes no time, so that what it takes is this second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: idle_waits
type: aggregate
short_description: notes seconds in which a command module waited for nothing
description: [For the bench.]
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "idle_waits"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        values = getattr(result, "result", None) or result._result
        if values.get("cmd", [""])[0] == "echo" and (seconds := int(values["delta"].split(":")[2].partition(".")[0])):
            with Path(os.environ["FLEET_BENCH_IDLE"]).open("a", encoding="utf-8") as file:
                file.write(f"{seconds}\n")
