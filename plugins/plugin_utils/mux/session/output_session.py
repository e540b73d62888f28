# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second session of a channel: it brings the runner's output fast. It is left when it fails, and replaced while there is work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...datachannel.client import ChannelError, SessionClient
from ...runner.client import RunnerClient
from ..tasks import Tasks
from .patience import Replacements


class OutputSession:
    """Output goes by the first session wherever this one is missing.

    :param label: how the log names the first session.
    :param read: called with a session that is open, and its number.
    :param changed: called when the runner client has something to say.
    :param is_useful: whether there is work.
    :param on_wanted: called when work would profit from another one.
    """

    def __init__(
        self,
        runner: RunnerClient,
        label: str,
        *,
        read: Callable[[SessionClient, int], None],
        changed: Callable[[], None],
        is_useful: Callable[[], bool],
        on_wanted: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        self.session: SessionClient | None = None
        self.settled = asyncio.Event()
        """Set when its program was heard, or there is none."""
        self._runner = runner
        self._label = label
        self._read = read
        self._changed = changed
        self._is_useful = is_useful
        self._on_wanted = on_wanted
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._replacements = Replacements()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = Tasks()
        self._ended = False

    async def attach(self, session: SessionClient, number: int) -> None:
        """Open one that was started, and use it."""
        try:
            await session.open()
        except ChannelError as error:
            await session.close()
            self._leave(number, str(error))
            return
        except BaseException:
            await session.close()
            raise
        if self._ended:
            await session.close()
            return
        self._log.info("output comes by %s beside %s", session.session_id, self._label)
        self.session = session
        self._read(session, number)

    def lost(self, session: SessionClient, number: int, reason: str) -> None:
        """It has ended, or is slower than none."""
        if session is self.session:
            self.session = None
            self._closing.start(session.close())
            self._leave(number, reason or "the second session ended")

    def failed(self) -> None:
        """It could not be started."""
        self.settled.set()
        self._replacements.lost(self._loop.time())
        self.wanted()

    def wanted(self) -> None:
        """There is work. One that is missing is replaced when that may be done, if there is work then; else the next work asks again."""
        if self._ended or self._timer is not None or not self._is_useful():
            return
        pause = self._replacements.pause(self._loop.time())
        if pause is not None:
            self._timer = self._loop.call_later(pause, self._replace)

    def end(self) -> None:
        """None is wanted any more."""
        self._ended = True
        self.settled.set()
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """End it, and wait until those before it have ended as well."""
        self.end()
        if self.session is not None:
            self._closing.start(self.session.close())
        await self._closing.drain()

    def _leave(self, number: int, reason: str) -> None:
        self._log.info("output comes by %s alone: %s", self._label, reason)
        self._runner.carrier_lost(number)
        self._changed()
        self.failed()

    def _replace(self) -> None:
        self._timer = None
        if not self._ended and self._is_useful():
            self._replacements.begun()
            self._on_wanted()
