# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy: ignore-errors
# ruff: noqa: B905, E402, I001, RUF005, SIM105, UP031
"""The runner's part of the warm interpreters: it starts, uses and ends zygotes, and holds the parts of payloads. Node side.

Loaded into the runner (``RunnerClient.load``), whose names it shares, with the texts of library.py, leaving.py and zygote.py. It adds one kind
of request, WARM: a module payload for an interpreter that is kept. The answers are those of EXEC, and FAILED with

* EAGAIN, EBUSY, ENOTSUP: nothing was started, the same must be run as an ordinary command. Parts that were sent may be forgotten
  (EAGAIN), or this job came at a bad time (EBUSY), also since the errand before it did not go as usual, or no job of its kind can be
  run here (ENOTSUP);
* EOWNERDEAD: the zygote died, and whether and how far the module ran is not known.

The first request for an interpreter starts it with ansible-core's own command. Until the zygote reports, this is an ordinary
command: prompts, a wrong password, a missing interpreter end as they always do. Messages to and from a zygote: see there. Of what
a zygote says nothing is believed but the fate of its own jobs: it may be another user's.
"""

if "runner" not in globals():  # else on the node, where this is part of the runner
    from ..node import CHUNK, EXTENSION, QUIET, STDERR, STDOUT, TERM_TO_KILL, Exec, Job, Refused, Source
    from ..node import close, errno, now, os, reason, runner, sha256, signal, struct, unpack

    ZYGOTE = ""

import _socket

keeper = None  # the one Keeper, on the node

WARM = EXTENSION
MOST_BYTES = 12 << 20  # of parts of payloads held here
# Memory: the runner has about 10 MB, a zygote 15. With tasks of one kind there is one zygote; with plain and become tasks in turn
# there are two, and soon after the last turn one again.
MOST_ZYGOTES = 2
IDLE = 300.0  # s after which a zygote without work is ended
IDLE_BEHIND = 12.0  # s, where another one was used since
AGE = 900.0  # s after which a zygote is replaced: what become allowed once is asked again, as with sudo's own time stamps
UNFIT = 97

HELLO = struct.Struct("!B3B4Q")
JOB = struct.Struct("!cI32sQ2Q")
KILL = struct.Struct("!cIB")
REPORT = struct.Struct("!cII")
ANYWAY, ANEW, NEVER = range(3)

PROGRAM = """__import__('sys').version_info >= (3, 8) and __import__('sys').implementation.name == 'cpython' or __import__('os')._exit(%d)
zygote = dict(__name__='zygote', MAIN=globals(), SUCCESS=%r, AGE=%r)
exec(%r, zygote, dict(PROGRAM=%r, zygote=zygote))
exec(zygote.pop('CODE'), zygote)
"""
# A child compiles, as in the runner.
LOADER = """import marshal, os
reading, writing = os.pipe()
child = os.fork()
if not child:
    try:
        with os.fdopen(writing, "wb") as file:
            file.write(marshal.dumps(compile(PROGRAM, "<zygote>", "exec")))
    finally:
        os._exit(0)
os.close(writing)
with os.fdopen(reading, "rb") as file:
    code = file.read()
os.waitpid(child, 0)
zygote["CODE"] = marshal.loads(code)
"""


