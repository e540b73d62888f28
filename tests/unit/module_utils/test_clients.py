# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a call is not tried again (botocore's own decision comes beside it)."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.clients import _give_up_connecting

REFUSED = botocore.exceptions.EndpointConnectionError(endpoint_url="https://x")
SILENT = botocore.exceptions.ConnectTimeoutError(endpoint_url="https://x")


def attempts(*errors: Exception | None) -> int:
    """How many of the attempts with these outcomes (None: an answer) are made."""
    request: dict[str, Any] = {"context": {}}
    for made, error in enumerate(errors, 1):
        try:
            _give_up_connecting(request_dict=request, caught_exception=error, attempts=made, response=None)
        except botocore.exceptions.BotoCoreError:
            return made
    return len(errors)


@pytest.mark.parametrize(
    ("outcomes", "made"),
    [
        ([SILENT] * 10, 2),
        ([REFUSED] * 10, 4),
        ([None] * 10, 10),  # throttling is an answer
        ([*[None] * 6, REFUSED, REFUSED, None, REFUSED], 10),
        ([ValueError()] * 10, 10),
    ],
)
def test_attempts(outcomes: list[Exception | None], made: int) -> None:
    assert attempts(*outcomes) == made
