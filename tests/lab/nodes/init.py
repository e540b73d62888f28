# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pid 1 of a process node: makes the root, starts the agent, reaps, and does what the supervisor says.

The program reads one JSON line (InitConfig) from stdin, then commands, one JSON object a line; it
writes events to stdout. The end of stdin means that the supervisor is gone: the node goes too. The process that is
started stays outside of the node and waits for pid 1; its exit status is 133 when the node wants to be started again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .agent.config import AgentConfig
from .agent.program import new_context, preload, run_agent
from .kernel import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUTS,
    die_with_parent,
    set_process_name,
    unshare,
)
from .root import RootSpec, enter, prepare
from .user_namespace import become_root

REBOOT = 133  #: exit status that asks for another start, as of systemd-nspawn
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GRACE = 2.0  #: seconds between SIGTERM and SIGKILL in an orderly stop


@dataclass(frozen=True)
class InitConfig:
    """What a node is started with."""

    root: RootSpec
    boot_id: str
    agent: AgentConfig | None = None  #: ours; else
    agent_command: tuple[str, ...] = ()  #: a program of the node
    setup: tuple[str, ...] = ()  #: shell commands that run once in the node's life, before the agent
    environment: tuple[tuple[str, str], ...] = ()
    restart_sec: float | None = None  #: seconds after which a dead agent is started again; None: never

    def to_json(self) -> str:
        root = self.root
        return json.dumps(
            {
                "directory": str(root.directory),
                "name": root.name,
                "python": root.python,
                "hidden": [str(path) for path in root.hidden],
                "binds": [[str(source), target] for source, target in root.binds],
                "boot_id": self.boot_id,
                "agent": self.agent.to_json() if self.agent else None,
                "agent_command": self.agent_command,
                "setup": self.setup,
                "environment": self.environment,
                "restart_sec": self.restart_sec,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> InitConfig:
        given: dict[str, Any] = json.loads(text)
        return cls(
            root=RootSpec(
                Path(given["directory"]),
                given["name"],
                given["python"],
                tuple(Path(path) for path in given["hidden"]),
                tuple((Path(source), target) for source, target in given["binds"]),
            ),
            boot_id=given["boot_id"],
            agent=AgentConfig.from_json(given["agent"]) if given["agent"] else None,
            agent_command=tuple(given["agent_command"]),
            setup=tuple(given["setup"]),
            environment=tuple((name, value) for name, value in given["environment"]),
            restart_sec=given["restart_sec"],
        )


class Init:
    """Pid 1, once it is in its root."""

    def __init__(self, config: InitConfig, context: ssl.SSLContext | None, commands: int, events: int) -> None:
        self._config, self._context = config, context
        self._commands, self._events = commands, events
        self._agent = 0
        self._agent_due: float | None = None  #: when a dead agent is to be started again
        self._wanted = True
        self._unread = b""
        self._ending: int | None = None

    def run(self) -> NoReturn:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._signalled)
        self._start_agent()
        self._tell(event="up")
        while self._ending is None:
            timeout = None if self._agent_due is None else max(0.0, self._agent_due - time.monotonic())
            ready, _unused, _unused = select.select([read, self._commands], [], [], timeout)
            if read in ready:
                os.read(read, 4096)
            if self._commands in ready:
                self._read_commands()
            self._reap()
            if self._agent_due is not None and time.monotonic() >= self._agent_due:
                self._start_agent()
        self._end_all()
        os._exit(self._ending)

    def _signalled(self, number: int, frame: object) -> None:
        if number == signal.SIGINT:
            self._ending = REBOOT
        elif number in (signal.SIGTERM, signal.SIGUSR2):
            self._ending = 0

    def _tell(self, **event: Any) -> None:
        os.write(self._events, json.dumps(event).encode() + b"\n")

    # Commands

    def _read_commands(self) -> None:
        data = os.read(self._commands, 65536)
        if not data:
            self._ending = 0
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line)["do"])

    def _obey(self, command: str) -> None:
        if command == "kill-agent":
            self._wanted = self._config.restart_sec is not None
            self._stop_agent(signal.SIGKILL)
        elif command == "restart-agent":
            self._stop_agent(signal.SIGTERM)
            self._start_agent()
        elif command == "stop":
            self._ending = 0
        elif command == "reboot":
            self._ending = REBOOT
        self._tell(event="done", command=command)

    # Processes

    def _start_agent(self) -> None:
        self._agent_due = None
        self._wanted = True
        pid = os.fork()
        if pid:
            self._agent = pid
            self._tell(event="agent-started")
            return
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            os.closerange(3, 1024)
            if self._config.agent is not None:
                assert self._context is not None
                run_agent(self._config.agent, self._context)
            else:
                os.execvp(self._config.agent_command[0], self._config.agent_command)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _stop_agent(self, number: int) -> None:
        """End the agent's main process, and wait for that; its session workers live on."""
        if self._agent:
            pid, self._agent = self._agent, 0
            os.kill(pid, number)
            os.waitpid(pid, 0)
            self._note_agent_end()

    def _reap(self) -> None:
        while True:
            try:
                pid, _unused = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._agent:
                self._agent = 0
                self._note_agent_end()

    def _note_agent_end(self) -> None:
        self._tell(event="agent-ended")
        if self._wanted and self._config.restart_sec is not None:
            self._agent_due = time.monotonic() + self._config.restart_sec

    def _end_all(self) -> None:
        """SIGTERM to everything, and SIGKILL to what is left."""
        signal.set_wakeup_fd(-1)
        deadline = time.monotonic() + _GRACE
        number: int = signal.SIGTERM
        while True:
            try:
                if number:
                    os.kill(-1, number)
                number = 0 if time.monotonic() < deadline else signal.SIGKILL
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(0.01)
            except (ChildProcessError, ProcessLookupError):
                return


