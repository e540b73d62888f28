# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialect of posix.sh: lines of words, on the PTY only. Its head describes them.

What differs from the runner in Python: a command starts when its whole stdin has come; output comes when a block is full
or the command ends, and is not held back by missing credit; a command that a process outlives with its stdout open does
not end before that one; no terminal, no extensions.
"""

from __future__ import annotations

import binascii
import re
import shlex
from collections import deque
from collections.abc import Iterator

from .events import Credit, Event, Exited, Failed, GotFile, Pong, PutFile, Ready, Stderr, Stdout
from .link import Backlog
from .requests import Exec, Put, Request

CAPABILITIES = frozenset({"exec", "put", "get", "cancel", "ping"})

#: Bytes of data in one line: sh reads a line byte by byte and holds it several times.
LINE = 4096

_MESSAGES = {
    "ENOENT": "No such file or directory",
    "EISDIR": "Is a directory",
    "EINVAL": "Not a regular file",
    "EACCES": "Permission denied",
    "ENOSPC": "The file could not be written",
    "EBADMSG": "The bytes that arrived have another size or hash",
    "ECANCELED": "cancelled",
    "ENOTSUP": "the node has no Python 3.6 or later: only raw and script work there (and files of theirs)",
}
_PLATFORMS = {"Linux": "linux", "Darwin": "darwin"}

# For printf %b: printable ASCII without blank and backslash as it is, every other byte as \0ooo.
_ENCODED = [chr(byte) if 0x21 <= byte <= 0x7E and byte != 0x5C else f"\\0{byte:03o}" for byte in range(256)]


def encode(data: bytes) -> str:
    return "".join(map(_ENCODED.__getitem__, data))


class ShLink:
    def __init__(self, program: bytes, nonce: str, dead_man: float) -> None:
        """``dead_man`` in seconds; the runner ends after one to two times that without a line."""
        key = nonce[:6]
        self._out: list[bytes] = [program]
        self._backlog = Backlog()
        self._answer = re.compile(rb"~%s([a-z])(?: (\d+))?(?: (.*))?" % key.encode(), re.DOTALL)
        self._sizes: dict[int, deque[int]] = {}  # of the data lines not yet granted
        self._counts: dict[int, list[int]] = {}
        self._puts: dict[int, int] = {}
        self._send(key, max(1, round(dead_man)))

    # To the node

    def _send(self, *words: object) -> None:
        self._out.append(" ".join(map(str, words)).encode() + b"\n")

    def submit(self, request: Request) -> None:
        if isinstance(request, Exec):
            self._counts[request.id] = [0, 0]
            if request.tty:
                self._unsupported(request.id)
            else:
                self._send("x", request.id, encode(_command_line(request)))
        elif isinstance(request, Put):
            self._puts[request.id] = request.size
            mode = "-" if request.mode is None else f"{request.mode & 0o7777:o}"
            self._send("w", request.id, mode, encode(request.path))
        else:
            self._send("g", request.id, encode(request.path))

    def _unsupported(self, id_: int) -> None:
        self._send("unsupported", id_)

    def data(self, id_: int, data: bytes) -> None:
        self._backlog.add(id_, data)

    def eof(self, id_: int, sha256: bytes) -> None:
        self._backlog.end(id_, sha256)

    def tty_input(self, id_: int, data: bytes) -> None:
        pass

    def extension(self, type_: int, id_: int, payload: bytes) -> None:
        self._unsupported(id_)

    def load(self, name: str, source: bytes) -> None:
        pass

    def cancel(self, id_: int) -> None:
        self._backlog.drop(id_)
        self._send("k", id_)

    def credit(self, id_: int, size: int) -> None:
        pass

    def drop(self, id_: int) -> None:
        self._backlog.drop(id_)
        for account in (self._sizes, self._counts, self._puts):
            account.pop(id_, None)

    def use(self, carrier: int) -> None:
        pass

    def offer(self, carrier: int) -> None:
        pass

    def ping(self) -> None:
        self._send("p")

    def shutdown(self) -> None:
        self._send("q")

    def take(self, limit: int) -> bytes:
        size = sum(map(len, self._out))
        while size < limit and self._backlog:
            id_, chunk, end = self._backlog.pop()
            for at in range(0, len(chunk or b""), LINE):
                if chunk is None:
                    raise AssertionError
                piece = chunk[at : at + LINE]
                self._sizes.setdefault(id_, deque()).append(len(piece))
                self._send("d", id_, encode(piece))
                size += len(self._out[-1])
            if end is not None:
                self._send("e", id_, end.hex() or "-", self._puts.get(id_, 0))
        data, self._out = b"".join(self._out), []
        return data

    # From the node

    def receive(self, line: bytes, carrier: int) -> Iterator[Event]:
        match = self._answer.fullmatch(line)
        if match is None:
            return
        letter, id_, rest = match[1].decode(), int(match[2] or 0), match[3] or b""
        if letter in "oe":
            data = _decode(rest)
            self._counts.setdefault(id_, [0, 0])[letter == "e"] += len(data)
            yield (Stdout if letter == "o" else Stderr)(id_, data)
            return
        words = rest.decode("utf-8", "surrogateescape").split(" ")
        match letter:
            case "r":
                pid, platform, user, home = rest.decode("utf-8", "surrogateescape").split(" ", 3)
                yield Ready("sh", "", "", _PLATFORMS.get(platform, platform), user, home, id_, int(pid), CAPABILITIES)
            case "g" if sizes := self._sizes.get(id_):
                yield Credit(id_, sizes.popleft())
            case "x" if id_ in self._counts:
                code = int(words[0] or 255)  # nothing: the shell around the command was killed
                out, err = self._counts[id_]
                yield Exited(id_, code, code - 128 if 128 < code < 160 else None, out, err, False)
            case "w":
                yield PutFile(id_, int(words[0]), _hash(words[1]))
            case "y":
                yield GotFile(id_, int(words[0]), None if words[1] == "-" else int(words[1], 8), _hash(words[2]))
            case "f":
                yield Failed(id_, words[0], _MESSAGES.get(words[0], words[0]))
            case "p":
                yield Pong()


def _command_line(request: Exec) -> bytes:
    by_shell = len(request.argv) == 3 and request.argv[:2] == (b"/bin/sh", b"-c")
    line = request.argv[2] if by_shell else b" ".join(map(_quote, request.argv))
    before = b"".join(b"export %s=%s; " % (name, _quote(value)) for name, value in request.env.items())
    if request.cwd:
        before += b"cd %s || exit; " % _quote(request.cwd)
    return before + line


def _quote(word: bytes) -> bytes:
    return shlex.quote(word.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _decode(text: bytes) -> bytes:
    """A line of base64, or of od's hexadecimal bytes, which begins with a blank and has them in between."""
    return binascii.unhexlify(text.replace(b" ", b"")) if b" " in text else binascii.a2b_base64(text)


def _hash(word: str) -> bytes | None:
    return bytes.fromhex(word) if len(word) == 64 else None
