# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where agents put outputs. No I/O.

Below the prefix that SendCommand was given, agents write ``COMMAND/NODE/PLUGIN/STEP/STREAM`` (agent's source, and seen with the real one):

- documents of schema 1.2: ``awsrunShellScript/0.awsrunShellScript/stdout``,
- documents of schema 2.x: ``awsrunShellScript/STEP/stdout``,
- Windows the same with ``awsrunPowerShellScript``.

The store adds what comes before: ``ACCOUNT/``, which its bucket policy demands, and by agreement ``REGION/`` behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_KEY = re.compile(
    r"(?P<account>\d{12})/(?P<between>(?:[^/]+/)*?)"
    r"(?P<command>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(?P<node>m?i-[0-9a-f]{8,17})/"
    r"(?P<plugin>aws\w+)/(?P<step>.+)/(?P<stream>stdout|stderr)"
)


@dataclass(frozen=True)
class OutputKey:
    """An object's key, understood."""

    account: str  #: 12 digits
    region: str | None  #: None if the prefix does not say it
    command_id: str
    node_id: str
    step: str  #: as the API has it, on every platform and in every schema
    stream: str  #: stdout | stderr


def understand(key: str, regions: tuple[str, ...] = ()) -> OutputKey | None:
    """What an object is; None if it is no output of a command in the place where it should be.

    :param key: decoded.
    :param regions: names that count as a region when they follow the account.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    first = found["between"].partition("/")[0]
    return OutputKey(
        found["account"], first if first in regions else None, found["command"], found["node"], _step(found["plugin"], found["step"]), found["stream"]
    )


def _step(plugin: str, folder: str) -> str:
    """Steps of schema 1.2 have no names: the API names them after their plugin."""
    return plugin.replace("aws", "aws:", 1) if folder == f"0.{plugin}" else folder