class Keeper(Job):
    """All that is kept. Among the runner's jobs (as number 0) in order to be ended with them."""

    def __init__(self, runner):
        Job.__init__(self, runner, 0)
        self.parts, self.size = {}, 0  # by hash
        self.zygotes, self.unfit = {}, {}  # by key; the latter say why
        self.leaving = []  # zygotes of third users that were told to end
        self.unforeseen = set()  # errands that did not go as usual
        runner.jobs[0] = self
        runner.handlers[WARM] = lambda number, payload: runner.begin(Warm, number, payload)
        self.tidy()

    def learn(self, parts):
        for part in parts:
            self.parts[sha256(part).digest()] = part
            self.size += len(part)

    def recipe(self, key):
        """The hashes of all parts of a recipe, its own first; Refused if one is missing."""
        names = [key]
        if key in self.parts:
            hashes = list(fields(self.parts[key]))[-1]
            names += [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
        if any(name not in self.parts for name in names):
            raise Refused("EAGAIN", "parts of the payload are not here")
        return names

    def forget(self):
        """Full: begin anew. Who misses something is told so by the next refusal."""
        self.parts, self.size = {}, 0

    def tidy(self):
        last = max((zygote.used for zygote in self.zygotes.values()), default=0.0)
        for zygote in list(self.zygotes.values()):
            limit = IDLE if zygote.used == last else IDLE_BEHIND
            if not zygote.busy() and zygote.used + limit <= now():
                zygote.close()
        self.runner.at(IDLE_BEHIND / 3, self.tidy)

    def room(self):
        """Make room for one more zygote, or say no."""
        while len(self.zygotes) >= MOST_ZYGOTES:
            idle = [zygote for zygote in self.zygotes.values() if not zygote.busy()]
            if not idle:
                raise Refused("EBUSY", "enough interpreters are kept")
            min(idle, key=lambda zygote: zygote.used).close()

    def third_users(self, key):
        """Before a job of another zygote: end those whose users would have no process without us (and can be removed then). The ones to wait for."""
        for zygote in list(self.zygotes.values()):
            if zygote.third and zygote.key != key and not zygote.busy():
                zygote.close()
        return self.leaving

    def abort(self):
        for zygote in list(self.zygotes.values()):
            for job in list(zygote.jobs.values()):
                job.abort()
            zygote.close()


class Zygote:
    """One warm interpreter: from the request that starts it until its socket is closed."""

    window = 1  # as the owner of sources: always read

    def __init__(self, keeper, key):
        self.keeper, self.runner, self.key = keeper, keeper.runner, key
        self.control = self.slave = None
        self.third = False  # neither root's nor the session's own user's
        self.sent, self.jobs, self.waiting = set(), {}, []
        self.sources = []
        self.used = now()
        keeper.zygotes[key] = self

    def busy(self):
        return not self.control or bool(self.jobs)

    # Its start

    def adopt(self, socket, start):
        """It has reported itself: its command, so far the request's own, is kept from now on, and so is its terminal."""
        self.control = socket
        _pid, user, _group = struct.unpack("3i", socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
        self.third = user not in (0, os.geteuid())
        self.slave, start.slave = start.slave, None
        self.runner.children[start.pid] = self
        self.sources = [Control(self, socket)] + [Drain(self, source) for source in start.sources]
        self.runner.sources += self.sources

    def drop(self):
        """Not for further requests."""
        if self.keeper.zygotes.get(self.key) is self:
            del self.keeper.zygotes[self.key]
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            job.proceed_or_fail()

    def close(self):
        """No more requests; the interpreter ends when it sees this."""
        if self.control:
            for source in self.sources:
                if source in self.runner.sources:
                    self.runner.sources.remove(source)
                if source.fd != self.control.fileno():
                    close(source.fd)
            self.control.close()
            self.control = None
            if self.third:
                self.keeper.leaving.append(self)
                self.runner.at(TERM_TO_KILL, self.left)
        if self.slave is not None:
            close(self.slave)
            self.slave = None
        for job in list(self.jobs.values()):
            job.fail("EOWNERDEAD", "the warm interpreter ended while the module may have been running: its outcome is unknown")
        self.jobs = {}
        self.drop()

    def ended(self, status):
        """The command that started it is over, and so is all under it."""
        self.close()
        self.left()

    def left(self):
        """Nothing of it is there any more, or nobody waits for that any longer."""
        if self in self.keeper.leaving:
            self.keeper.leaving.remove(self)
        self.drop()

    # Its jobs

    def run(self, job):
        names = self.keeper.recipe(job.recipe)
        fresh = [name for name in names if name not in self.sent]
        theirs, mine = [], []
        try:
            data = os.memfd_create("fleet-ssm", os.MFD_CLOEXEC)
            theirs.append(data)
            parts = b"".join(struct.pack("!I", len(part)) + part for part in (self.keeper.parts[name] for name in fresh))
            with os.fdopen(os.dup(data), "wb") as file:
                file.write(job.own + parts)
            for _stream in range(3):
                ours, its = os.pipe()
                mine.append(ours)
                theirs.append(its)
            # Its standard input has been read to the end, as by an interpreter that read its program from it.
            theirs[1], mine[0] = mine[0], theirs[1]
            here = os.stat(job.directory or ".")
            message = JOB.pack(b"J", job.number, job.recipe, len(job.own), here.st_dev, here.st_ino)
            fds = struct.pack("4i", *(theirs[1:] + [data]))
            self.jobs[job.number] = job
            self.control.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        except OSError as error:
            self.jobs.pop(job.number, None)
            for fd in mine[1:]:
                close(fd)
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                self.close()
            raise Refused("EAGAIN", reason(error)[1])
        finally:
            for fd in theirs + mine[:1]:
                close(fd)
        for fd in mine[1:]:
            os.set_blocking(fd, False)
        self.sent.update(fresh)
        self.used = now()
        return [Source(job, mine[1], STDOUT), Source(job, mine[2], STDERR)]

    def kill(self, job, number):
        try:
            self.control.send(KILL.pack(b"K", job.number, number))
        except (OSError, AttributeError):
            pass

    def report(self, message):
        kind, number, value = REPORT.unpack(message)
        job = self.jobs.get(number)
        if job is None:
            return
        if kind == b"S":
            job.pid = value
            return
        del self.jobs[number]
        self.used = now()
        if kind == b"E":
            job.finished(value)
        else:
            if value == NEVER:
                self.keeper.unfit[self.key] = "it cannot run such a module"
            if value != ANYWAY:
                self.drop()
            job.refused(again=value == ANEW)
        if self.keeper.zygotes.get(self.key) is not self and not self.jobs:
            self.close()


class Control:
    """The socket of a zygote, among the runner's sources."""

    def __init__(self, zygote, socket):
        self.job, self.socket, self.fd = zygote, socket, socket.fileno()

    def pull(self):
        try:
            message = self.socket.recv(64)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        if len(message) == REPORT.size:
            self.job.report(message)
        else:
            self.job.close()
        return True


class Drain:
    """What the command above a zygote still writes is nobody's output."""

    def __init__(self, zygote, source):
        self.job, self.fd = zygote, source.fd

    def pull(self):
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.job.sources.remove(self)
            self.job.runner.sources.remove(self)
            close(self.fd)
        return True


class Hello:
    """The keeper's end of the socket that a starting zygote has as its standard input."""

    def __init__(self, job, socket):
        self.job, self.socket, self.fd = job, socket, socket.fileno()

    def end(self):
        """No more input for the interpreter; it can still answer."""
        try:
            self.socket.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        if self in self.job.runner.sources:
            self.job.runner.sources.remove(self)
        self.socket.close()

    def pull(self):
        try:
            message, control, _flags, _address = self.socket.recvmsg(HELLO.size, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            message, control = b"", []
        fds = [fd for _level, _kind, data in control for fd in struct.unpack("%di" % (len(data) // 4), data)]
        self.close()
        if len(message) == HELLO.size and len(fds) == 1:
            self.job.reported(message, fds[0])
        return True  # else the interpreter ends, and with it this request, in its own way


class Warm(Exec):
    """A module payload. Begins as the command that would run it, if that command must first start the interpreter."""

    def __init__(self, runner, number, payload):
        if not hasattr(os, "memfd_create"):
            raise Refused("ENOTSUP", "this system has no memfd_create")
        (request, key, self.own, after), parts = unpack(payload, 4)
        keeper.learn(fields(parts))
        if struct.unpack("!I", after)[0] in keeper.unforeseen:
            raise Refused("EBUSY", "what it builds on may not be there")
        (self.recipe, _time, self.success), _rest = unpack(self.own, 3)
        self.key, self.zygote, self.held, self.again, self.pid, self.complete = key, None, None, True, 0, False
        Exec.__init__(self, runner, number, request)
        if keeper.size > MOST_BYTES:
            keeper.forget()

    def start(self, flags, argv, environment, cwd):
        self.launch, self.directory = (flags, argv, environment, cwd), cwd
        # What else two requests must agree in.
        self.key = (self.key, flags, cwd, tuple(sorted(environment.items())))
        self.proceed()

    def proceed(self):
        keeper.recipe(self.recipe)
        if self.key in keeper.unfit:
            raise Refused("ENOTSUP", "this interpreter cannot be kept: %s" % keeper.unfit[self.key])
        leaving = keeper.third_users(self.key)
        if leaving:
            self.zygote = leaving[0]
            self.zygote.waiting.append(self)
            return
        self.zygote = keeper.zygotes.get(self.key)
        if self.zygote is None:
            keeper.room()
            self.start_zygote()
        elif self.zygote.control:
            self.attach()
        else:
            self.zygote.waiting.append(self)

    def proceed_or_fail(self):
        try:
            if self.cancelled:
                raise Refused("ECANCELED", "cancelled")
            self.proceed()
        except Refused as error:
            self.fail(*error.args)

    def attach(self):
        self.sources = self.zygote.run(self)
        self.runner.sources += self.sources

    # As the command that starts the interpreter

    def start_zygote(self):
        ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            Exec.start(self, *self.launch)
        finally:
            self.theirs.close()
        ours.setblocking(False)
        self.hello = Hello(self, ours)
        self.runner.sources.append(self.hello)
        # Instead of the pipe that was made for it, see become().
        os.dup2(ours.fileno(), self.stdin.fd, False)
        self.stdout = self.sources[0]
        self.zygote = Zygote(keeper, self.key)
        self.held = b""
        if self.complete:
            self.give_program()

    def become(self, fds, argv, environment, cwd):
        """In the child."""
        os.dup2(self.theirs.fileno(), fds[0], False)
        Exec.become(self, fds, argv, environment, cwd)

    def eof(self, payload):
        """Nobody is going to say a password any more."""
        if not self.complete:
            self.complete = True
            self.give_program()

    def give_program(self):
        if self.stdin:
            program = PROGRAM % (UNFIT, self.success.decode(), AGE, LOADER, ZYGOTE)
            self.stdin.queue.append(program.encode())
            Exec.eof(self, b"")

    def end_of(self, stream):
        if stream is self.stdin:
            self.hello.end()
        Exec.end_of(self, stream)

    def output(self, source, data):
        # If this becomes an ordinary command in the end, become's line must not have been seen twice.
        if self.held is not None and source.kind == STDOUT:
            self.held += data
            at = self.held.find(self.success) if self.success else 0
            data, self.held = (self.held, b"") if at < 0 else (self.held[:at], self.held[at:])
            if self.success and at >= 0:
                self.eof(b"")  # the password was right; before that, the program could be taken for the next try
        if data:
            Exec.output(self, source, data)

    def release(self):
        held, self.held = self.held, None
        if held:
            Exec.output(self, self.stdout, held)

    def reported(self, message, fd):
        _version, _major, _minor, _micro, *outputs = HELLO.unpack(message)
        socket = _socket.socket(fileno=fd)
        found = [os.fstat(source.fd) for source in self.sources[:2]]
        if outputs != [value for file in found for value in (file.st_dev, file.st_ino)]:
            # sudo, or whoever, sits between the interpreter and us and logs what passes. It shall go on doing so.
            socket.close()
            keeper.unfit[self.key] = "its output passes through another program"
            return
        socket.setblocking(False)
        for source in self.sources:
            while source.pull() and source in self.sources:
                pass
        self.release()
        for source in self.sources:
            self.runner.sources.remove(source)
        close(self.why)
        self.zygote.adopt(socket, self)
        self.sources, self.sinks, self.terminal, self.group = [], [], None, None
        waiting, self.zygote.waiting = self.zygote.waiting, []
        for job in [self] + waiting:
            job.proceed_or_fail()

    def ended(self, status):
        """The command that was to start the interpreter ended."""
        zygote, self.zygote = self.zygote, None
        self.hello.close()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == UNFIT:
            keeper.unfit[self.key] = (self.held or b"").rpartition(b"\n")[2].decode("utf-8", "replace") or "it is no CPython 3.8 or newer"
        if self.key in keeper.unfit:
            close(self.why)
            self.close_all()
            self.fail("ENOTSUP", "this interpreter cannot be kept: %s" % keeper.unfit[self.key])
        else:
            self.release()
            Exec.ended(self, status)
        zygote.drop()

    # As a module in a child of the zygote

    def running(self):
        return bool(self.zygote and self.zygote.jobs.get(self.number) is self)

    def finished(self, status):
        self.status, self.quiet = status, now() + QUIET
        if self.cancelled:
            self.leave_output()
        self.finish()

    def refused(self, again):
        self.close_all()
        self.zygote = None
        if self.cancelled or (again and self.again):
            self.again = False
            self.proceed_or_fail()
        elif self.key in keeper.unfit:
            self.fail("ENOTSUP", "the warm interpreter cannot run it")
        else:
            self.fail("EBUSY", "the warm interpreter did not take it")

    def cancel(self):
        if self.zygote and self in self.zygote.waiting:
            self.zygote.waiting.remove(self)
            self.fail("ECANCELED", "cancelled")
        elif not self.running():
            Exec.cancel(self)
        elif not self.cancelled:
            self.cancelled = True
            self.zygote.kill(self, signal.SIGTERM)
            self.runner.at(TERM_TO_KILL, self.kill)

    def kill(self):
        if self.group:
            Exec.kill(self)
            return
        if self.zygote:
            self.zygote.kill(self, signal.SIGKILL)  # also after its end: somebody of its group may be left
        self.close_all()
        self.leave_output()
        self.runner.at(1.0, self.give_up)

    def abort(self):
        if self.running():
            self.cancelled = True
            self.zygote.kill(self, signal.SIGTERM)
            self.close_all()
        elif self.group:
            Exec.abort(self)
        if self.zygote:
            self.zygote.jobs.pop(self.number, None)
        self.discard()


def fields(data):
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at)
        at += 4 + size
        yield data[at - size : at]


if runner:
    keeper = Keeper(runner)
