# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of Systems Manager in one place, at the rate that the service allows, and repeated only where that cannot do a thing twice.

botocore's own retries are off for these clients: it would send a command again whose answer was lost. Rates are learned for each API
action of this place alone, so an account that is throttled slows no other one.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..aws_errors import is_expired, is_throttling, may_be_accepted
from ..pace import SerialPace
from ..problems import CollectError
from ..scope import Place

#: Of the errors by which a request surely did not reach the service, those that may pass.
_PASSING = frozenset({"EndpointConnectionError", "ConnectTimeoutError"})
_FIRST_CAP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Ambiguous(Exception):
    """A call may or may not have had an effect."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Stopped(Exception):
    """The run has been stopped while something was waited for."""


class Caller:
    """All calls of one place. One thread uses it at a time."""

    #: Seconds for which a call is repeated that fails for reasons that may pass.
    PATIENCE = 120.0
    #: Seconds for which throttling alone is borne. It ends, if slowly; only a quota that others use up entirely does not.
    THROTTLED = 1800.0

    def __init__(self, place: Place, turn: threading.Semaphore, stop: threading.Event) -> None:
        self.place = place
        self.calls = 0
        self.throttled = 0
        self._turn = turn
        self._stop = stop
        self._paces: dict[str, SerialPace] = {}

    def read(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call that changes nothing, or the same when repeated. :raises CollectError: in words."""
        began, failures = time.monotonic(), 0
        while True:
            try:
                return self._paced(operation, parameters)
            except Exception as error:
                if isinstance(error, (CollectError, Stopped)):
                    raise
                name = type(error).__name__
                passing = name in _PASSING or _may_have_had_an_effect(error)
                if not passing or time.monotonic() - began > self.PATIENCE:
                    raise self.explain(operation, error) from error
                failures += 1
                self.wait(min(0.5 * 2**failures, 15.0))

    def once(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """A call that must not be made twice: repeated only if it was refused for its rate, or surely never came to the service.

        :raises Ambiguous: if it may have had an effect. Errors that AWS has answered are raised as they are.
        """
        began = time.monotonic()
        while True:
            try:
                return self._paced(operation, parameters)
            except Exception as error:
                if isinstance(error, (CollectError, Stopped)):
                    raise
                if type(error).__name__ in _PASSING and time.monotonic() - began < self.PATIENCE:
                    self.wait(2.0)
                elif _may_have_had_an_effect(error):
                    raise Ambiguous(error) from error
                else:
                    raise

    def pages(self, operation: str, key: str, **parameters: Any) -> Iterator[list[dict[str, Any]]]:
        """Each page's entries of a listing."""
        while True:
            page = self.read(operation, **parameters)
            yield page.get(key) or []
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]

    def explain(self, operation: str, error: Exception) -> CollectError:
        """An error of a call, in words."""
        return self.place.clients.explain(self.place.region, f"ssm:{operation}", error)

    def wait(self, seconds: float) -> None:
        """:raises Stopped: if the run is stopped meanwhile."""
        if self._stop.wait(seconds):
            raise Stopped

    def unstoppable(self) -> None:
        """From now on, nothing is interrupted: for the last calls of a run that was stopped."""
        self._stop = threading.Event()

    def _paced(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """One call that AWS answers, however long it throttles; credentials are renewed once."""
        pace = self._paces.setdefault(operation, SerialPace())
        deadline, renewed = time.monotonic() + self.THROTTLED, False
        while True:
            pause = pace.pause(time.monotonic())
            if pause:
                self.wait(pause)
            with self._turn:
                client = self.place.clients.client("ssm", self.place.region)
                sent = time.monotonic()
                self.calls += 1
                try:
                    answer: dict[str, Any] = getattr(client, _FIRST_CAP.sub("_", operation).lower())(**parameters)
                except Exception as error:
                    if is_throttling(error) and sent < deadline:
                        self.throttled += 1
                        pace.throttled(sent, time.monotonic(), max(other.gap for other in self._paces.values()))
                    elif is_expired(error) and not renewed:
                        renewed = True
                        self.place.clients.renew(client)
                    else:
                        raise
                else:
                    pace.succeeded(sent)
                    return answer


def _may_have_had_an_effect(error: Exception) -> bool:
    """A fault of the service or of the way back. Errors of ours are none of these."""
    ours = not any(kind.__module__.startswith(("botocore.", "urllib3.")) for kind in type(error).__mro__)
    return not ours and may_be_accepted(error)
