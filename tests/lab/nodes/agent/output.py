# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One output stream of a session: through the UTF-8 filter, encrypted if need be, onto the channel."""

from __future__ import annotations

from .datachannel import PAYLOAD, DataChannel
from .encryption import Cipher
from .utf8 import pass_on


class OutputStream:
    """Payloads of one type. What the filter holds back waits for more, and is lost at the end."""

    def __init__(self, channel: DataChannel, cipher: Cipher | None, payload_type: int, prefix: str = "") -> None:
        self._channel, self._cipher, self._type = channel, cipher, payload_type
        self._prefix = prefix.encode()
        self._prefix_due = True
        self._held_back = b""

    def write(self, data: bytes) -> None:
        """Send bytes as the agent reads them: at most 1,024 at once, less the prefix."""
        size = PAYLOAD - len(self._prefix)
        for start in range(0, len(data), size):
            self._send(data[start : start + size])

    def _send(self, chunk: bytes) -> None:
        held_back = self._held_back
        if self._prefix and self._prefix_due:
            held_back += self._prefix
        self._prefix_due = chunk.endswith(b"\n")
        out, self._held_back = pass_on(held_back + chunk)
        if out:
            self._channel.send(self._type, self._cipher.encrypt(out) if self._cipher else out)