def _restart_clock() -> None:
    """Let the node's uptime begin now, where the kernel has time namespaces."""
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = int(float(file.read().split()[0]))
    unshare(CLONE_NEWTIME)
    with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
        file.write(f"boottime -{uptime} 0")


def _in_node(config: InitConfig, context: ssl.SSLContext | None, commands: int, events: int) -> NoReturn:
    """In the forked process, which is pid 1 of the new namespace."""
    die_with_parent()
    enter(config.root, config.boot_id)
    socket.sethostname(config.root.name)
    set_process_name("init")
    os.environ.clear()
    os.environ["PATH"] = _PATH
    os.environ.update(config.environment)
    done = Path("/var/lib/fleet-lab-setup-done")
    if not done.exists():
        for command in config.setup:
            subprocess.run(["/bin/sh", "-c", command], check=True, stdin=subprocess.DEVNULL)
        done.touch()
    Init(config, context, commands, events).run()


def _read_line(descriptor: int) -> bytes:
    """One line, and not a byte more: what follows is for pid 1."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise EOFError("no configuration")
        line += byte
    return line


def main() -> int:
    """Make the namespaces and wait for pid 1; the answer is its exit status, 255 if it was killed."""
    die_with_parent()
    config = InitConfig.from_json(_read_line(0).decode())
    commands, events = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    if os.geteuid() != 0:
        become_root()
        die_with_parent()  # another user has another parent's wishes
    prepare(config.root)
    context = None
    if config.agent is not None:
        context = new_context(config.agent.ca_path)
        preload()
    try:
        _restart_clock()
    except OSError as error:
        print(f"no time namespace: {error}", file=sys.stderr)
    unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
    pid = os.fork()
    if pid == 0:
        try:
            _in_node(config, context, commands, events)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.write(events, json.dumps({"event": "pid", "pid": pid}).encode() + b"\n")
    os.close(commands)
    os.close(events)
    _unused, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 255


if __name__ == "__main__":
    sys.exit(main())
