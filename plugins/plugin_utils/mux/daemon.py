# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becoming the mux: a detached process with nothing inherited, and a socket that appears when it can be used.

Few imports before the socket listens, since a worker waits for that; what serving needs is imported afterwards, while the
first request is already on its way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import socket
import sys

BACKLOG = 1024
LIBRARIES = ("botocore", "websockets")
"""What serving cannot do without. Found here, imported later."""

TLS_BUFFER = 128 << 10
"""Bytes that asyncio sets aside for each TLS connection, two for each node; by itself it takes 256 kB, more than all else of a session here."""


def start(path: str) -> socket.socket:
    """Detach, and listen at ``path``. Returns in the mux; the process that called ends here when the mux listens."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os._exit(_wait_until_ready(reader))
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(reader)
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        os.write(writer, f"{sys.executable} lacks {' and '.join(missing)}: install what the collection's requirements.txt names".encode())
        os._exit(1)
    try:
        os.chdir("/")
        _scrub_environment()
        listener = _listen(path)
        os.umask(0o077)  # what it and its children make is for this user alone
        _close_files(keep=(listener.fileno(), writer))
        _raise_file_limit()
    except OSError as error:
        os.write(writer, f"{path}: {error}".encode())
        os._exit(1)
    os.write(writer, b"ok")
    os.close(writer)
    return listener


def _wait_until_ready(reader: int) -> int:
    said = b""
    while data := os.read(reader, 4096):
        said += data
        if said == b"ok":
            return 0
    os.write(2, said or b"it ended before it listened")
    return 1


def _listen(path: str) -> socket.socket:
    """Listen under another name first, then take the place of whatever was there: nobody sees a socket that refuses."""
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o177)
    listener.bind(new)  # and so with mode 0600
    listener.listen(BACKLOG)
    os.rename(new, path)
    return listener


def _close_files(keep: tuple[int, ...]) -> None:
    """Nothing of the starter stays open: else ``| tee`` and ansible-runner would wait for the mux's end."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, min(highest, 1 << 20) if highest != resource.RLIM_INFINITY else 1 << 20)


def _raise_file_limit() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _scrub_environment() -> None:
    """Credentials and settings come with each request; those of whoever started the mux must not be seen by the SDK."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")


def run(path: str) -> None:
    """Be the mux until its end."""
    listener = start(path)
    from .aws import helper

    helper.prepare()
    import asyncio
    from asyncio.sslproto import SSLProtocol

    SSLProtocol.max_size = TLS_BUFFER

    from .log import make_log
    from .server import Mux

    log = make_log()

    async def main() -> None:
        await Mux(listener, path, log).serve()

    try:
        asyncio.run(main())
    except Exception:
        log.exception("the mux failed")
    # Threads that wait for AWS must not hold the process back.
    sys.stdout.flush()
    os._exit(0)
