# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of one account by many threads, each action of each region at the rate that AWS allows there.

For clients without retries of botocore's own, and for calls that may be repeated: what they change they change once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from .aws_errors import is_expired, is_throttling, is_transient
from .clients import AccountClients
from .pace import Pace

with contextlib.suppress(ImportError):  # the module that needs this says so with a remedy
    from botocore import xform_name

#: Seconds for which a call is repeated that fails for reasons that may pass, or is refused for its rate alone.
_PATIENCE = 60.0
_THROTTLED = 1800.0


class PacedCalls:
    """All calls that a module makes in one account."""

    def __init__(self, clients: AccountClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._paces: dict[tuple[str, str], Pace] = {}

    def __call__(self, service: str, operation: str, *, region: str, **parameters: Any) -> dict[str, Any]:
        """One call that AWS answers, however long it throttles. :raises CollectError: that names the action, and carries the cause."""
        pace = self._paces.setdefault((operation, region), Pace())
        began, failures, renewed = time.monotonic(), 0, False
        while True:
            with self._lock:
                pause = pace.reserve(time.monotonic()) or 0.0
            time.sleep(pause)
            sent, client = time.monotonic(), None
            try:
                client = self._clients.client(service, region)
                answer: dict[str, Any] = getattr(client, xform_name(operation))(**parameters)
            except Exception as error:
                now = time.monotonic()
                if is_throttling(error) and now - began < _THROTTLED:
                    with self._lock:
                        pace.throttle(now, sent)
                elif is_expired(error) and client is not None and not renewed:
                    renewed = True
                    self._clients.renew(client)
                elif is_transient(error) and now - began < _PATIENCE:
                    failures += 1
                    time.sleep(min(0.25 * 2**failures, 10.0))
                else:
                    raise self._clients.explain(region, f"{service}:{operation}", error) from error
            else:
                with self._lock:
                    pace.succeeded()
                return answer

    def pages(self, service: str, operation: str, key: str, *, region: str, token: str = "NextToken", **parameters: Any) -> Iterator[dict[str, Any]]:
        """All entries of a listing, page by page.

        :param token: the name of the parameter that asks for the next page; IAM's is ``Marker``, and so is that of its answer.
        """
        while True:
            page = self(service, operation, region=region, **parameters)
            yield from page.get(key) or ()
            if not page.get(token):
                return
            parameters[token] = page[token]
