# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two command lines that sessions are started with, and the program that follows over the channel.

Both commands stand in the parameter of a session document and in the account's audit trail, so they are plain text: what
they do can be read. They are one line of printable ASCII without ``!`` (history expansion, where the line is typed at an
interactive shell's prompt), ``{{`` (the agent's parameters) and ``$$`` (which the agent makes ``$`` of).
"""

from __future__ import annotations

import math
import shlex
import zlib
from functools import cache
from pathlib import Path

#: Tried in this order after the one that was asked for. macOS and some distributions have only a numbered one.
INTERPRETERS = (
    "/usr/bin/python3",
    "python3",
    "/usr/libexec/platform-python",
    *(f"python3.{minor}" for minor in range(14, 5, -1)),
    "python",
)

_HERE = Path(__file__).parent

# -I: no environment variable, no user or current directory on the path; -S: no site directory. What is imported is the
# interpreter's own, and starting takes half the time. Nothing is read past the program's last byte: frames follow it.
# A child compiles: what a compiler leaves in memory would stay for the whole session (3 MB of 13). If no program comes, it
# ends in time, and leaves nothing: SIGALRM is 14 and SIGHUP 1 everywhere.
_PYTHON = (
    "import os,sys;sys.version_info<(3,6)and sys.exit(1);import atexit,tty,zlib,_signal as s;"
    'atexit.register(os.system,"rm -rf \\"{directory}\\"");s.signal(14,lambda*_:sys.exit(0));s.signal(1,s.getsignal(14));s.alarm({patience});'
    "os.isatty(0)and tty.setraw(0);"
    'r=(chr(10)+"fleet-ssm:{nonce}:ready:python:%d.%d.%d"%sys.version_info[:3]+chr(10)).encode();'
    "os.write(1,r);os.write(3,r);"
    'b=b"";exec("while len(b)<{size}:b+=os.read(0,{size}-len(b))or sys.exit(0)");'
    "import marshal;r,w=os.pipe();"
    'os.fork()or(os.write(w,marshal.dumps(compile(zlib.decompress(b),"fleet.ssm runner","exec"))),os._exit(0));'
    'os.close(w);b=open(r,"rb").read();os.wait();s.alarm(0);exec(marshal.loads(b))'
)

# Descriptor 3 is the first FIFO, open both ways so that opening does not wait, in a directory that only we can have
# made; or /dev/null. A runner that ends well ends the session; any other end means: not this interpreter. The runner is a
# child of the session's shell, which the agent kills: it lives on for as long as cleaning up takes. A subshell, since dash
# would itself keep the descriptor open that it gives to a command.
_SESSION = (
    "f=/dev/null;{fifo}"
    "for p in {interpreters};do "
    'command -v "$p" >/dev/null 2>&1&&(exec "$p" -IS -c \'{python}\' 3<>$f)&&exit;done;'
    "stty raw -echo min 0 time {patience_ds};echo;echo fleet-ssm:{nonce}:ready:sh;"
    'p=$(dd bs=1 count={sh_size} 2>/dev/null);stty min 1 time 0;case $p in *end_all)sh -c "$p" sh {nonce};;*)rm -rf "{directory}";esac;exit'
)

_DIRECTORY = "${{TMPDIR:-/tmp}}/.fleet-ssm-{nonce}"

_FIFO = "d={directory};(umask 077;mkdir $d&&mkfifo $d/1)2>/dev/null&&f=$d/1;"

# The FIFO may come later than its reader, which gives up after a minute at most, or at once if its directory is another user's (and
# not one that comes or goes between two looks).
_CARRIER = (
    "d={directory};f=$d/{number};i=0;"
    "until [ -p $f ];do [ -d $d ]&&[ ! -x $d ]&&[ -d $d ]&&echo fleet-ssm:{nonce}:stranger&&exit 4;"
    "i=$((i+1));[ $i -gt 1500 ]&&exit 3;sleep 0.04||sleep 1;done;exec cat $f"
)


@cache
def program() -> bytes:
    """The runner, as the bootstrap expects it."""
    return zlib.compress((_HERE / "node.py").read_bytes(), 9)


@cache
def shell_program() -> bytes:
    """The runner for a node without Python. Comments and indentation are for readers here: sh reads it byte by byte."""
    lines = (line.strip() for line in (_HERE / "posix.sh").read_text(encoding="ascii").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#")).encode() + b"\n"


def session_command(nonce: str, *, interpreter: str | None = None, fifo: bool = True, patience: float = 180.0) -> str:
    """What the session with the PTY runs: by ``sh -c``, or typed as a line at the prompt of sh, dash, ksh or bash.

    It announces itself by a line ``fleet-ssm:NONCE:ready:python:VERSION`` or ``fleet-ssm:NONCE:ready:sh``, in raw mode,
    and then reads exactly ``program()`` or ``shell_program()``, if that comes within ``patience`` (s).
    """
    directory = _DIRECTORY.format(nonce=nonce)
    candidates = [interpreter, *INTERPRETERS] if interpreter else INTERPRETERS
    return _SESSION.format(
        fifo=_FIFO.format(directory=directory) if fifo else "",
        interpreters=" ".join(shlex.quote(candidate) for candidate in candidates),
        python=_PYTHON.format(nonce=nonce, size=len(program()), directory=directory, patience=math.ceil(patience)),
        nonce=nonce,
        directory=directory,
        patience_ds=min(255, math.ceil(10 * patience)),
        sh_size=len(shell_program()),
    )


def carrier_command(nonce: str, number: int) -> str:
    """What a session of the type NonInteractiveCommands runs, which splits words as a shell does but is none."""
    return f"sh -c {shlex.quote(_CARRIER.format(directory=_DIRECTORY.format(nonce=nonce), nonce=nonce, number=number))}"
