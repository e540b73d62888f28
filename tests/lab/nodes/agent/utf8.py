# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does to output bytes: it passes on characters of UTF-8, not bytes.

Three things follow, and a client must live with them: U+FFFD (EF BF BD) comes out as EF alone, up to three last
bytes that are not (yet) a character are held back until more output comes, and are lost when none does.
Other invalid bytes pass unchanged.
"""

from __future__ import annotations

_REPLACEMENT = b"\xef\xbf\xbd"


def pass_on(data: bytes) -> tuple[bytes, bytes]:
    """What goes out of `data` (bytes held back before, and new ones), and what is held back."""
    if data.isascii():
        return data, b""
    end = _first_held_back(data)
    return data[:end].replace(_REPLACEMENT, b"\xef"), data[end:]


def _first_held_back(data: bytes) -> int:
    """The first of the last three bytes at which a character begins that is invalid, incomplete or U+FFFD; or the end."""
    size = len(data)
    at = _boundary(data, max(0, size - 6))
    while at < size:
        width = _width(data, at)
        if size - at < 4 and (width == 0 or data[at : at + 3] == _REPLACEMENT):
            return at
        at += width or 1
    return size


def _boundary(data: bytes, at: int) -> int:
    """A place at or shortly before `at` where a character begins, whatever the bytes are."""
    for back in range(at, max(-1, at - 4), -1):
        if data[back] & 0xC0 != 0x80:
            return back
    return at  # four continuation bytes in a row: none can still belong to a character that began before


def _width(data: bytes, at: int) -> int:
    """Length in bytes of the valid character at `at`, 0 if there is none."""
    lead = data[at]
    if lead < 0x80:
        return 1
    width = 4 if lead >= 0xF0 else 3 if lead >= 0xE0 else 2
    try:
        data[at : at + width].decode()
    except UnicodeDecodeError:
        return 0
    return width
