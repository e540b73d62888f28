# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent's lines on an instance's console speak of, where images send them there. No I/O.

The words are those of AWS's error codes and of Go's network library, which the agent logs as they are.
"""

from __future__ import annotations

import re

_SPEAKS_OF = {
    "clock_wrong": re.compile(
        r"Signature expired|Signature not yet current|InvalidSignatureException|RequestExpired|RequestTimeTooSkewed|certificate has expired or is not yet valid"
    ),
    "role_without_permission": re.compile(r"AccessDenied|UnauthorizedOperation|not authorized to perform"),
    "no_route": re.compile(r"i/o timeout|no such host|connection refused|network is unreachable|Client\.Timeout exceeded|context deadline exceeded"),
}
#: Lines of the agent; others on a console speak of anything.
_AGENT = re.compile(r"ssm|ec2messages|UpdateInstanceInformation|health ?ping", re.IGNORECASE)
_LAST_LINES = 200


def read_console(text: str) -> frozenset[str]:
    """Codes of causes, from the last lines: what was long ago may be over."""
    lines = [line for line in text.splitlines()[-_LAST_LINES:] if _AGENT.search(line)]
    return frozenset(code for code, pattern in _SPEAKS_OF.items() if any(pattern.search(line) for line in lines))
