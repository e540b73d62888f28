# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all kinds of session have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass

from .config import AgentConfig
from .datachannel import DataChannel
from .document import SessionOrder
from .encryption import Cipher

_START_FAILURE = 2.0  #: seconds that the agent sleeps when a command cannot be started


@dataclass(frozen=True)
class Result:
    """How a session ended, as `agent_task_complete` tells it."""

    status: str
    output: str = ""


class Plugin(ABC):
    """One kind of session."""

    def __init__(
        self,
        config: AgentConfig,
        order: SessionOrder,
        channel: DataChannel,
        cipher: Cipher | None,
        cancelled: asyncio.Event,
    ) -> None:
        self.config, self.order, self.channel, self.cipher, self.cancelled = config, order, channel, cipher, cancelled

    @abstractmethod
    async def run(self) -> Result:
        """From the start of the command to its end, or until `cancelled`."""

    async def until_cancelled(self, work: asyncio.Task[None]) -> bool:
        """Wait for `work`; True, and it is cancelled, if the session was cancelled first."""
        cancel = asyncio.create_task(self.cancelled.wait())
        try:
            await asyncio.wait({work, cancel}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancel.cancel()
        if work.done():
            work.result()
            return False
        work.cancel()
        return True

    async def failed_to_start(self, error: Exception) -> Result:
        """The result when a command cannot be started, after the agent's pause."""
        await asyncio.sleep(_START_FAILURE)
        return Result("Failed", f"Unable to start command: {error}\n")
