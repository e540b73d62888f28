# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A zip archive taken apart into what is the same in every run and what is not.

ansible-core builds the zip of a module's payload anew in every run. Its members' (compressed) bytes are the same each time, but the
headers between them hold the time of the run, the same for all members. Hence three parts: the *skeleton* (all headers, with that time
set to zero), the members' stored bytes, and the time. The node puts them together again, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

# APPNOTE.TXT of PKWARE, sections 4.3.7, 4.3.12 and 4.3.16.
_LOCAL = struct.Struct("<4s5HLLL2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_TIME = 10
_CENTRAL_TIME = 12
_NO_TIME = bytes(4)


class Parts(NamedTuple):
    skeleton: bytes
    members: tuple[bytes, ...]
    """What is stored for each member, in the order of their local headers."""
    time: bytes
    """Date and time in the format of MS-DOS, four bytes."""


def split(archive: bytes) -> Parts | None:
    """The parts of an archive as Python's ``zipfile`` writes it in one go, or None for any other."""
    end_at = len(archive) - _END.size
    if end_at < 0:
        return None
    signature, *disks, count, total, size, start, comment = _END.unpack_from(archive, end_at)
    if signature != b"PK\5\6" or any(disks) or count != total or not count or comment or start + size != end_at:
        return None
    headers: list[bytes] = []
    directory = bytearray(archive[start:])
    members: list[bytes] = []
    times: set[bytes] = set()
    at, entry_at = 0, start
    try:
        for _member in range(count):
            entry = _CENTRAL.unpack_from(archive, entry_at)
            stored, name_length, offset = entry[8], entry[10], entry[16]
            local = _LOCAL.unpack_from(archive, at)
            # No extra fields, comments, other disks, or sizes that follow the data; and the two headers agree.
            if offset != at or entry[0] != b"PK\1\2" or local[0] != b"PK\3\4" or any(entry[11:14]) or local[10] or local[2] & 8 or entry[2:11] != local[1:10]:
                return None
            body = at + _LOCAL.size + name_length
            directory[entry_at - start + _CENTRAL_TIME : entry_at - start + _CENTRAL_TIME + 4] = _NO_TIME
            times.add(archive[at + _LOCAL_TIME : at + _LOCAL_TIME + 4])
            headers.append(archive[at : at + _LOCAL_TIME] + _NO_TIME + archive[at + _LOCAL_TIME + 4 : body])
            members.append(archive[body : body + stored])
            at = body + stored
            entry_at += _CENTRAL.size + name_length
    except struct.error:
        return None
    if at != start or entry_at != end_at or len(times) != 1:
        return None
    parts = Parts(b"".join(headers) + bytes(directory), tuple(members), times.pop())
    # The node's way back, tried here: whatever the checks above forgot, a wrong archive never leaves the controller.
    return parts if join(parts.skeleton, parts.members, parts.time) == archive else None


def join(skeleton: bytes, members: Sequence[bytes], time: bytes) -> bytes:
    """The archive again (the counterpart for the node is in ``zygote``)."""
    out: list[bytes] = []
    at = 0
    for member in members:
        body = at + _LOCAL.size + _LOCAL.unpack_from(skeleton, at)[9]
        out += (skeleton[at : at + _LOCAL_TIME], time, skeleton[at + _LOCAL_TIME + 4 : body], member)
        at = body
    for _member in members:
        following = at + _CENTRAL.size + _CENTRAL.unpack_from(skeleton, at)[10]
        out += (skeleton[at : at + _CENTRAL_TIME], time, skeleton[at + _CENTRAL_TIME + 4 : following])
        at = following
    return b"".join((*out, skeleton[at:]))
