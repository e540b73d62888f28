# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the running mux, or starting one: the worker's side of its life.

Any number of workers may come at once. They queue at a lock file; the first starts the mux, the others find it running.
A mux that crashed leaves a socket that refuses; one of other code says so and retires; one that hangs is killed. Each is replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from .places import PLUGIN_UTILS, PlaceError, code_digest, make_directories, other_sockets, socket_path
from .protocol import ANY_CODE, VERSION, Decoder, ErrorKind, FrameType, ProtocolError, decode_json, encode_json

GREETING_TIMEOUT = 20.0
"""Seconds in which a mux answers a greeting, or at least does something."""

GREETING_TRIES = 6
"""How often it is given them while it works, or waits for the processor: a busy machine must not cost it its sessions."""

START_TIMEOUT = 30.0

_KEPT_ENVIRONMENT = (
    "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH",
    "PYTHONPYCACHEPREFIX", "TMPDIR", "USER", "VIRTUAL_ENV",
)  # fmt: skip


class StartError(Exception):
    """The mux does not run and could not be started."""


class Hanging(StartError):
    """A mux runs, and accepts, but does not answer."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"the mux (pid {pid}) does not answer within {GREETING_TIMEOUT:.0f} s: end it with the command stop, or let the next task replace it"
        )
        self.pid = pid

    def kill(self) -> bool:
        """End it, if that is what it is; whether it was."""
        if self.pid <= 1:
            return False
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as source:
                command = source.read()
            if os.fsencode(str(PLUGIN_UTILS / "mux")) not in command:
                return False
            os.kill(self.pid, signal.SIGKILL)
        except OSError:
            return False
        return True


class _Stale(Exception):
    """What listens there is not the mux that is wanted."""


def connect(directory: str, *, start: bool = True, any_code: bool = False) -> socket.socket | None:
    """A greeted socket to the mux whose socket is in ``directory``.

    :param start: start a mux if none runs; without it the answer is then `None`.
    :param any_code: a mux of another version of the collection will do: to look at it, or to stop it.
    :raises Hanging: one runs that does not answer, and none is to be started in its place.
    :raises StartError: it cannot be started; the text says why.
    """
    path = socket_path(directory)
    try:
        found = _try_connect(path, any_code=any_code)
    except Hanging:
        if not start:
            raise
        found = None
    if found is not None or not start:
        return found
    try:
        make_directories(path)
    except PlaceError as error:
        raise StartError(str(error)) from error
    with _lock(path + ".lock"):
        for _start in range(2):  # once more if the collection's files changed just when it started
            try:
                found = _try_connect(path)
            except Hanging as hanging:
                hanging.kill()
            if found is not None:
                return found
            _spawn(path)
        found = _try_connect(path)
    if found is None:
        raise StartError("the mux was started but does not answer, or the collection's files are being changed: try again")
    return found


def connect_others(directory: str) -> list[socket.socket]:
    """Greeted sockets to the muxes of this user's other installations."""
    found = (_try_connect(path, any_code=True) for path in other_sockets(directory))
    return [peer for peer in found if peer is not None]


def _try_connect(path: str, *, any_code: bool = False) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.settimeout(GREETING_TIMEOUT)
        peer.connect(path)
        uid = peer_credentials(peer)[1]
        if uid != os.getuid():  # credentials are what it will be sent
            raise StartError(f"what listens at {path} is a process of uid {uid}, not yours ({os.getuid()}): set control_path_dir to a folder of your own")
        greet(peer, ANY_CODE if any_code else code_digest())
    except (FileNotFoundError, ConnectionError, _Stale):
        peer.close()
        return None
    except TimeoutError as error:
        pid = peer_credentials(peer)[0]
        peer.close()
        raise Hanging(pid) from error
    except OSError as error:
        peer.close()
        raise StartError(f"the mux's socket {path} cannot be used: {error}") from error
    except BaseException:
        peer.close()
        raise
    return peer


def greet(peer: socket.socket, digest: str) -> dict[str, Any]:
    """Exchange versions; the fields of the mux's welcome.

    :raises _Stale: it is of other code, about to end, or no mux at all.
    """
    peer.sendall(encode_json(FrameType.HELLO, version=VERSION, digest=digest))
    decoder = Decoder()
    while True:
        data = _receive(peer)
        if not data:
            raise _Stale("closed")
        try:
            for kind, payload in decoder.feed(data):
                fields = decode_json(payload)
                if kind is FrameType.WELCOME:
                    return fields
                if kind is FrameType.ERROR and fields.get("kind") in (ErrorKind.VERSION, ErrorKind.RETIRED):
                    raise _Stale(fields["kind"])
                raise _Stale("unexpected answer")
        except ProtocolError as error:
            raise _Stale(str(error)) from error


def _receive(peer: socket.socket) -> bytes:
    """What it says next.

    :raises TimeoutError: it hangs.
    """
    pid = peer_credentials(peer)[0]
    for _try in range(GREETING_TRIES - 1):
        _waits, before = _processor(pid)
        try:
            return peer.recv(4096)
        except TimeoutError:
            waits, now = _processor(pid)
            if not waits and now == before:
                raise
    return peer.recv(4096)


def _processor(pid: int) -> tuple[bool, list[bytes]]:
    """Whether a process has the processor or waits for it, and for how long it has had it (proc(5): state, utime and stime)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as source:
            fields = source.read().rpartition(b")")[2].split()
    except OSError:
        return False, []
    return fields[0] == b"R", fields[11:13]


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _spawn(path: str) -> None:
    """Start the mux; returns when it listens (its first process ends then, the mux itself is detached)."""
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, str(PLUGIN_UTILS / "mux"), "serve", "--socket", path],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd="/",
            timeout=START_TIMEOUT, start_new_session=True, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"the mux could not be started: {error}") from error
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip()
        raise StartError(f"the mux could not be started (exit status {done.returncode}): {text or 'no message'}")


def peer_credentials(peer: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end; pid 0 where the system does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return pid, uid
    # macOS: LOCAL_PEERCRED (0x001) at level 0 gives struct xucred {u_int version; uid_t uid; short ngroups; …}.
    _version, uid = struct.unpack_from("II", peer.getsockopt(0, 0x001, 76))
    return 0, uid
