# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be tuned on a data channel; the defaults are those of the peers, or conservative where they have none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Times in seconds, sizes in bytes unless the name says otherwise."""

    max_payload: int = 1024
    """Payload of one message. Agents take more, but what the service takes is not documented."""

    initial_window: int = 192
    """Messages that may be unacknowledged at first, and again after heavy loss. AWS's own client has no bound; a module's code is some 150."""

    max_window: int = 4096
    """Messages that may ever be unacknowledged. At 40 ms one way, 512 give about 6 MB/s."""

    reorder_capacity: int = 10_000
    """Messages kept that arrived before their turn; a further one is not acknowledged, so it comes again."""

    send_buffer: int = 1 << 20
    """Bytes not yet sent from which on ``write`` waits."""

    receive_buffer: int = 4 << 20
    """Bytes not yet consumed from which on the websocket is not read."""

    input_waits: bool = False
    """Whether input waits for the agent's first message, be it output or a handshake: what comes before that is dropped by a
    terminal which does not exist yet, and would be plain where encryption is about to be agreed on. For commands that speak first.
    An agent passes on the first output of a terminal only after a second; see ``DataChannel.program_runs``."""

    terminal_size: tuple[int, int] | None = None
    """Columns and rows of the session's terminal, sent once; None leaves the agent's own."""

    open_timeout: float = 10.0
    """For connecting: proxy, TLS and websocket together."""

    keepalive_interval: float = 25.0
    """Between pings of the websocket."""

    keepalive_timeout: float = 20.0
    """Silence after a ping that means the connection is lost."""

    resume_window: float = 180.0
    """How long a lost connection is tried to be resumed."""

    close_timeout: float = 2.0
    """Bound of each step of an orderly end, but for the call that ends the session."""

    terminate_timeout: float = 6.0
    """Bound of that call. Without it the session lives on until its idle time-out, so a busy controller takes its time."""
