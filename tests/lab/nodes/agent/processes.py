# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the command of a session: on a new PTY, with pipes, or into a file."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

from .document import SessionOrder
from .users import Account, account_of
from .words import split

_SIGNALLED = -1  #: what the agent reports for a process that a signal ended


def environment(account: Account) -> dict[str, str]:
    """The agent's own, with a terminal type, UTF-8 and a guess at HOME; no USER, no SHELL."""
    given = {**os.environ, "TERM": "xterm-256color"}
    given.setdefault("LANG", "C.UTF-8")
    if not given["LANG"]:
        given["LANG"] = "C.UTF-8"
    if account.home is not None:
        given["HOME"] = account.home
    return given


def start_on_pty(order: SessionOrder, work_dir: str) -> tuple[subprocess.Popen[bytes], int]:
    """`sh`, or `sh -c COMMAND`, as leader of a session with a new PTY; the second value is the PTY's master.

    The master does not block. Raises OSError and DocumentError.
    """
    account = account_of(order)
    master, slave = pty.openpty()
    argv = ["sh", "-c", order.command] if order.command.strip() else ["sh"]
    try:
        process = _popen(argv, account, work_dir, stdin=slave, stdout=slave, stderr=slave, terminal=True)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    os.set_blocking(master, False)
    return process, master


def start_with_pipes(order: SessionOrder, work_dir: str) -> tuple[subprocess.Popen[bytes], int, int]:
    """The command without a shell, stdin empty; the read ends of its stdout and stderr, which do not block."""
    account = account_of(order)
    argv = split(order.command)
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        process = _popen(argv, account, work_dir, stdin=subprocess.DEVNULL, stdout=out_write, stderr=err_write)
    except BaseException:
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        os.close(out_write)
        os.close(err_write)
    os.set_blocking(out_read, False)
    os.set_blocking(err_read, False)
    return process, out_read, err_read


def start_into_file(order: SessionOrder, work_dir: str, path: Path) -> subprocess.Popen[bytes]:
    """The command without a shell, stdin empty, both outputs appended to a file."""
    account = account_of(order)
    argv = split(order.command)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        return _popen(argv, account, work_dir, stdin=subprocess.DEVNULL, stdout=file.fileno(), stderr=file.fileno())


def _popen(
    argv: list[str],
    account: Account,
    work_dir: str,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    terminal: bool = False,
) -> subprocess.Popen[bytes]:
    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=work_dir,
        env=environment(account),
        user=account.uid,
        group=account.gid,
        extra_groups=list(account.groups) if account.uid is not None else None,
        start_new_session=terminal,
        preexec_fn=take_terminal if terminal else None,
    )


def set_size(master: int, columns: int, rows: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit status of an ended process as the agent reports it: -1 for any signal."""
    status = process.wait()
    return status if status >= 0 else _SIGNALLED
