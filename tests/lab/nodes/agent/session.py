# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one session, from its order to its result."""

from __future__ import annotations

import asyncio
import logging

from .config import AgentConfig
from .datachannel import DataChannel
from .document import INTERACTIVE, NON_INTERACTIVE, PORT, STANDARD_STREAM, SessionOrder
from .encryption import Cipher
from .exec_session import MergedExecSession, SeparateExecSession
from .handshake import Handshake
from .plugin import Plugin, Result
from .port_session import PortSession
from .pty_session import PtySession
from .service import Service

_log = logging.getLogger(__name__)


class Session:
    """Runs an order; `cancel` ends it early."""

    def __init__(self, config: AgentConfig, service: Service, order: SessionOrder) -> None:
        self._config, self._service, self._order = config, service, order
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    async def run(self) -> Result:
        """Everything that goes wrong becomes a result that says so."""
        channel = DataChannel(self._service, self._order.session_id)
        channel.on_closed = self.cancel
        try:
            await channel.open()
        except OSError as error:
            return Result("Failed", f"Setting up data channel with id {self._order.session_id} failed: {error}")
        try:
            channel.send_state("Connected")
            return await self._run(channel)
        finally:
            await channel.drained()
            channel.close()

    async def _run(self, channel: DataChannel) -> Result:
        order = self._order
        cipher = None
        if order.session_type in (NON_INTERACTIVE, PORT) or order.kms_key:
            try:
                cipher = await Handshake(self._service, channel, order).perform()
            except Exception as error:  # whatever a client sends; the text reaches it as the session's output
                _log.info("session %s: handshake: %r", order.session_id, error)
                return Result("Failed", f"Encountered error while initiating handshake. {error}")
        if self._cancelled.is_set():
            return Result("Cancelled")
        if order.session_type in (INTERACTIVE, NON_INTERACTIVE) and not order.command.strip():
            return Result("Failed", f"Commands cannot be empty for session type {order.session_type}")
        return await self._plugin(channel, cipher).run()

    def _plugin(self, channel: DataChannel, cipher: Cipher | None) -> Plugin:
        order = self._order
        kind: type[Plugin]
        if order.session_type in (STANDARD_STREAM, INTERACTIVE):
            kind = PtySession
        elif order.session_type == NON_INTERACTIVE:
            kind = SeparateExecSession if order.separate else MergedExecSession
        else:
            kind = PortSession
        return kind(self._config, order, channel, cipher, self._cancelled)
