# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
# ruff: noqa: B905, F821, I001, RUF005, SIM105, SIM905, UP031, E402
"""The warm interpreter: forks itself for each module payload, so that the payload finds its imports and its code ready.

Node side. The keeper (in the runner) starts the interpreter with the very command that ansible-core would have it started
with, become included, and gives it a line on standard input that runs this file in a namespace of its own. Whatever such
a start brings about (user, groups, limits, environment, PAM) is hence real, and the children inherit it. What ansible-core
would have sent on standard input runs in a child instead, in the interpreter's untouched ``__main__``.

Standard library only, CPython 3.8 or newer on Linux; exempt from the collection's type hints (it travels to the node).
It must not print, leave a descriptor to a child, or import what a payload might not want imported.

MAIN (globals of ``__main__``), SUCCESS (become's line of this start) and AGE (s) come with the start.
Standard input is one end of a stream socket whose other end the keeper holds; no more than the program comes on it, and
one message goes back: HELLO, with a descriptor of the socket that is used from then on (SOCK_SEQPACKET):

    keeper to zygote   JOB (with descriptors: stdin, stdout, stderr, and a file of the job's data), KILL
    zygote to keeper   STARTED, ENDED, REFUSED

The data file holds the job's own part, which only the child reads (it has the module's arguments), then new blobs.
"""

if __name__ != "zygote":  # else on the node, where library.py and leaving.py came before
    from .leaving import Leaving
    from .library import MOST_SOURCE, Lender, Library, digest, read, unpack

    MAIN, SUCCESS, AGE, PATH = {}, "", 0.0, []

import _imp
import _signal as signal
import _socket
import binascii
import errno
import os
import select
import struct
import sys
import time

UNFIT = 97  # status of an interpreter that cannot be a zygote; the last line of its output says why
HELLO = struct.Struct("!B3B4Q")  # version of this protocol, of Python; device and inode of stdout and of stderr
JOB = struct.Struct("!cI32sQ2Q")  # "J", job, recipe, length of the job's own part, device and inode of its directory
KILL = struct.Struct("!cIB")  # "K", job, signal
REPORT = struct.Struct("!cII")  # "S", job, process; "E", job, wait status; "R", job, and
ANYWAY, ANEW, NEVER = range(3)  # ... whether this zygote takes other jobs, another one might take this job, or none will
# What an interpreter or a session reads only when it starts. If one of these changed, a new start would be another one.
START_FILES = (
    "/etc/localtime /etc/timezone /etc/ld.so.cache /etc/nsswitch.conf /etc/host.conf /etc/resolv.conf /etc/gai.conf /usr/lib/locale"
    " /usr/lib/locale/locale-archive /etc/selinux/config /sys/fs/selinux /etc/ssl/openssl.cnf /etc/pki/tls/openssl.cnf /etc/pki/tls/openssl.d"
    " /etc/crypto-policies/back-ends/opensslcnf.config"
).split()
SESSION_FILES = (
    "/etc/passwd /etc/group /etc/sudoers /etc/sudoers.d /etc/sudo.conf /etc/doas.conf /etc/pam.conf /etc/pam.d /etc/security"
    " /etc/security/limits.d /etc/environment /etc/login.defs /etc/default/locale /etc/default/su"
).split()


