# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of byte strings as one byte string: each one after its length (four bytes, big-endian)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_LENGTH = struct.Struct("!I")


def pack(fields: Iterable[bytes]) -> bytes:
    return b"".join(part for field in fields for part in (_LENGTH.pack(len(field)), field))


def unpack(data: bytes) -> Iterator[bytes]:
    """The fields of what ``pack`` made; ValueError where it is cut short."""
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ValueError("a field's length is cut short")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            raise ValueError("a field is cut short")
        yield data[at : at + length]
        at += length
