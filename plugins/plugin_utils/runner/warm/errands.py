# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
"""Ansible's small commands around file transfers, without the shells and programs that cost more than what they do. Node side.

Loaded into the runner together with keeper.py. An errand is done only where that leaves exactly what its command would leave;
at the first surprise (an error, an unknown kind of file) the command itself is run, which then meets what it would have met.
"""

if "runner" not in globals():  # else on the node, where this is part of the runner
    from ..node import EXIT, EXTENSION, STDOUT, Exec, os, runner, struct, unpack
    from .keeper import keeper

import pwd

ERRAND = EXTENSION + 1


def run_errand(number, payload):
    (request, what), rest = unpack(payload, 2)
    arguments = []
    while rest:
        (argument,), rest = unpack(rest, 1)
        arguments.append(argument)
    try:
        output = ERRANDS[what](*arguments)
    except OSError:
        keeper.unforeseen.add(number)
        runner.begin(Exec, number, request)
        return
    runner.last = number
    if output:
        runner.out.add(STDOUT, number, output)
    runner.out.add(EXIT, number, struct.pack("!iQQQB", 0, len(output), 0, 0, False))


def home_of(user):
    """echo ~USER"""
    try:
        home = os.fsencode(pwd.getpwnam(os.fsdecode(user)).pw_dir) if user else runner.environment[b"HOME"]
    except KeyError:
        raise OSError("no such user") from None
    if not home.startswith(b"/") or home.endswith(b"/") or b"\\" in home:
        raise OSError("shells differ in what they make of it")
    return home + b"\n"


def make_temporary(base, name):
    """( umask 77 && mkdir -p BASE && mkdir BASE/NAME && echo NAME=BASE/NAME )"""
    if base.startswith(b"~"):
        base = home_of(b"")[:-1] + base[1:]
    path = base + b"/" + name
    umask = os.umask(0o77)
    try:
        os.makedirs(base, 0o777, True)
        os.mkdir(path, 0o777)
    finally:
        os.umask(umask)
    return name + b"=" + path + b"\n"


def change_mode(*paths):
    """chmod u+rwx"""
    for path in paths:
        os.chmod(path, os.stat(path).st_mode & 0o7777 | 0o700)
    return b""


def remove_temporary(path):
    """rm -f -r, of a directory without directories in it"""
    try:
        folder = os.open(path.rstrip(b"/"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        for name in os.listdir(folder):
            os.unlink(name, dir_fd=folder)
        os.rmdir(path.rstrip(b"/"))
    finally:
        os.close(folder)
    return b""


ERRANDS = {b"home": home_of, b"mkdtemp": make_temporary, b"chmod": change_mode, b"remove": remove_temporary}

if runner:
    runner.handlers[ERRAND] = run_errand