class Start:
    """What this start has in common with the one that each job would have had."""

    def __init__(self):
        self.leader = os.getsid(0)
        try:
            terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self.terminal, self.foreground = True, os.tcgetpgrp(terminal) == os.getpgrp()
            os.close(terminal)
        except OSError:
            self.terminal = self.foreground = False
        # Is this process itself the leader of its group, or was a shell (which still waits for it)?
        self.alone = os.getpgrp() == os.getpid()
        try:
            self.tells = os.path.basename(os.readlink("/proc/%d/exe" % os.getppid())) == "dash"
        except OSError:
            self.tells = False
        if not self.terminal and os.getpgrp() != self.leader:
            raise SystemError("a process group that a job's cannot be made like")
        self.files = self.watched()
        self.stamp = self.look()

    def watched(self):
        # The interpreter by the name that it was started with: what counts is where a link leads now.
        files = [sys.executable or "/", os.environ.get("OPENSSL_CONF", "/")] + START_FILES + [entry for entry in PATH if entry]
        site = sys.modules.get("site")
        if site:
            files += site.getsitepackages()
            files += [entry for entry in (site.USER_SITE, site.USER_BASE) if entry]
            files += [os.path.join(os.path.dirname(sys.executable), "pyvenv.cfg"), os.path.join(sys.prefix, "pyvenv.cfg")]
        for name in ("sitecustomize", "usercustomize"):
            files += filter(None, [getattr(sys.modules.get(name), "__file__", None)])
        if SUCCESS:
            files += SESSION_FILES
        for name in list(files):
            try:
                entries = os.listdir(name)
            except OSError:
                continue
            if name in SESSION_FILES:
                files += [os.path.join(name, entry) for entry in entries]
            else:
                files += [os.path.join(name, entry) for entry in entries if entry.endswith(".pth")]
        return sorted(set(files))

    def look(self):
        seen = []
        for name in self.files:
            try:
                found = os.stat(name)
                seen.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size))
            except OSError as error:
                seen.append(error.errno)
        return seen

    def holds(self):
        return self.look() == self.stamp

    @staticmethod
    def here(device, inode):
        """Is the job's directory still ours, and free of files that the wrapper's first imports would take?"""
        try:
            found = os.stat("/proc/self/cwd")  # unlike ".", this needs no permission for the directory
        except OSError:
            return False
        if (found.st_dev, found.st_ino) != (device, inode) or not found.st_nlink:
            return False
        suffixes = ["", ".py", ".pyc"] + _imp.extension_suffixes()
        return not any(os.path.lexists(name + suffix) for name in ("datetime", "resource", "__main__") for suffix in suffixes)

    def lead(self):
        """In the child: the session and group that a start of its own would have, and a process in the place of the shell."""
        if self.terminal:
            os.setpgid(0, 0)
            if self.foreground:
                terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
                old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
                os.tcsetpgrp(terminal, os.getpid())
                signal.pthread_sigmask(signal.SIG_SETMASK, old)
                os.close(terminal)
        else:
            os.setsid()
        if not self.alone:
            pid = os.fork()
            if pid:
                stand_for_shell(pid, self.tells)


def stand_for_shell(pid, tells):
    """Waits as the shell that started the interpreter would, and ends as that one would. Never returns.

    `tells`: it is one that says which signal ended a program, in words that can be foretold (others add their line and a process number).
    """
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.closerange(3, 1024)
        _pid, status = os.waitpid(pid, 0)
        if tells and os.WIFSIGNALED(status) and os.WTERMSIG(status) not in (signal.SIGINT, signal.SIGPIPE):
            dumped = " (core dumped)" if os.WCOREDUMP(status) else ""
            os.write(2, ("%s%s\n" % (signal.strsignal(os.WTERMSIG(status)), dumped)).encode())
        os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
    finally:
        os._exit(127)


