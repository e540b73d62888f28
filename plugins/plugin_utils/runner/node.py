# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
# ruff: noqa: B905, I001, RUF005, SIM105, UP031
"""The runner: what runs on the node, inside the session, and does what the controller's RunnerClient asks.

One file, standard library only, Python 3.6 to 3.14, Linux and macOS. It travels over the channel at every session start
and stays resident, so it imports little: no subprocess, typing, signal (its enums), hashlib (OpenSSL); a fresh process
is about 9 MB. It is exempt from the type hints and syntax of the rest of the collection (no ``from __future__ import
annotations`` before 3.7).

Descriptor 0 brings frames from the client and 1 takes frames to it: a PTY in raw mode, or pipes when a runner runs
under another runner. Output can move at any time to a FIFO that a second session reads ("carriers"). The formats are in
frames.py, on the client's side.

One thread, one select loop, and these promises:

* The input is always read, whatever the output does: the agent waits for it.
* Nothing blocks on output: commands are read only while there is room and credit, one chunk each in turn.
* An output frame is kept until the client acknowledged it, and can be sent again on any carrier.
* A command runs in a session and process group of its own. Cancelling ends the group.
* Without a byte of input for the dead-man time, or when the input ends, commands that are waited for are ended, and so
  is the runner. What made itself a session of its own (async, daemons) is spared.
"""

import errno
import marshal
import os
import select
import struct
import sys
import time
import zlib

import _signal as signal

try:
    from _sha2 import sha256  # 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

# Client to node.
CONFIG, EXEC, DATA, EOF, TTY_INPUT, PUT, GET, CANCEL, CREDIT, ACK, RESEND, FIFO, USE, PING, SHUTDOWN, LOAD = range(16)
# Node to client. Numbers from EXTENSION on, both ways, are for what LOAD brings.
HELLO, STDOUT, STDERR, TTY, GRANT, EXIT, STORED, FILE, FAILED, PONG, FATAL = range(11)
EXTENSION = 0x40
COMPRESSED = 0x80

DOWN = struct.Struct("!IBII")  # length of the payload, type, id, CRC
UP = struct.Struct("!IBI")  # sequence number, type, id

CHUNK = 32768  # most bytes of one output frame, before compression
KEPT = 2 << 20  # most bytes sent and not yet acknowledged
HOLD = 0.002  # s that a little output waits for the exit status, to travel with it
QUIET = 1.0  # s without output after which an ended command's open pipes are given up
LINGER = 5.0  # s that this takes at least while processes of the command's own group live
TERM_TO_KILL = 2.0  # s
HIGHEST_FD = 1000  # select() takes 1,024
ENDING_SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]

now = time.monotonic
runner = None  # for what LOAD brings: there, the Runner


class HangUp(Exception):
    """The channel to the client is gone."""


class Refused(Exception):
    """A request cannot be served: an errno name and a sentence."""


def reason(error, path=None):
    code = errno.errorcode.get(error.errno, "EIO") if error.errno else "EIO"
    text = error.strerror or str(error)
    if path is not None:
        text = "%s: %s" % (text, os.fsdecode(path))
    return code, text


def unpack(payload, count):
    """``count`` fields, each a length in 4 bytes and its bytes; and the rest."""
    fields, at = [], 0
    for _index in range(count):
        (size,) = struct.unpack_from("!I", payload, at)
        at += 4
        fields.append(payload[at : at + size])
        at += size
    return fields, payload[at:]


def close(fd):
    try:
        os.close(fd)
    except OSError:
        pass


