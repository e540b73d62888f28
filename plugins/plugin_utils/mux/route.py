# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every route to a node does: the small interface behind which the connection plugin does not know which one it uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .request import ConnectionOptions
from .work import Work


class Route(Protocol):
    """One node by one identity."""

    needs_tty: bool
    """Whether sudo on the node was found to demand a terminal; workers are told, so that one attempt is enough."""

    async def open(self, options: ConnectionOptions, reason: str) -> Mapping[str, Any]:
        """Be ready for work; what is known of the node. :raises RequestError: it cannot be reached."""

    def submit(self, work: Work, options: ConnectionOptions) -> None:
        """Carry out a work; its sink hears the rest."""

    def reset(self) -> bool:
        """Find the node anew for the next work; whether there was something to forget."""

    async def close(self) -> None:
        """End everything."""

    @property
    def node_id(self) -> str:
        """Once it is known."""

    @property
    def is_open(self) -> bool:
        """Whether something is held open."""

    @property
    def is_opening(self) -> bool:
        """Whether something is being opened."""

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""

    @property
    def idle_since(self) -> float | None:
        """When it was last used (monotonic); `None` while it is in use."""

    def close_if_idle(self, now: float) -> None:
        """Called each second."""

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it."""

    def status(self) -> dict[str, Any]:
        """Figures for people."""