class Zygote:
    def __init__(self):
        outputs = [value for fd in (1, 2) for value in (os.fstat(fd).st_dev, os.fstat(fd).st_ino)]
        self.start = Start()
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        parent = _socket.socket(fileno=os.dup(0))
        hello = HELLO.pack(1, *sys.version_info[:3], *outputs)
        parent.sendmsg([hello], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", theirs.fileno()))])
        parent.close()
        theirs.close()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.close(null)
        self.control = ours
        self.wake, self.waker = os.pipe()
        for fd in (self.wake, self.waker):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self.waker)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.leaving = Leaving()
        self.library = Library(self.leaving)
        self.jobs = {}  # process -> job
        self.told = {}  # job -> process, of those whose group was told to end
        self.open = True
        self.oldest = time.monotonic() + AGE

    def serve(self):
        """Returns in each child, with the code it is to run in ``__main__``."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self.wake in ready:
                os.read(self.wake, 4096)
                self.reap()
            if self.control.fileno() in ready:
                code = self.receive()
                if code:
                    return code

    def report(self, kind, job, value):
        try:
            self.control.send(REPORT.pack(kind, job, value))
        except OSError:
            self.end()

    def reap(self):
        while self.jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            job = self.jobs.pop(pid, None)
            if job is not None:
                self.report(b"E", job, status)

    def end(self):
        """The keeper is gone. What it told to end, ends; other jobs outlive it, as commands would."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline and True in [self.kill(pid, 0) for pid in self.told.values()]:
            time.sleep(0.05)
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
        for pid in self.told.values():
            self.kill(pid, signal.SIGKILL)
        os._exit(0)

    def receive(self):
        message, control, _flags, _address = self.control.recvmsg(256, _socket.CMSG_SPACE(4 * 4), _socket.MSG_CMSG_CLOEXEC)
        if not message:
            self.end()
        fds = [fd for _level, _kind, data in control for fd in struct.unpack("%di" % (len(data) // 4), data)]
        try:
            if message[:1] == b"J" and len(fds) == 4:
                return self.job(message, fds)
            if message[:1] == b"K":
                _kind, job, number = KILL.unpack(message)
                self.told.update((job, pid) for pid in self.jobs if self.jobs[pid] == job)
                if job in self.told:
                    self.kill(self.told[job], number)
                if number == signal.SIGKILL:  # the last word, for those whom the first signal did not end
                    self.told.pop(job, None)
        finally:
            for fd in fds:
                os.close(fd)
        return None

    def kill(self, pid, number):
        """A signal to the group that the process leads, or will lead at once. False if there is nobody left."""
        for send, process in ((os.killpg, pid), (os.kill, pid if pid in self.jobs else None)):
            try:
                if process:
                    send(process, number)
                    return True
            except OSError as error:
                if error.errno != errno.ESRCH:
                    return True
        return False

    def job(self, message, fds):
        _kind, number, key, length, device, inode = JOB.unpack(message)
        refusal = pid = None
        try:
            # First of all, since the keeper sends a part once, also with a job that is refused.
            for blob in unpack(read(fds[3], length, os.fstat(fds[3]).st_size)):
                self.library.blobs[digest(blob)] = blob
            if not self.start.holds() or self.oldest <= time.monotonic() or self.library.size > MOST_SOURCE:
                self.open = False
            if self.open and ((self.start.terminal and self.jobs) or not self.start.here(device, inode)):
                refusal = ANYWAY
            elif self.open:
                recipe = self.library.recipe(key)
                if recipe:
                    pid = os.fork()
                else:  # of another ansible-core
                    self.open = False
            if not self.open:
                refusal = ANEW
        except BaseException:  # SystemExit as well: a module_utils that does not like this interpreter
            # Nothing of it was started: it is run cold, and whatever is wrong shows there.
            self.open = False
            refusal = NEVER
        if refusal is not None:
            self.report(b"R", number, refusal)
            return None
        if pid:
            self.jobs[pid] = number
            self.report(b"S", number, pid)
            return None
        return self.child(recipe, length, fds)

    def child(self, recipe, length, fds):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.wake)
        os.close(self.waker)
        self.control.close()
        for fd in range(3):
            os.dup2(fds[fd], fd)
        _key, moment, success, date, params = unpack(read(fds[3], 0, length))
        self.start.lead()
        success = os.fsdecode(success)
        if success and success != SUCCESS:
            os.write(1, success.encode() + b"\n")
            for name, value in os.environ.items():
                if SUCCESS in value:  # SUDO_COMMAND
                    os.environ[name] = value.replace(SUCCESS, success)
        time.tzset()
        if "threading" in sys.modules:  # which forgets this one after a fork
            sys.modules["threading"].main_thread()._set_native_id()
        sys.path[:] = PATH
        archive = binascii.b2a_base64(recipe.archive(self.library.blobs, moment), newline=False)
        sys.meta_path.insert(0, Lender(self.library.closure))
        return recipe.fill({"d": date.decode(), "p": params.decode(), "z": archive.decode()})


def hide_this_file():
    """A traceback of the payload does not begin with the two frames below it."""
    original = sys.excepthook

    def hook(kind, error, trace):
        sys.excepthook = original
        trace = sys.last_traceback = trace.tb_next.tb_next
        error.__traceback__ = trace
        original(kind, error, trace)

    sys.excepthook = hook


if __name__ == "zygote":
    del MAIN["zygote"]  # the name that this start gave to this namespace
    try:
        zygote = Zygote()
    except Exception as error:
        os.write(1, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace"))
        os._exit(UNFIT)
    code = zygote.serve()
    try:
        exec(code, MAIN)
    except SystemExit as end:
        zygote.leaving.ends(end.code)
        raise
    except BaseException:
        hide_this_file()
        raise