def compiled(source, name):
    """The code of a program. A child compiles: what a compiler leaves in memory would stay for the whole session."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with os.fdopen(writing, "wb") as file:
                file.write(marshal.dumps(compile(source, name, "exec")))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        code = file.read()
    os.waitpid(pid, 0)
    return marshal.loads(code)


class Output:
    """Frames to the client: numbered, kept until acknowledged, written without blocking on the carrier in use."""

    def __init__(self):
        self.key = 0
        self.fd = self.terminal = 1
        self.directory = None  # of the FIFOs, ours alone
        self.waiting = {}  # FIFO number -> descriptor that keeps it open until its reader showed itself
        self.kept = {}  # sequence number -> encoded frame
        self.first = self.sent = self.next = 0  # oldest kept, next to write, next to be made
        self.kept_bytes = self.unsent_bytes = 0
        self.partial = b""
        self.fresh = True
        self.due = None  # when a little output is written at the latest

    # Making frames

    def add(self, kind, job, payload=b"", urgent=True):
        body = UP.pack(self.next & 0xFFFFFFFF, kind, job) + payload
        check = b"%08x\n" % (zlib.crc32(body, self.key) & 0xFFFFFFFF)
        # The agent damages EF BF BD, and "\n" ends a frame: neither may occur within one.
        line = body.replace(b"\x10", b"\x10P").replace(b"\n", b"\x10J").replace(b"\xef", b"\x10o") + check
        self.kept[self.next] = line
        self.next += 1
        self.kept_bytes += len(line)
        self.unsent_bytes += len(line)
        if urgent or self.unsent_bytes > 900:
            self.due = 0.0
        elif self.due is None:
            self.due = now() + HOLD

    def add_data(self, kind, job, data, stream):
        """Compress what gets smaller; after a chunk that did not, the stream's next ones are not tried."""
        if len(data) >= 512:
            if stream.incompressible:
                stream.incompressible -= 1
            else:
                compressor = zlib.compressobj(1, zlib.DEFLATED, 13, 6)  # 64 kB of memory, not 256
                small = compressor.compress(data) + compressor.flush()
                # A fast carrier gains less by fewer bytes than compression costs.
                if len(small) < len(data) * (0.9 if self.fd == self.terminal else 0.6):
                    kind, data = kind | COMPRESSED, small
                else:
                    stream.incompressible = 15
        self.add(kind, job, data, urgent=False)

    def room(self):
        ahead = 16384 if self.fd == self.terminal else 262144
        return self.unsent_bytes + len(self.partial) < ahead and self.kept_bytes < KEPT

    # Writing

    def pending(self):
        return bool(self.partial) or self.sent != self.next

    def write(self):
        while self.pending():
            if not self.partial:
                lines, size = [b"\n"] if self.fresh else [], 0
                while self.sent != self.next and size < 65536:
                    line = self.kept[self.sent]
                    lines.append(line)
                    size += len(line)
                    self.sent += 1
                self.unsent_bytes -= size
                self.fresh = False
                self.partial = memoryview(b"".join(lines))
            try:
                self.partial = self.partial[os.write(self.fd, self.partial) :]
            except BlockingIOError:
                return
            except OSError:
                if self.fd == self.terminal:
                    raise HangUp from None
                self.use(0)
            if self.partial:
                return
        self.due = None

    def acknowledge(self, number):
        while self.first < min(number, self.next):
            self.kept_bytes -= len(self.kept.pop(self.first))
            self.first += 1
        if self.sent < self.first:
            self.rewind(self.first)

    def rewind(self, number):
        """Write again from here, at the start of a line: what was under way may have been cut anywhere."""
        self.sent = max(number, self.first)
        self.unsent_bytes = sum(len(self.kept[at]) for at in range(self.sent, self.next))
        self.partial, self.fresh, self.due = b"", True, 0.0

    # Carriers

    def offer(self, nonce, number, fd=None):
        """A FIFO for a reader that may come: our end is open both ways, so that nobody waits and the greeting stays."""
        try:
            if self.directory is None:
                self.directory = os.path.join(os.environ.get("TMPDIR") or "/tmp", ".fleet-ssm-" + nonce)
            if fd is None:
                # Made by us or not used: another user's directory makes this fail.
                if not self.waiting:
                    os.mkdir(self.directory, 0o700)
                os.mkfifo(self.path(number), 0o600)
                fd = os.open(self.path(number), os.O_RDWR | os.O_NONBLOCK)
                os.write(fd, ("\nfleet-ssm:%s:carrier:%d\n" % (nonce, number)).encode())
            self.waiting[number] = fd
        except OSError:
            self.forget()

    def path(self, number):
        return "%s/%d" % (self.directory, number)

    def use(self, number):
        """Send on FIFO ``number``, whose reader is there, or on the terminal (0); from the oldest frame still kept."""
        fd = self.terminal
        if number in self.waiting:
            try:
                # Open for writing only: the reader's end is then seen as an error.
                fd = os.open(self.path(number), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                pass
            self.forget()
        if self.fd != self.terminal:
            close(self.fd)
        self.fd = fd
        self.rewind(self.first)

    def forget(self):
        """Remove the FIFOs nobody was seen to read, and the names: descriptors in use need none."""
        for number in self.waiting:
            close(self.waiting[number])
            try:
                os.unlink(self.path(number))
            except OSError:
                pass
        if self.waiting:
            try:
                os.rmdir(self.directory)
            except OSError:
                pass
        self.waiting = {}


class Source:
    """A descriptor whose bytes go to the client as far as its job has credit."""

    def __init__(self, job, fd, kind):
        self.job, self.fd, self.kind = job, fd, kind
        self.incompressible = 0
        self.count = 0

    def pull(self):
        """True if there was something: bytes or the end."""
        if self.job.window <= 0:  # another stream of the job had the rest: reading nothing would look like the end
            return False
        try:
            data = os.read(self.fd, min(CHUNK, self.job.window))
        except BlockingIOError:
            return False
        except OSError as error:
            self.job.unreadable(self, error)
            return True
        if data:
            self.job.window -= len(data)
            self.count += len(data)
            self.job.output(self, data)
        else:
            self.job.end_of(self)
        return True


class Sink:
    """What the client sent for a descriptor, written as it takes it."""

    def __init__(self, job, fd, written=None):
        self.job, self.fd, self.written = job, fd, written
        self.queue, self.ending = [], False

    def push(self):
        while self.queue and self in self.job.sinks:  # a number may have a new owner by the time it is writable
            data = self.queue[0]
            try:
                size = os.write(self.fd, data)
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more: swallow it, as a pipeline does
                size = len(data)
            if self.written:
                self.written(size)
            if size < len(data):
                self.queue[0] = memoryview(data)[size:]
                return
            del self.queue[0]
        if self.ending and self in self.job.sinks:
            self.job.end_of(self)


class Job:
    """A request under way. Credit both ways is in bytes before compression."""

    sinks = ()
    quiet = None  # when settle() has something to look at
    group = None  # the process group to end with it

    def __init__(self, runner, number):
        self.runner, self.number = runner, number
        self.window = runner.window
        self.taken = 0

    def grant(self, size):
        self.taken += size
        if self.taken >= 131072:
            self.runner.out.add(GRANT, self.number, struct.pack("!I", self.taken), urgent=False)
            self.taken = 0

    def output(self, source, data):
        self.runner.out.add_data(source.kind, self.number, data, source)

    def fail(self, code, text):
        self.discard()
        message = code.encode() + b"\0" + text.encode("utf-8", "surrogateescape")
        self.runner.out.add(FAILED, self.number, message)

    def discard(self):
        """Forget everything about it that lives in this process or on disk."""
        self.runner.jobs.pop(self.number, None)

    def data(self, payload):
        pass

    def terminal_data(self, payload):
        pass

    def eof(self, payload):
        pass

    def unreadable(self, source, error):
        """EIO: the last one left the terminal."""
        self.end_of(source)

    def cancel(self):
        self.fail("ECANCELED", "cancelled")

    def abort(self):
        self.discard()


class Exec(Job):
    """A command. ``flags``: 1 a controlling terminal of its own, 2 the terminal is its stdin as well."""

    def __init__(self, runner, number, payload):
        Job.__init__(self, runner, number)
        flags, arguments, variables = struct.unpack_from("!BHH", payload)
        (cwd,), rest = unpack(payload[5:], 1)
        argv, rest = unpack(rest, arguments)
        pairs, rest = unpack(rest, 2 * variables)
        self.status, self.cancelled = None, False
        self.sources, self.sinks, self.stdin, self.terminal, self.slave = [], [], None, None, None
        self.counts = {STDOUT: 0, STDERR: 0, TTY: 0}
        environment = dict(runner.environment)
        if flags:
            environment[b"TERM"] = b"xterm-256color"
        environment.update(zip(pairs[::2], pairs[1::2]))
        self.start(flags, argv, environment, cwd)

    def start(self, flags, argv, environment, cwd):
        mine, theirs = [], []
        try:
            for read_here in (False, True, True, True):  # stdin, stdout, stderr, and why exec failed
                pair = os.pipe()
                mine.append(pair[0 if read_here else 1])
                theirs.append(pair[1 if read_here else 0])
            if flags:
                master, slave = os.openpty()
                mine.append(master)
                theirs.append(slave)
                self.calm(slave)
                if flags & 2:
                    os.dup2(slave, theirs[0], False)
            if max(mine + theirs) > HIGHEST_FD:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            # A signal to the child waits until it has a group and handlers of its own.
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
            try:
                self.pid = os.fork()
                if not self.pid:
                    self.become(theirs, argv, environment, cwd)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        except OSError as error:
            for fd in mine + theirs:
                close(fd)
            raise Refused(*reason(error)) from None
        if flags:
            # Without any opener the terminal would look ended to us, while the command may open /dev/tty only later.
            self.slave = theirs.pop()
        for fd in theirs:
            close(fd)
        for fd in mine:
            os.set_blocking(fd, False)
        self.why = mine[3]
        self.sources = [Source(self, mine[1], STDOUT), Source(self, mine[2], STDERR)]
        self.stdin = Sink(self, mine[0], self.grant)
        self.sinks = [self.stdin]
        if flags:
            self.sources.append(Source(self, mine[4], TTY))
            self.terminal = Sink(self, mine[4])
            self.sinks.append(self.terminal)
        self.runner.sources += self.sources
        self.runner.children[self.pid] = self
        self.group = self.pid

    @staticmethod
    def calm(slave):
        """No echo of what is typed before a prompt has switched it off, no "\\r" added to what is written."""
        import termios

        modes = termios.tcgetattr(slave)
        modes[1] &= ~termios.OPOST
        modes[3] &= ~(termios.ECHO | termios.ECHONL)
        termios.tcsetattr(slave, termios.TCSANOW, modes)

    def become(self, fds, argv, environment, cwd):
        """In the child: never returns."""
        try:
            os.setsid()
            if len(fds) > 4:
                import fcntl
                import termios

                fcntl.ioctl(fds[4], termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(fds[fd], fd)
            for number in self.runner.ignored_signals + ENDING_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            if cwd:
                os.chdir(cwd)
            os.execvpe(argv[0], argv, environment)
        except OSError as error:
            code, text = reason(error, error.filename or argv[0][:200])
            os.write(fds[3], (code + "\0" + text).encode("utf-8", "surrogateescape"))
        finally:
            os._exit(127)

    # What the client sends

    def data(self, payload):
        if self.stdin:
            self.stdin.queue.append(payload)
            self.stdin.push()
        else:
            self.grant(len(payload))

    def terminal_data(self, payload):
        if self.terminal:
            self.terminal.queue.append(payload)
            self.terminal.push()

    def eof(self, payload):
        if self.stdin:
            self.stdin.ending = True
            self.stdin.push()

    def cancel(self):
        if self.cancelled:
            return
        self.cancelled = True
        if self.stdin:
            self.end_of(self.stdin)
        self.runner.end_group(self.pid, signal.SIGTERM)
        self.runner.at(TERM_TO_KILL, self.kill)
        self.leave_output()

    def leave_output(self):
        """Cancelled: what an ended command left in its pipes is waited for by nobody, who might grant no credit either."""
        if self.status is not None:
            self.close_all()
            self.finish()

    def kill(self):
        self.runner.kill_group(self.pid)
        # Closed pipes and a lost terminal (SIGHUP) reach even those whom we may not signal.
        self.close_all()
        self.leave_output()
        if self.status is None:
            self.runner.at(1.0, self.give_up)

    def give_up(self):
        if self.status is None and self.number in self.runner.jobs:
            self.fail("EPERM", "the command belongs to another user and could not be ended (process %d)" % self.pid)

    def abort(self):
        self.cancelled = True
        self.runner.end_group(self.pid, signal.SIGTERM)
        self.close_all()

    # What the command does

    def output(self, source, data):
        self.counts[source.kind] += len(data)
        if self.status is not None:
            self.quiet = now() + QUIET
        Job.output(self, source, data)

    def end_of(self, stream):
        if stream in self.sources:
            self.sources.remove(stream)
            self.runner.sources.remove(stream)
            if self.terminal and stream.fd == self.terminal.fd:
                self.sinks.remove(self.terminal)
                self.terminal = None
            close(stream.fd)
            self.finish()
        elif stream is self.stdin:
            self.sinks.remove(stream)
            self.stdin = None
            close(stream.fd)

    def ended(self, status):
        self.status = status
        self.quiet = now() + QUIET
        self.lingering = now() + LINGER
        failure = os.read(self.why, 4096)
        close(self.why)
        self.close_slave()
        if failure:
            self.close_all()
            code, text = failure.split(b"\0", 1)
            self.fail(code.decode(), text.decode("utf-8", "surrogateescape"))
            return
        if self.stdin:
            self.end_of(self.stdin)
        if self.cancelled:
            self.runner.end_group(self.pid, signal.SIGTERM)  # those whom the first signal did not reach
            self.close_all()
        self.finish()

    def settle(self):
        """Ended, and silent for a while with pipes open in somebody's hands: nothing of the command itself can be left."""
        if self.quiet is None or now() < self.quiet:
            return
        if self.window <= 0 or not self.runner.out.room() or (now() < self.lingering and self.has_group()):
            self.quiet = now() + QUIET  # silent only since nobody listens, or a part of the command is still at it
            return
        silent = True
        for source in list(self.sources):
            silent = not source.pull() and silent
        if silent:
            self.close_all()
            self.finish(left_open=True)

    def has_group(self):
        """Whether anything is left of the command beside what made itself independent: a tee of its output, say, or a job in the background."""
        try:
            os.killpg(self.pid, 0)
        except OSError as error:
            return error.errno == errno.EPERM
        return True

    def finish(self, left_open=False):
        if self.status is None or self.sources or self.number not in self.runner.jobs:
            return
        code = -os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else os.WEXITSTATUS(self.status)
        counts = (self.counts[STDOUT], self.counts[STDERR], self.counts[TTY])
        self.discard()
        self.runner.out.add(EXIT, self.number, struct.pack("!iQQQB", code, *(counts + (left_open,))))

    def close_slave(self):
        if self.slave is not None:
            close(self.slave)
            self.slave = None

    def close_all(self):
        self.close_slave()
        for fd in {stream.fd for stream in self.sources + self.sinks}:
            close(fd)
        for source in self.sources:
            self.runner.sources.remove(source)
        self.sources, self.sinks, self.stdin, self.terminal = [], [], None, None

    def discard(self):
        self.close_all()
        Job.discard(self)


class Put(Job):
    """A file from the client: whole and right under its name, or not there at all."""

    def __init__(self, runner, number, payload):
        Job.__init__(self, runner, number)
        self.mode, self.size = struct.unpack_from("!IQ", payload)
        self.path = path = payload[12:]
        self.hash, self.count = sha256(), 0
        try:
            self.path = path = os.path.realpath(path) if os.path.islink(path) else path
            self.old = os.stat(path) if os.path.exists(path) else None
            if os.path.isdir(path):
                raise Refused("EISDIR", "Is a directory: " + os.fsdecode(path))
            if self.old and not os.path.isfile(path):
                raise Refused("EINVAL", "Not a regular file: " + os.fsdecode(path))
            parent = os.path.dirname(path)
            if parent and not os.path.isdir(parent):
                raise Refused("ENOENT", "No such directory: " + os.fsdecode(parent))
            self.temporary = os.path.join(parent, (".fleet-ssm-%s-%d" % (runner.nonce, number)).encode())
            self.fd = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise Refused(*(reason(error, path) if isinstance(error, OSError) else ("EINVAL", str(error)))) from None

    def data(self, payload):
        try:
            rest = memoryview(payload)
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError as error:
            self.fail(*reason(error, self.path))
            return
        self.hash.update(payload)
        self.count += len(payload)
        self.grant(len(payload))

    def eof(self, payload):
        digest = self.hash.digest()
        if self.count != self.size or digest != payload:
            self.fail("EBADMSG", "%d of %d bytes arrived, or with another hash: %s" % (self.count, self.size, os.fsdecode(self.path)))
            return
        try:
            if self.old and os.geteuid() == 0:
                os.fchown(self.fd, self.old.st_uid, self.old.st_gid)
            mode = self.mode
            if mode == 0xFFFFFFFF:
                mode = self.old.st_mode & 0o7777 if self.old else 0o666 & ~self.runner.umask
            os.fchmod(self.fd, mode)
            os.rename(self.temporary, self.path)
        except OSError as error:
            self.fail(*reason(error, self.path))
            return
        self.temporary = None
        self.discard()
        self.runner.out.add(STORED, self.number, struct.pack("!Q", self.count) + digest)

    def discard(self):
        close(self.fd)
        if self.temporary:
            try:
                os.unlink(self.temporary)
            except OSError:
                pass
        Job.discard(self)


class Get(Job):
    """A regular file to the client, its hash and mode after it."""

    def __init__(self, runner, number, payload):
        Job.__init__(self, runner, number)
        self.path, self.hash = payload, sha256()
        try:
            fd = os.open(payload, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            self.source = Source(self, fd, STDOUT)
            self.mode = os.fstat(fd).st_mode
        except (OSError, ValueError) as error:
            raise Refused(*(reason(error, payload) if isinstance(error, OSError) else ("EINVAL", str(error)))) from None
        if self.mode & 0o170000 != 0o100000:
            close(fd)
            code, text = ("EISDIR", "Is a directory: ") if self.mode & 0o170000 == 0o040000 else ("EINVAL", "Not a regular file: ")
            raise Refused(code, text + os.fsdecode(payload))
        runner.sources.append(self.source)

    def output(self, source, data):
        self.hash.update(data)
        Job.output(self, source, data)

    def unreadable(self, source, error):
        self.fail(*reason(error, self.path))

    def end_of(self, source):
        self.discard()
        self.runner.out.add(FILE, self.number, struct.pack("!QI", source.count, self.mode & 0o7777) + self.hash.digest())

    def discard(self):
        close(self.source.fd)
        self.runner.sources.remove(self.source)
        Job.discard(self)


class Runner:
    """The loop, and what each frame does. LOAD brings further handlers: ``runner.handlers[number] = f(job, payload)``."""

    def __init__(self):
        self.out = Output()
        self.jobs, self.children, self.sources, self.timers = {}, {}, [], []
        self.input, self.frames, self.heard = bytearray(), 0, now()
        self.nonce, self.dead_man, self.window, self.last = "", 180.0, KEPT, 0
        self.ending = False
        self.umask = os.umask(0o022)
        os.umask(self.umask)
        self.handlers = {
            CONFIG: self.configure,
            EXEC: lambda number, payload: self.begin(Exec, number, payload),
            PUT: lambda number, payload: self.begin(Put, number, payload),
            GET: lambda number, payload: self.begin(Get, number, payload),
            DATA: self.to_job(lambda job, payload: job.data(payload)),
            TTY_INPUT: self.to_job(lambda job, payload: job.terminal_data(payload)),
            EOF: self.to_job(lambda job, payload: job.eof(payload)),
            CANCEL: self.to_job(lambda job, payload: job.cancel()),
            CREDIT: self.to_job(self.credit),
            ACK: lambda number, payload: self.out.acknowledge(self.absolute(number)),
            RESEND: self.resend,
            FIFO: lambda number, payload: self.out.offer(self.nonce, number),
            USE: lambda number, payload: self.out.use(number),
            PING: self.ping,
            SHUTDOWN: self.shutdown,
            LOAD: self.load,
        }

    # Frames

    def configure(self, _number, payload):
        self.out.key, dead_man, self.window, fifo = struct.unpack_from("!IIIB", payload)
        self.dead_man = dead_man / 1000.0
        self.nonce = payload[13:].decode()
        if fifo:
            self.out.offer(self.nonce, 1, 3)
        else:
            close(3)
        self.out.add(HELLO, 0, b"\0".join(self.introduce()))

    def introduce(self):
        version = "%d.%d.%d" % sys.version_info[:3]
        values = (version, sys.executable or "", sys.platform, str(os.getpid()), str(os.geteuid()), self.user, self.home)
        return [os.fsencode(value) for value in values]

    def begin(self, kind, number, payload):
        if number <= self.last:
            raise ValueError("request %d came twice" % number)
        self.last = number
        try:
            self.jobs[number] = kind(self, number, payload)
        except Refused as error:
            code, text = error.args
            self.out.add(FAILED, number, code.encode() + b"\0" + text.encode("utf-8", "surrogateescape"))

    def to_job(self, action):
        def handler(number, payload):
            job = self.jobs.get(number)
            if job:  # else it has ended by itself in the meantime
                action(job, payload)

        return handler

    @staticmethod
    def credit(job, payload):
        job.window += struct.unpack("!I", payload)[0]

    def absolute(self, number):
        """A sequence number from its low 32 bits: the one nearest to the oldest frame kept."""
        return self.out.first + ((number - self.out.first + 0x80000000) & 0xFFFFFFFF) - 0x80000000

    def resend(self, number, _payload):
        self.out.acknowledge(self.absolute(number))
        self.out.rewind(self.out.first)

    def ping(self, number, payload):
        self.out.acknowledge(self.absolute(number))
        self.out.add(PONG, 0, payload)

    def shutdown(self, _number, _payload):
        self.ending = True

    def load(self, _number, payload):
        name, source = payload.split(b"\0", 1)
        exec(compiled(source, name.decode()), dict(globals(), runner=self))

    def receive(self):
        for _turn in range(16):  # a PTY gives 4 KiB a read
            try:
                data = os.read(0, 65536)
            except BlockingIOError:
                break
            except OSError:
                raise HangUp from None
            if not data:
                raise HangUp
            self.heard = now()
            self.input += data
        self.parse()

    def parse(self):
        while len(self.input) >= DOWN.size:
            size, kind, number, check = DOWN.unpack_from(self.input)
            end = DOWN.size + size
            if size > 1 << 24:
                raise ValueError("the input is out of step")
            if len(self.input) < end:
                return
            payload = bytes(self.input[DOWN.size : end])
            # Seeded with the frame's number, so that a lost or doubled frame is seen as well.
            if zlib.crc32(payload, zlib.crc32(self.input[:9], self.frames)) & 0xFFFFFFFF != check:
                raise ValueError("frame %d is damaged" % self.frames)
            del self.input[:end]
            self.frames = (self.frames + 1) & 0xFFFFFFFF
            if kind & COMPRESSED:
                payload = zlib.decompress(payload)
            self.handlers[kind & ~COMPRESSED](number, payload)

    # Processes

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            job = self.children.pop(pid, None)
            if job:
                job.ended(status)

    def end_group(self, group, number):
        try:
            os.killpg(group, number)
            os.killpg(group, signal.SIGCONT)
        except ProcessLookupError:
            if group in self.children:  # it has no group yet
                os.kill(group, number)
        except PermissionError:
            self.end_as_root(group, number)

    def kill_group(self, group):
        self.end_group(group, signal.SIGKILL)
        self.at(0.2, lambda: self.kill_rest(group))

    def kill_rest(self, group):
        """What is still there: sudo can be killed by its caller, but not what it had started."""
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        self.end_as_root(group, signal.SIGKILL)

    def end_as_root(self, group, number):
        """sudo made the command another user's. Where sudo asks nothing (ssm-user), it also ends what it started."""
        if os.geteuid() and not os.fork():
            try:
                os.setsid()
                null = os.open(os.devnull, os.O_RDWR)
                for fd in range(3):
                    os.dup2(null, fd)
                os.execvpe("/bin/sh", ["sh", "-c", "exec sudo -n kill -s %d -- -%d" % (number, group)], self.environment)
            finally:
                os._exit(127)

    def at(self, delay, action):
        self.timers.append((now() + delay, action))

    # The loop

    def prepare(self):
        import pwd

        try:
            entry = pwd.getpwuid(os.geteuid())
            self.user, self.home, shell = entry.pw_name, entry.pw_dir, entry.pw_shell
        except KeyError:
            self.user, self.home, shell = str(os.geteuid()), os.environ.get("HOME", "/"), "/bin/sh"
        try:
            os.chdir(self.home)
        except OSError:
            os.chdir("/")
        self.environment = dict(os.environb)
        for name in (b"TERM", b"SHLVL", b"PWD", b"OLDPWD", b"_", b"LINES", b"COLUMNS"):
            self.environment.pop(name, None)
        account = {"HOME": self.home, "USER": self.user, "LOGNAME": self.user, "SHELL": shell or "/bin/sh"}
        self.environment.update((os.fsencode(name), os.fsencode(value)) for name, value in account.items())
        self.environment.setdefault(b"PATH", b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        # A command starts with every signal at its default, whatever the agent or Python ignores.
        self.ignored_signals = [number for number in range(1, signal.NSIG) if signal.getsignal(number) == signal.SIG_IGN]
        try:
            os.set_inheritable(3, False)  # the first FIFO, or /dev/null
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        os.closerange(4, HIGHEST_FD)  # what the agent left open is not for commands
        self.wake, writer = os.pipe()
        for fd in (0, 1, self.wake, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # a real one comes with the end of the input
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: self.shutdown(0, b""))
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def turn(self):
        out, time_now = self.out, now()
        deadlines = [self.heard + self.dead_man] + [when for when, _action in self.timers]
        deadlines += [job.quiet for job in self.jobs.values() if job.quiet]
        writers = {}
        if out.pending():
            if out.partial or out.due is None or out.due <= time_now:
                writers[out.fd] = out.write
            else:
                deadlines.append(out.due)
        readers = {source.fd: source for source in self.sources if source.job.window > 0} if out.room() else {}
        for job in self.jobs.values():
            for sink in job.sinks:
                if sink.queue:
                    writers[sink.fd] = sink.push
        timeout = max(0.0, min(deadlines) - time_now)
        readable, writable, _unused = select.select([0, self.wake] + list(readers), list(writers), [], timeout)
        if self.wake in readable:
            os.read(self.wake, 4096)
        if 0 in readable:
            self.receive()
        for fd in writable:
            if fd != out.fd:
                writers[fd]()
        for fd in readable:
            source = readers.get(fd)
            if source and source in self.sources and out.room():
                source.pull()
                if source in self.sources:  # to the end of the line: next time the others are first
                    self.sources.remove(source)
                    self.sources.append(source)
        if self.wake in readable:
            self.reap()
        for job in list(self.jobs.values()):
            if job.quiet:
                job.settle()
        for timer in [timer for timer in self.timers if timer[0] <= now()]:
            self.timers.remove(timer)
            timer[1]()
        if out.pending() and (out.due is not None and out.due <= now()):
            out.write()
        if self.heard + self.dead_man <= now():
            self.ending = True

    def run(self):
        self.prepare()
        try:
            while not self.ending:
                self.turn()
        except HangUp:
            pass
        except Exception:
            import traceback

            self.out.add(FATAL, 0, traceback.format_exc()[-2000:].encode("utf-8", "replace"))
            try:
                self.out.write()
            except HangUp:
                pass
        finally:
            self.end()

    def end(self):
        """End the commands that are waited for, politely first, and leave nothing behind."""
        groups = [job.group for job in self.jobs.values() if job.group]
        for job in list(self.jobs.values()):
            job.abort()
        self.out.forget()
        deadline = now() + TERM_TO_KILL
        while self.children and now() < deadline:
            select.select([self.wake], [], [], deadline - now())
            try:
                os.read(self.wake, 4096)
            except BlockingIOError:
                pass
            self.reap()
        for group in groups:
            self.end_group(group, signal.SIGKILL)
        if groups:
            time.sleep(0.1)
            for group in groups:
                self.kill_rest(group)


if __name__ == "__main__":
    globals().pop("b", None)  # the bootstrap's copy of this program
    Runner().run()
    os._exit(0)
