# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes waiting to be cut into payloads."""

from __future__ import annotations

from collections import deque


class ByteQueue:
    """Appends in any sizes, takes in the sizes asked for; small writes are joined, large ones not copied first."""

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        if data:
            self._parts.append(memoryview(data))
            self._length += len(data)

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes from the front."""
        parts = self._parts
        if not parts:
            return b""
        front = parts[0]
        if len(front) > size:
            parts[0] = front[size:]
            self._length -= size
            return bytes(front[:size])
        taken = []
        wanted = size
        while parts and wanted:
            front = parts[0]
            if len(front) > wanted:
                taken.append(front[:wanted])
                parts[0] = front[wanted:]
                wanted = 0
            else:
                taken.append(front)
                parts.popleft()
                wanted -= len(front)
        self._length -= size - wanted
        return b"".join(taken)
